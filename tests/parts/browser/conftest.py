"""One JupyterLab and one Chromium for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.parts.browser import lab as parts


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[parts.Lab]:
    """A running JupyterLab with a page."""
    missing = parts.missing()
    if missing:
        absent("browser", missing)
    folder = tmp_path_factory.mktemp("lab")
    home = tmp_path_factory.mktemp("lab-home")
    profile = tmp_path_factory.mktemp("lab-profile")
    with parts.lab_server(folder, home) as address, parts.chromium(profile) as page:
        yield parts.Lab(folder, address, page)


@pytest.fixture
def pictures() -> Path | None:
    """Where to leave pictures of what was seen: the folder that ``KAPTAIN_TEST_PICTURES`` names."""
    import os

    named = os.environ.get("KAPTAIN_TEST_PICTURES")
    return Path(named) if named else None
