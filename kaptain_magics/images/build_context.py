"""What goes into an image or a container: the script, its files, the requirements and the runtime of this package."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kaptain_magics.core.sdk import sdk_folder
from kaptain_magics.errors import ImageError
from kaptain_magics.images.requirement_lines import check_no_password, without_paths
from kaptain_magics.runtime.beside import SKIPPED

FOLDER = "/kaptain"  # where a context lies in an image
RUNTIME = ".kaptain"  # folder in it, on PYTHONPATH, that holds the packages of the runtime
PACKAGES = ".packages"  # folder in it, on PYTHONPATH, that holds installed requirements

_SECRET_FOLDERS = {".aws", ".docker", ".kube", ".ssh", ".gnupg", ".azure"}
_SECRET_FILES = (
    ".env", ".env.*", ".netrc", "_netrc", ".pypirc", ".git-credentials", ".npmrc", ".dockercfg", "id_rsa", "id_dsa",
    "id_ecdsa", "id_ed25519", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "kubeconfig", "credentials.json",
)  # fmt: skip
_SECRET_FILE = re.compile("|".join(map(fnmatch.translate, _SECRET_FILES)))


Files = Iterable[str] | Mapping[str, str]
"""Files and folders that lie beside a script; of a mapping the keys are the paths that they get in the context."""


class Entry(NamedTuple):
    """A file of a context.

    Attributes:
        path: Its path below the context's folder, with slashes.
        source: The file on this machine, or its content.
        executable: Whether it may be executed.
    """

    path: str
    source: Path | bytes
    executable: bool = False


class Context(NamedTuple):
    """All files of an image.

    Attributes:
        entries: The files in the order of their paths.
        left_out: Files that look like credentials and so were left out.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()


def training_context(name: str, source: str, files: Files, requirements: Sequence[str]) -> Context:
    """Gather the context of a training image.

    Args:
        name: The script's path.
        source: Its text.
        files: Files and folders that lie beside it, or sources by the paths that they get.
        requirements: Lines of a pip requirements file.

    Raises:
        ImageError: A file is missing, is named twice, or is a secret.
    """
    left_out: list[str] = []
    entries = [*script_entries(name, source, files, left_out), *runtime_entries(RUNTIME)]
    if requirements:
        entries.append(requirements_entry(without_paths(requirements)))
    return Context(_sorted(entries), tuple(left_out))


def script_entries(name: str, source: str, files: Files, left_out: list[str] | None = None) -> Iterator[Entry]:
    """Yield the script and the files beside it.

    Args:
        name: The script's path.
        source: Its text.
        files: Files and folders that lie beside it, or sources by the paths that they get.
        left_out: Gets the files that look like credentials; ``None`` takes them along, for a job's own container.
    """
    yield Entry(name, source.encode())
    places = files if isinstance(files, Mapping) else {Path(path).name: path for path in files}
    for place, path in ((place, Path(source)) for place, source in places.items()):
        if not path.exists():
            raise ImageError(f"there is no file or folder {path}", "check the names given with --files")
        if left_out is not None and is_credentials(path.name, path.is_dir()):
            raise ImageError(f"{path} looks like credentials and must not be in an image", "leave it out of --files")
        if path.is_dir():
            yield from _folder(path, place, left_out, (os.path.realpath(path),))
        else:
            yield Entry(place, path, os.access(path, os.X_OK))


def folder_entries(path: Path, name: str) -> list[Entry]:
    """Return a file, or every file of a folder, under the name that it gets in a context.

    Raises:
        ImageError: It is missing, or it is a secret.
    """
    if not path.exists():
        raise ImageError(f"there is no file or folder {path}", "check the names of the files")
    if path.is_dir():
        return list(_folder(path, name, [], (os.path.realpath(path),)))
    return [Entry(name, path, os.access(path, os.X_OK))]


def requirements_entry(requirements: Sequence[str]) -> Entry:
    """Return the requirements file.

    Raises:
        ImageError: A line holds a password.
    """
    check_no_password(requirements)
    return Entry("requirements.txt", "".join(f"{line}\n" for line in requirements).encode())


def runtime_entries(folder: str, serving: bool = False) -> list[Entry]:
    """Return what has to be importable inside a job (or a server): parts of ``kaptain`` and ``kaptain_magics``.

    Args:
        folder: Folder of the context that they go to.
        serving: Whether the server is to be there too.
    """
    import kaptain_magics

    ours = Path(kaptain_magics.__file__).parent
    rooms = ["runtime", "serving", "core"] if serving else ["runtime"]
    files = [(ours / name, f"kaptain_magics/{name}") for name in ("__init__.py", "errors.py", "files.py", "sockets.py")]
    for room in rooms:
        files += [(path, f"kaptain_magics/{path.relative_to(ours).as_posix()}") for path in (ours / room).rglob("*.py")]
    sdk = sdk_folder()
    if not serving:
        half = [sdk / "__init__.py", *(sdk / "platform").rglob("*.py")]
        files += [(path, f"kaptain/{path.relative_to(sdk).as_posix()}") for path in half]
    return [Entry(f"{folder}/{name}", path) for path, name in sorted(files, key=lambda item: item[1])]


def _folder(folder: Path, prefix: str, left_out: list[str] | None, above: tuple[str, ...]) -> Iterator[Entry]:
    for item in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{prefix}/{item.name}"
        if item.name in SKIPPED or item.name.endswith(".pyc"):
            continue
        if item.is_dir():
            if left_out is not None and is_credentials(item.name, is_folder=True):
                left_out.append(name)
                continue
            real = os.path.realpath(item.path)
            if real in above:
                raise ImageError(f"{item.path} is a link to a folder that holds it", "remove the link")
            yield from _folder(Path(item.path), name, left_out, (*above, real))
        elif item.is_file():
            if left_out is not None and is_credentials(item.name, is_folder=False):
                left_out.append(name)
                continue
            yield Entry(name, Path(item.path), bool(item.stat().st_mode & 0o100))


def is_credentials(name: str, is_folder: bool) -> bool:
    """Whether a file or folder of that name usually holds credentials."""
    if is_folder:
        return name in _SECRET_FOLDERS
    return _SECRET_FILE.fullmatch(name) is not None


def _sorted(entries: list[Entry]) -> tuple[Entry, ...]:
    entries.sort(key=lambda entry: entry.path)
    for one, next_one in itertools.pairwise(entries):
        if one.path == next_one.path:
            raise ImageError(f"two files are named {one.path} in the image", "rename one of them")
    return tuple(entries)
