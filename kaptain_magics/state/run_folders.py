"""Runs: a folder of facts and a stream of events each.

``<home>/runs/<run id>/`` holds ``run.json`` (what was asked), ``events.jsonl`` (what happened, appended by one writer),
``log.txt`` (the job's whole output), ``lock`` (held by the process that starts the run, then by its supervisor as long
as it lives) and the job's own files.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kaptain_magics.core.events import (
    AnyEvent,
    Displayed,
    Event,
    FileWritten,
    LogWritten,
    Noted,
    StateChanged,
    decode_event,
)
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import NotFoundError, StateError
from kaptain_magics.files import Lock, disk_error, open_append, private_folder, write_whole
from kaptain_magics.state.content import keep_content

TEXT_AT_MOST = 64 * 1024  # bytes of log text in one event
_TAIL = 64 * 1024  # bytes of the stream that are searched for its last state
_SHORTEST_DELAY, _LONGEST_DELAY = 0.005, 0.05  # seconds between two looks; one takes 6 us where nothing is new
_CHECK_INTERVAL = 1.0  # seconds of silence after which a reader looks whether the supervisor still lives

_encoder = msgspec.json.Encoder()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked: written once, before anything starts.

    Attributes:
        run_id: The run's id, also its folder's name.
        kind: What the run does.
        name: The job's, study's or endpoint's name.
        model_id: The model's id.
        target: The target's name.
        created: Seconds since 1970.
        job: The job, for ``TRAIN``.
        study: The study, for ``TUNE``.
        endpoint: The endpoint, for ``DEPLOY``.
        settings: The settings in force, by name (no secrets): the supervisor works under the same.
        model_info: The model's ``name``, ``description`` and ``version``, for people and trackers.
        notes: What the run says first: what was chosen or taken over, and from where.
    """

    run_id: str
    kind: RunKind
    name: str
    model_id: str
    target: str
    created: float
    job: JobSpec | None = None
    study: StudySpec | None = None
    endpoint: EndpointSpec | None = None
    settings: dict[str, str] = {}
    model_info: dict[str, str] = msgspec.field(default_factory=dict, name="about")  # its name in files
    notes: tuple[Noted, ...] = ()


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list of runs."""

    record: RunRecord
    state: RunState
    reason: str
    started: float
    ended: float


class RunFolder:
    """One run on disk.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.log_path = path / "log.txt"
        self.events_path = path / "events.jsonl"
        self.lock = Lock(path / "lock")
        self._record: RunRecord | None = None
        self._next = 0

    @property
    def record(self) -> RunRecord:
        """What was asked.

        Raises:
            NotFoundError: The folder is gone or holds no run.
        """
        if self._record is None:
            try:
                self._record = msgspec.json.decode((self.path / "run.json").read_bytes(), type=RunRecord)
            except FileNotFoundError:
                raise NotFoundError(f"there is no run {self.run_id}", "%kaptain runs lists them") from None
            except (OSError, msgspec.MsgspecError) as error:
                raise StateError(f"run {self.run_id} cannot be read: {error}", "%kaptain clean removes it") from error
        return self._record

    # ---- writing: one process at a time, the holder of the lock -------------------------------------------------

    def append(self, event: Event) -> AnyEvent:
        """Number, stamp and append one event. The text of a log and the content of what is shown go to files first.

        Raises:
            StateError: The disk is full or the folder is gone.
        """
        try:
            if not self._next:
                self._next = self._repair() + 1
            if isinstance(event, LogWritten) and event.text:
                event = self._write_log(event)
            elif isinstance(event, Displayed | FileWritten) and event.data:
                event = keep_content(event, self.path)
            stamped = msgspec.structs.replace(event, seq=self._next, time=event.time or time.time())
            line = _encoder.encode(stamped) + b"\n"
            descriptor = os.open(self.events_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.write(descriptor, line) != len(line):
                    self._next = 0
                    raise OSError(28, "No space left on device")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, self.events_path) from error
        self._next += 1
        return stamped  # type: ignore[return-value]  # replace() keeps the class

    def _write_log(self, event: LogWritten) -> LogWritten:
        with open_append(self.log_path) as file:
            start = file.tell()
            file.write(event.text.encode("utf-8", "replace"))
            return msgspec.structs.replace(event, start=start, end=file.tell(), text="")

    def _repair(self) -> int:
        """Cut a torn last line off and return the last event's number."""
        if not self.events_path.exists():
            return 0
        data = self.events_path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.events_path, whole)
        return data.count(b"\n")

    # ---- reading: any process, any time --------------------------------------------------------------------------

    def events(self, after: int = 0, logs: bool = True) -> Iterator[AnyEvent]:
        """Yield the events that are there now, behind number ``after``; those of the log only with ``logs``."""
        yield from self._read(_Position(), after, logs)

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        """Yield events as they come until the run has ended.

        Args:
            after: Number of the last event that the caller has.
            tick: Yield ``None`` when nothing came for so many seconds, so that the caller can look up.

        Yields:
            The events in order, the terminal ``StateChanged`` last; it is made up (and written down, where the disk
            takes it) where the supervisor died without one.
        """
        # Three clocks: `delay` until the next look at the file, short after news and longer in silence; `checked`, when
        # a silent run's supervisor was last looked for; `ticked`, when the caller last had a turn.
        position, delay = _Position(), _SHORTEST_DELAY
        checked = ticked = time.monotonic()
        while True:
            has_news = False
            for event in self._read(position, after):
                has_news = True
                yield event
                if isinstance(event, StateChanged) and event.state.terminal:
                    return
            now = time.monotonic()
            delay = _SHORTEST_DELAY if has_news else min(delay * 1.2, _LONGEST_DELAY)
            if not has_news and now - checked > _CHECK_INTERVAL:
                checked = now
                unwritten = self.settle()
                if unwritten is not None:
                    yield msgspec.structs.replace(unwritten, seq=position.number + 1)
                    return
            if tick is not None and now - ticked >= tick:
                ticked = now
                yield None
            time.sleep(delay)

    def _read(self, position: _Position, after: int, logs: bool = True) -> Iterator[AnyEvent]:
        try:
            with open(self.events_path, "rb") as file:
                file.seek(position.offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    position.offset += len(line)
                    position.number += 1
                    if position.number > after and (logs or not line.startswith(b'{"kind":"log"')):
                        event = decode_event(line)
                        if event is not None:
                            yield self._with_text(event)
        except FileNotFoundError:
            if not self.path.exists():
                raise NotFoundError(f"run {self.run_id} was removed", "%kaptain runs lists the others") from None

    def _with_text(self, event: AnyEvent) -> AnyEvent:
        if not isinstance(event, LogWritten):
            return event
        return msgspec.structs.replace(event, text=self.log_text(event.start, event.end))

    def log_text(self, start: int = 0, end: int | None = None, at_most: int = TEXT_AT_MOST) -> str:
        """Return the log between two byte offsets, its last ``at_most`` bytes when it is longer."""
        try:
            with open(self.log_path, "rb") as file:
                end = file.seek(0, os.SEEK_END) if end is None else end
                first = max(start, end - at_most)
                file.seek(first)
                data = file.read(end - first)
        except FileNotFoundError:
            return ""
        if first > start:  # begin at a whole line
            data = data[data.find(b"\n") + 1 :]
        return data.decode("utf-8", "replace")

    def last_state(self) -> StateChanged:
        """Return the run's state now, a dead supervisor's run settled as failed."""
        return self.settle() or self._written_state()

    def _written_state(self) -> StateChanged:
        try:
            with open(self.events_path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                data = file.read()
        except FileNotFoundError:
            return StateChanged(state=RunState.PENDING)
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        for line in reversed(lines if size <= _TAIL else lines[1:]):
            if line.startswith(b'{"kind":"state"'):
                state = decode_event(line)
                assert isinstance(state, StateChanged)
                return state
        return StateChanged(state=RunState.RUNNING if size > _TAIL else RunState.PENDING)

    def settle(self, last: StateChanged | None = None) -> StateChanged | None:
        """Write down how the run has ended where its supervisor died before writing a final state.

        Args:
            last: The state to write; by default that it has failed.

        Returns:
            The state where it cannot be written, such as on a full disk; ``None`` when there is nothing to add to what
            is written.
        """
        if self._written_state().state.terminal or self.lock.descriptor is not None or self.lock.held_by_other():
            return None
        if sys.platform == "win32" and not self.lock.path.exists():
            return None  # no lock can be handed over there: the supervisor makes it, and it is still starting
        record = self.record
        last = last or StateChanged(
            state=RunState.FAILED,
            reason="the process that supervised this run was killed, or the machine was restarted",
            hint=f"run it again, or %kaptain_tune {record.model_id} --resume"
            if record.kind is RunKind.TUNE
            else "run the cell again",
        )
        lock = Lock(self.lock.path)
        try:
            if lock.acquire() and not self._written_state().state.terminal:
                self._next = 0
                self.append(last)
        except StateError as error:  # a reader must still learn of the end
            reason = f"the process that supervised this run has ended, and its state cannot be saved: {error.message}"
            return msgspec.structs.replace(last, time=time.time(), reason=reason, hint=error.hint)
        finally:
            lock.release()
        return None


class _Position:
    """How far a reader has come in a stream."""

    def __init__(self) -> None:
        self.offset = 0
        self.number = 0


class RunStore:
    """All runs of a state folder.

    Args:
        home: The state folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "runs"

    def create(self, record: RunRecord) -> RunFolder:
        """Write a new run down.

        Returns:
            The run, its lock held: it does not count as dead until this process has died or let go of the lock.

        Raises:
            StateError: The disk is full or the folder cannot be written; nothing is left of the run then.
        """
        path = self.folder / record.run_id
        folder = RunFolder(path)
        try:
            private_folder(self.folder)
            path.mkdir(mode=0o700)
            if sys.platform != "win32":
                folder.lock.acquire()
            write_whole(path / "run.json", msgspec.json.encode(record))
        except OSError as error:
            raise disk_error(error, path) from error
        except StateError:
            self.discard(folder)
            raise
        return folder

    def folders(self) -> list[RunFolder]:
        """Return the folders of all runs, the newest first; nothing of them is read yet."""
        try:
            names = sorted((e.name for e in os.scandir(self.folder) if e.is_dir()), reverse=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self.folder) from error
        return [RunFolder(self.folder / name) for name in names]

    def find(self, name: str, kind: RunKind | None = None) -> RunFolder:
        """Return the run of that name: an id or its beginning, a job's name, or a model's id (its newest run).

        Raises:
            NotFoundError: No run, or none of that kind, has that name.
        """
        names: list[str] = []
        for folder in self.folders():
            try:
                record = folder.record
            except StateError:
                continue
            if kind is not None and record.kind is not kind:
                continue
            if name in (record.run_id, record.name, record.model_id) or (
                len(name) >= 4 and (record.run_id.startswith(name) or record.run_id.endswith(name))
            ):
                return folder
            names += [record.model_id, record.name]
        what = f"{kind} run" if kind else "run"
        raise NotFoundError(f"there is no {what} {name!r}", did_you_mean(name, names) or "%kaptain runs lists them")

    def summaries(self) -> list[RunSummary]:
        """Return a row for every run, the newest first; what cannot be read is left out."""
        rows = []
        for folder in self.folders():
            try:
                record, last = folder.record, folder.last_state()
            except StateError:
                continue
            ended = last.time if last.state.terminal else 0.0
            rows.append(
                RunSummary(record=record, state=last.state, reason=last.reason, started=record.created, ended=ended)
            )
        return rows

    def remove(self, folder: RunFolder) -> None:
        """Remove an ended run's folder.

        Raises:
            StateError: The run still goes on.
        """
        if not folder.last_state().state.terminal:
            raise StateError(f"run {folder.run_id} is still running", f"stop it first: %kaptain stop {folder.run_id}")
        self.discard(folder)

    def discard(self, folder: RunFolder) -> None:
        """Remove a run's folder without a question: it was never started, or has ended."""
        folder.lock.release()
        shutil.rmtree(folder.path, ignore_errors=True)
