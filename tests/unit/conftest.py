"""Unit tests start no process and last seconds at most: both are held here.

A test that needs a fresh interpreter (what is imported? does a lock hold between processes?) is marked ``interpreter``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_allowed = [True]


def _refuse_processes(event: str, args: tuple[object, ...]) -> None:
    if event in STARTS and not _allowed[0]:
        pytest.fail(f"a unit test starts a process ({event}): mark it 'interpreter', or move it to tests/local")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    _allowed[0] = request.node.get_closest_marker("interpreter") is not None
    yield
    _allowed[0] = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/unit/" in item.path.as_posix() and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))
