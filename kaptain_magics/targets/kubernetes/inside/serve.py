"""Entry of a server's containers: ``serve.py fetch`` brings the model, ``serve.py`` serves it.

Beside this file lie ``start.py``, ``lib.tar.gz`` (the server), ``options.json``, ``packages.json`` and
``requirements.txt``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import start  # type: ignore[import-not-found]  # lies beside this file in the pod


def main(arguments: list[str]) -> int:
    """Fetch, or become the server; returns the exit code."""
    start.trust()
    return fetch(os.environ["KAPTAIN_ARTIFACT"]) if arguments == ["fetch"] else serve()


def fetch(uri: str) -> int:
    """Install what the image lacks, and bring the model's folder."""
    start.enter_environment(__file__, ["fetch"])
    if not prepare(["fetch"]):
        return 1
    from kaptain_magics.runtime.transfer import connect, download

    folder = Path(json.loads((start.HERE / "options.json").read_text("utf-8"))["folder"])
    try:
        download(connect(uri), uri, folder)
    except Exception as error:
        return int(start.fail(f"the model cannot be downloaded from {uri}: {error}", "check the object store"))
    return 0


def serve() -> int:
    """Install what the image lacks and become the server; returns only where that fails."""
    start.enter_environment(__file__, [])
    return become_server() if prepare([]) else 1


def become_server() -> NoReturn:
    """Replace this process by the server."""
    command = [sys.executable, "-u", "-m", "kaptain_magics.serving", "--options", str(start.HERE / "options.json")]
    forgotten = os.environ.pop("KAPTAIN_FORGET", "").split(",")  # access to the object store, which no server needs
    env = {name: text for name, text in os.environ.items() if name not in forgotten}
    os.execve(sys.executable, command, env)


def prepare(arguments: list[str]) -> bool:
    """Install what the image lacks, once, and put the server's library on the path; returns whether that was possible.

    Args:
        arguments: This program's, to begin again with in the installed environment.
    """
    if not start.LIB.exists():
        start.unpack(start.HERE / "lib.tar.gz", start.ROOT)
    start.use(str(start.LIB))
    done, requirements = start.ROOT / "wanted-installed", start.HERE / "requirements.txt"
    if requirements.exists() and not done.exists():
        if start.install(requirements):
            lines = ", ".join(requirements.read_text("utf-8").split("\n")).strip(", ")
            start.fail(f"cannot install {lines}", "use a base image that has them")
            return False
        done.touch()
        start.enter_environment(__file__, arguments)
    return bool(start.complete(__file__, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
