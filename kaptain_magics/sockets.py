"""Unix sockets at paths of any length, and a folder for them that is this user's alone. Any room may use them."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kaptain_magics.errors import TargetError

_LONGEST = 100  # bytes of a socket's address; the kernel's limit is 108 on Linux and 104 on macOS and the BSDs
_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give another path of the same socket that is short enough to bind and to connect to, for the block."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
    elif _DESCRIPTORS.is_dir():
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"{_DESCRIPTORS}/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder_of_link:
            link = Path(folder_of_link) / "s"
            link.symlink_to(path.parent.absolute())
            yield str(link / path.name)


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket that only its owner can reach; an old one at its path is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with short_path(path) as short:
            listener.bind(short)
        path.chmod(0o600)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def connect_unix(path: Path, timeout: float | None = None) -> socket.socket:
    """Return a connection to a Unix socket.

    Args:
        path: The socket's path.
        timeout: Seconds for the connection and for whatever is done with it later.

    Raises:
        OSError: No process listens there.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        with short_path(path) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        raise
    return connection


def can_listen(folder: Path) -> bool:
    """Whether a folder's file system has Unix sockets; some that are shared with other machines have none."""
    path = folder / "probe"
    try:
        listen_unix(path).close()
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True


def user_folder() -> Path:
    """Return a folder of this user's alone, for sockets that can be made again at any time.

    It lies in ``XDG_RUNTIME_DIR`` where that is usable, else among the temporary files; where another user has made
    a folder of its name, it has a name that cannot be guessed.

    Raises:
        TargetError: No folder can be made.
    """
    user = os.getuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_private(Path(runtime)):
        with suppress(OSError):
            return _make_private(Path(runtime) / "kaptain")
    temporary = Path(tempfile.gettempdir())
    try:
        with suppress(PermissionError):
            return _make_private(temporary / f"kaptain-{user}")
        ours = sorted(path for path in temporary.glob(f"kaptain-{user}-*") if _is_private(path))
        return ours[0] if ours else Path(tempfile.mkdtemp(prefix=f"kaptain-{user}-", dir=temporary))
    except OSError as error:
        raise TargetError(
            f"cannot create a folder in {temporary}: {error.strerror}", "set TMPDIR to a folder of your own"
        ) from error


def _make_private(folder: Path) -> Path:
    """Return a folder that exists and is private, or raise."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_private(folder):
        raise PermissionError(f"{folder} is not private to this user")
    return folder


def _is_private(folder: Path) -> bool:
    """Whether a path is a folder itself, no link, that only this user can use."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    owned = status.st_uid == os.getuid() and not status.st_mode & 0o077
    return stat.S_ISDIR(status.st_mode) and owned and os.access(folder, os.W_OK | os.X_OK)
