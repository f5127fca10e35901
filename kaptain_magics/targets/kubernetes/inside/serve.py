"""Entry of a server's containers: ``serve.py fetch`` brings the model, ``serve.py`` serves it.

Beside this file lie ``start.py``, ``lib.tar.gz`` (the server), ``options.json`` and ``requirements.txt``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import start  # type: ignore[import-not-found]  # lies beside this file in the pod

LIBRARIES = ("numpy", "msgspec", "orjson", "httptools")  # what the server itself imports
ACCELERATOR = "uvloop"  # it has no wheel for every platform: the server does without it


def main(arguments: list[str]) -> int:
    """Fetch, or become the server; returns the exit code."""
    return fetch(os.environ["KAPTAIN_ARTIFACT"]) if arguments == ["fetch"] else serve()


def fetch(uri: str) -> int:
    """Install what the image lacks, and bring the model's folder."""
    if not prepare(["fetch"], ("minio",) if uri.startswith("s3://") else ()):
        return 1
    from kaptain_magics.runtime.transfer import connect, download

    folder = Path(json.loads((start.HERE / "options.json").read_text("utf-8"))["folder"])
    try:
        download(connect(uri), uri, folder)
    except Exception as error:
        sys.stderr.write(f"kaptain: the model cannot be brought from {uri}: {error}\n")
        return 1
    return 0


def serve() -> int:
    """Become the server."""
    start.enter_environment(__file__, [])
    return become_server() if prepare([]) else 1


def become_server() -> NoReturn:
    """Replace this process by the server."""
    command = [sys.executable, "-u", "-m", "kaptain_magics.serving", "--options", str(start.HERE / "options.json")]
    os.execv(sys.executable, command)


def prepare(arguments: list[str], further: tuple[str, ...] = ()) -> bool:
    """Install what the image lacks, once, and put the server's library on the path; returns whether that was possible.

    Args:
        arguments: This program's, to begin again with in the installed environment.
        further: Libraries that are needed besides the server's.
    """
    done, wanted = start.ROOT / "installed", start.HERE / "requirements.txt"
    lines = wanted.read_text("utf-8").splitlines() if wanted.exists() and not done.exists() else []
    lines += [name for name in (*LIBRARIES, *further) if importlib.util.find_spec(name) is None]
    if lines:
        faster = [ACCELERATOR] if not arguments and importlib.util.find_spec(ACCELERATOR) is None else []
        if _install([*lines, *faster]) and (not faster or _install(lines)):
            sys.stderr.write(f"kaptain: cannot install {', '.join(lines)}: use a base image that has them\n")
            return False
        done.touch()
        start.enter_environment(__file__, arguments)
    if not start.LIB.exists():
        start.unpack(start.HERE / "lib.tar.gz", start.ROOT)
    sys.path.insert(0, str(start.LIB))
    os.environ["PYTHONPATH"] = str(start.LIB)
    return True


def _install(lines: list[str]) -> int:
    listed = start.ROOT / "requirements.txt"
    listed.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return int(start.install(listed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
