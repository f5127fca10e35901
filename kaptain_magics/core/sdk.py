"""Where the package ``kaptain`` stands, and a refusal where something else has taken its place.

An unrelated distribution on the package index brings a package of the same name. Whichever is installed second writes
over the first one's files, and removing it takes ours away; so both are refused beside each other, in either order.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from kaptain_magics.errors import InstallationError

_OTHER = r"(?i)kaptain-(\d[^-]*?)(?:-py[\d.]+)?\.(?:dist|egg)-info"
_AGAIN = "install kaptain-magics again with pip install --force-reinstall --no-deps"


def sdk_folder() -> Path:
    """Return the folder of the package ``kaptain`` that came with this one: in a checkout, or beside it in a wheel."""
    ours = Path(__file__).absolute().parents[1]
    inside = ours / "sdk" / "kaptain"
    return inside if inside.is_dir() else ours.parent / "kaptain"


def check_sdk() -> None:
    """Refuse to go on where ``import kaptain`` does not find the SDK, or soon will not. Imports nothing.

    Raises:
        InstallationError: Another distribution, file or folder of that name is in the way, or the SDK is damaged.
    """
    ours = sdk_folder()
    spec = importlib.util.find_spec("kaptain")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    for folder in {ours.parent, (origin or ours / "__init__.py").parents[1]}:
        version = _other_distribution(folder)
        if version:
            raise InstallationError(
                f"the unrelated distribution kaptain {version} in {folder} takes the place of kaptain-magics' SDK",
                f"pip uninstall kaptain, then {_AGAIN}",
            )
    if not (ours / "__init__.py").is_file():
        raise InstallationError(f"the SDK in {ours} is incomplete, as after pip uninstall kaptain", _AGAIN)
    if origin is not None and not origin.parent.samefile(ours):
        raise InstallationError(f"`import kaptain` finds {origin}, not the SDK in {ours}", "rename or move that file")


def _other_distribution(folder: Path) -> str:
    """Return the version of the distribution ``kaptain`` that is installed in a folder; empty when there is none.

    This reads names only: importing ``importlib.metadata`` costs twice as much as all of ``%load_ext``.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    names = [name for name in names if name[:8].lower() == "kaptain-"]  # mostly none, which spares the expression
    return next((match[1] for name in names if (match := re.fullmatch(_OTHER, name))), "")
