"""Environments for requirements that the kernel's own does not satisfy: made once, kept, laid over the kernel's."""

from __future__ import annotations

import hashlib
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from kaptain_magics.core.secrets import without_passwords
from kaptain_magics.errors import TargetError
from kaptain_magics.files import locked, private_folder, write_whole

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def needed(requirements: Sequence[str]) -> bool:
    """Whether the kernel's environment lacks any of the requirements; lines it cannot judge count as lacking."""
    return any(not _satisfied(line) for line in requirements)


def _satisfied(line: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url or requirement.extras:
        return False
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def prepare(
    requirements: Sequence[str], cache: Path, stop: Callable[[], bool], env: Mapping[str, str] | None = None
) -> str:
    """Return the Python of an environment that has the requirements, making it when it is not there.

    What the requirements do not name comes from the kernel's environment.

    Args:
        requirements: Lines of a pip requirements file.
        cache: Where environments are kept.
        stop: Asked now and then; the work is given up when it says so.
        env: The environment that pip works in, such as ``PIP_INDEX_URL``; this process's own when not given.

    Raises:
        TargetError: pip could not install them; its own last line is the reason.
    """
    digest = hashlib.sha256("\n".join([sys.version, sysconfig.get_platform(), sys.prefix, *requirements]).encode())
    folder = cache / "environments" / digest.hexdigest()[:24]
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "complete"
    with locked(folder.with_suffix(".lock"), timeout=1800.0):
        if complete.exists():
            return str(python)
        shutil.rmtree(folder, ignore_errors=True)
        private_folder(folder)
        listing = folder.with_suffix(".txt")
        write_whole(listing, ("\n".join(requirements) + "\n").encode())
        _run([sys.executable, "-m", "venv", str(folder)], stop, env)
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--no-color",
            "--disable-pip-version-check",
            "-r",
            str(listing),
        ]
        _run(command, stop, env)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        below = [p for p in sys.path if p.endswith("-packages")] or site.getsitepackages()
        (packages / "kaptain-below.pth").write_text(f"import site; list(map(site.addsitedir, {below!r}))\n")
        complete.touch()
    return str(python)


def _run(command: list[str], stop: Callable[[], bool], env: Mapping[str, str] | None) -> None:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    ) as child:
        while True:
            try:
                output, _ = child.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if stop():
                    child.kill()
                    raise TargetError("stopped while the requirements were installed") from None
    if child.returncode:
        raise TargetError(
            f"the requirements could not be installed: {_reason(output.decode('utf-8', 'replace'))}",
            "check the names and versions in --requirements, and the network",
        )


def _reason(output: str) -> str:
    """Return what pip says last of an error, in one line without colours; else its last line."""
    lines = [line.strip() for line in _COLOURS.sub("", output).splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error:", line, re.IGNORECASE)] or lines[-1:] or ["pip said nothing"]
    return without_passwords(re.sub(r"^error:\s*", "", errors[-1], flags=re.IGNORECASE))[:300]
