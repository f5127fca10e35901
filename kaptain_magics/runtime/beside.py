"""Files beside the notebook, made visible in the working folder of a job on the same machine and never written to.

The script runs in a folder of its own, so that what it writes is the run's. What it names beside the notebook is laid
there before it starts: small files as copies (whole clones where the file system has them), large ones as links. What
could not be found in its text is laid there when it opens or lists it, which an audit hook sees first. The same
hook replaces a link by a copy before Python writes to it. When the script has ended, what it left unchanged goes again.

A library that opens files without Python is not seen: it finds what was laid there at the start, and gets a copy of
its own of every small file. The large ones are looked at in the end: a change is reported.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kaptain_magics.runtime.file_clones import LEAST, clone
from kaptain_magics.runtime.module_search import forget, search

SKIPPED = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", ".ipynb_checkpoints", ".DS_Store"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
"""Names that no script means: they are neither laid into a job's folder nor sent."""

_COPIED = 32 << 20  # bytes of a file that is copied instead of linked
_COPIED_IN_ALL = 64 << 20  # bytes of all such files
_COPIED_FILES = 500  # such files: a copy of a small file takes ten times as long as a link
_LAID = 2000  # files of folders that are laid there one by one (0.1 ms each); folders with more are linked as they are
_LARGEST_CHANGED = 1 << 30  # bytes of a linked file that is copied because the script opens it for writing
_FINDERS = ("importlib", "_frozen_importlib", "pkgutil", "pkg_resources")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


class Beside:
    """The files beside the notebook, as one job sees them.

    Args:
        work: The job's working folder.
        folders: What it stands for, the first one first: folders of this machine.
        copies: Whether small files are copied; the trials of a study link to the copies of the study.
    """

    def __init__(self, work: str, folders: Sequence[str], copies: bool = True) -> None:
        self._work, self._alias, self._folders = os.path.realpath(work), os.path.abspath(work), list(folders)
        self._copied = 0 if copies else _COPIED_IN_ALL
        self._laid = self._copies = 0
        self._given: dict[str, tuple[int, int]] = {}  # copies that were laid there: how they were then
        self._links: dict[str, str] = {}
        self._linked: dict[str, tuple[int, int]] = {}  # files that links lead to: how they were then
        self._own_folders: list[str] = []  # folders, those above first
        self._busy = threading.local()

    # ---- before the script ---------------------------------------------------------------------------------------

    def lay(self, path: str, source: str, changes: bool = False) -> None:
        """Lay a file or a folder into the working folder.

        Args:
            path: Its place there, relative.
            source: What it is, absolute.
            changes: Whether the script writes to it, so that it needs a copy whatever its size.
        """
        target = os.path.join(self._work, path)
        self._make(os.path.dirname(target))
        self._lay(target, source, changes)

    def make(self, path: str) -> None:
        """Make an empty folder that the script writes into; it goes again where nothing was."""
        self._make(os.path.join(self._work, path))

    def _lay(self, target: str, source: str, changes: bool = False) -> None:
        waiting = deque([(target, source, os.path.isdir(source))])
        while waiting:
            target, source, is_folder = waiting.popleft()
            if not is_folder:
                self._lay_file(target, source, changes)
                continue
            self._laid += 1
            entries = sorted((e for e in os.scandir(source) if e.name not in SKIPPED), key=lambda entry: entry.name)
            if self._laid + len(entries) > _LAID and not os.path.lexists(target):
                self._link(target, source, os.stat(source))
                continue
            self._make(target)
            waiting += [(os.path.join(target, entry.name), entry.path, entry.is_dir()) for entry in entries]

    def _lay_file(self, target: str, source: str, changes: bool = False) -> None:
        if os.path.lexists(target):
            return
        try:
            status = os.stat(source)
        except FileNotFoundError:
            return
        self._laid += 1
        copied = False
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
            small = size <= _COPIED and self._copied + size <= _COPIED_IN_ALL and self._copies < _COPIED_FILES
            self._copied, self._copies = self._copied + size * small, self._copies + small
            if changes or small or size >= LEAST:
                with contextlib.suppress(PermissionError):  # the script will meet it too, and say so
                    copied = self._copy(target, source, only_clone=not (changes or small))
        if not copied:
            self._link(target, source, status)

    def _copy(self, target: str, source: str, only_clone: bool = False) -> bool:
        """Put a copy into a place, whole or not at all; returns whether it is there."""
        part = f"{target}.kaptain-part-{os.getpid()}-{threading.get_ident()}"
        try:
            if not clone(source, part):
                if only_clone:
                    return False
                shutil.copyfile(source, part)
            shutil.copystat(source, part)
            os.chmod(part, os.stat(part).st_mode | 0o200)
            os.replace(part, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)
        self._given[target] = _state(target)
        return True

    def _link(self, target: str, source: str, status: os.stat_result) -> None:
        with contextlib.suppress(FileExistsError):
            os.symlink(source, target)
            self._links[target] = source
            if stat.S_ISREG(status.st_mode):
                self._linked[source] = status.st_mtime_ns, status.st_size

    def _make(self, folder: str) -> None:
        """Make a real folder, and those above it, in the working folder."""
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                self._own_folders.append(folder)

    # ---- while the script runs -----------------------------------------------------------------------------------

    def watch(self) -> None:
        """Follow, from now on and until the process ends, what Python opens, lists and writes to."""
        actions: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "os.chdir": self._entered,
            "os.mkdir": self._changed_above,
            "os.rmdir": self._changed_above,
            "os.remove": self._changed_above,
            "os.rename": self._renamed,
            "os.link": self._renamed,
            "os.symlink": self._renamed,
            "os.truncate": self._changed,
            "os.chmod": self._changed,
            "os.chown": self._changed,
            "os.utime": self._changed,
            "sqlite3.connect": self._connected,
        }

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            action = actions.get(event)
            if action is None or getattr(self._busy, "yes", False):
                return
            self._busy.yes = True
            try:
                action(*arguments)
            except LinkedFileError:
                raise
            except (OSError, ValueError, TypeError):
                pass  # the script's own call will meet it, or not
            finally:
                self._busy.yes = False

        sys.addaudithook(audit)

    def _opened(self, path: Any, _mode: Any, flags: Any) -> None:
        target = self._inside(path)
        if not target:
            return
        writes = isinstance(flags, int) and flags & _WRITING
        if not os.path.lexists(target):
            source = self._source(target)
            if source and not (writes and flags & (os.O_TRUNC | os.O_EXCL)) and os.path.isfile(source):
                self._make(os.path.dirname(target))
                self._lay_file(target, source)
            elif writes and not os.path.isdir(os.path.dirname(target)):
                self._fill_above(target)
        if writes:
            self._own(target, keep=not flags & os.O_TRUNC)

    def _listed(self, path: Any = None) -> None:
        target = self._inside("." if path is None else path)
        if not target or os.path.islink(target) or _looks_for_modules():
            return
        for folder in self._sources(target):
            if not os.path.isdir(folder):
                continue
            self._make(target)
            for name in os.listdir(folder):
                if name not in SKIPPED and not name.startswith("."):
                    inner, source = os.path.join(target, name), os.path.join(folder, name)
                    if os.path.isdir(source):
                        self._make(inner)  # filled when it is listed itself
                    else:
                        self._lay_file(inner, source)

    def _entered(self, path: Any) -> None:
        target = self._inside(path)
        if target and not os.path.lexists(target) and os.path.isdir(self._source(target)):
            self._make(target)

    def _fill_above(self, target: str) -> None:
        if os.path.isdir(self._source(os.path.dirname(target))):
            self._make(os.path.dirname(target))

    def _changed_above(self, path: Any, *_: Any) -> None:
        target = self._inside(path)
        if target:
            self._own(os.path.dirname(target), keep=True)

    def _renamed(self, source: Any, target: Any, *_: Any) -> None:
        self._changed_above(source)
        self._changed_above(target)

    def _changed(self, path: Any, *_: Any) -> None:
        target = self._inside(path)
        if target:
            self._own(target, keep=True)

    def _connected(self, database: Any, *_: Any) -> None:
        text = os.fsdecode(database)
        if text.startswith("file:"):
            if "mode=ro" in text or "immutable=1" in text:
                return
            text = text.removeprefix("file:").partition("?")[0]
        self._opened(text, None, os.O_RDWR)

    def _inside(self, path: Any) -> str:
        """Return the whole path of something in the working folder; empty for what is elsewhere."""
        if isinstance(path, int) or path is None:
            return ""
        text = os.fsdecode(path)
        if text.startswith("/"):
            if text.startswith(self._alias):
                text = self._work + text[len(self._alias) :]
            if not text.startswith(self._work):
                return ""
        whole = os.path.normpath(os.path.join(os.getcwd(), text))
        return whole if whole == self._work or whole.startswith(self._work + os.sep) else ""

    def _sources(self, target: str) -> list[str]:
        relative = os.path.relpath(target, self._work)
        return [os.path.normpath(os.path.join(folder, relative)) for folder in self._folders]

    def _source(self, target: str) -> str:
        """Return what a path in the working folder stands for; empty where nothing, or more than one thing, does."""
        existing = [path for path in self._sources(target) if os.path.exists(path)]
        return existing[0] if len(existing) == 1 else ""

    def _own(self, target: str, keep: bool) -> None:
        """Replace the links on the way to a path, and at its end, by what is the job's own."""
        current = self._work
        for part in os.path.relpath(target, self._work).split(os.sep):
            current = os.path.join(current, part)
            source = self._links.get(current)
            if source is None or not os.path.islink(current):
                continue
            if os.path.isdir(source):
                os.unlink(current)
                self._forget(current)
                self._make(current)
                for entry in os.scandir(source):
                    self._link(os.path.join(current, entry.name), entry.path, entry.stat())
            elif not keep:
                os.unlink(current)
                self._forget(current)
            else:
                size = os.path.getsize(source)
                if not self._copy(current, source, only_clone=size > _LARGEST_CHANGED):  # it takes the link's place
                    raise LinkedFileError(
                        f"{source} ({size / 1e9:.1f} GB) is linked into this run, which must not change it\n"
                        "open it for reading only (mode='r'), or by its whole path to change it where it is"
                    )
                self._links.pop(current, None)

    def _forget(self, target: str) -> None:
        self._given.pop(target, None)
        self._links.pop(target, None)

    # ---- after the script ----------------------------------------------------------------------------------------

    def leave(self) -> list[str]:
        """Remove what the script has not changed; returns the files beside the notebook that were changed meanwhile."""
        self._busy.yes = True
        for target, state in self._given.items():
            with contextlib.suppress(OSError):
                if _state(target) == state:
                    os.unlink(target)
        for target, source in self._links.items():
            with contextlib.suppress(OSError):
                if os.readlink(target) == source:
                    os.unlink(target)
        for folder in sorted({os.path.dirname(target) for target in (*self._given, *self._links)}):
            shutil.rmtree(os.path.join(folder, "__pycache__"), ignore_errors=True)
        for folder in reversed(self._own_folders):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        changed = []
        for source, state in self._linked.items():
            with contextlib.suppress(OSError):
                status = os.stat(source)
                if (status.st_mtime_ns, status.st_size) != state:
                    changed.append(source)
        return changed

    @staticmethod
    def report(changed: Iterable[str]) -> None:
        """Tell the run which files beside the notebook were changed while the script ran."""
        from kaptain_magics.runtime.channel import emit

        for source in changed:
            text = f"{source} was changed while the script ran, which has it as a link"
            hint = "if the script wrote to it, let it write to another name"
            emit({"kind": "note", "text": text, "warning": True, "hint": hint})


class LinkedFileError(PermissionError):
    """The script would change a large file beside the notebook."""


def prepare(program: Mapping[str, Any]) -> Beside | None:
    """Make the folders that a job's script writes into, and lay what it reads beside the notebook into its folder.

    Args:
        program: Its ``beside`` is an object: ``folders``, ``inputs`` (path, source, role), ``copies``, and ``search``,
            the folders whose modules can be imported. Where it is absent the files were sent. The working folder of the
            process is that of the job.

    Returns:
        What has to be left when the script has ended, where there is something.

    Raises:
        OSError: The disk is full.
    """
    work = os.getcwd()
    os.chdir(os.path.join(work, program.get("place", "")))
    options = program.get("beside")
    beside = Beside(work, options["folders"], options.get("copies", True)) if options else None
    for path in program.get("folders", ()):
        if beside is None:
            os.makedirs(os.path.join(work, path), exist_ok=True)
        else:
            beside.make(path)
    if beside is not None and options:
        for path, source, role in sorted(options["inputs"], key=lambda entry: entry[2] != "change"):
            beside.lay(path, source, role == "change")
            if role == "module":
                forget(os.path.basename(path).partition(".")[0])
        search(options.get("search", ()))
        beside.watch()
    return beside


def _looks_for_modules() -> bool:
    """Whether it is the import system, or what looks for plug-ins, that lists a folder."""
    frame = inspect.currentframe()
    for _ in range(3):  # to the caller of what the hook sees
        frame = frame.f_back if frame is not None else None
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_FINDERS)


def _state(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_mtime_ns, status.st_size
