"""What the supervisor of any kind of run works with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.config import Settings
from kaptain_magics.core.events import Event, Noted
from kaptain_magics.state import Registry, RunFolder
from kaptain_magics.targets.base import Target, open_target
from kaptain_magics.targets.environment import storage_environment, target_config

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore


class RunContext:
    """One run under supervision.

    Args:
        folder: The run; its lock is held.
        settings: The settings in force when it was started.
        stopping: Set when the run is to end.
    """

    def __init__(self, folder: RunFolder, settings: Settings, stopping: threading.Event) -> None:
        self.folder, self.settings, self.stopping = folder, settings, stopping
        self.record = folder.record
        self.registry = Registry(Path(settings.home))
        self._writing = threading.Lock()

    @cached_property
    def target(self) -> Target:
        """The target of the run, opened at first use: its import takes longest."""
        return open_target(self.record.target, target_config(self.settings))

    @cached_property
    def store(self) -> ObjectStore:
        """The object store of the models, opened at first use."""
        from kaptain_magics.storage import open_store

        return open_store(self.settings.models_uri, storage_environment(self.settings))

    def emit(self, event: Event) -> None:
        """Write one event; may be called by any thread."""
        with self._writing:
            self.folder.append(event)

    @contextmanager
    def ends_by(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call ``stop`` once if the run is asked to end while the block runs."""
        ended = threading.Event()

        def wait() -> None:
            self.stopping.wait()
            if not ended.is_set():
                stop()

        threading.Thread(target=wait, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def emit_notes(self) -> None:
        """Write what was chosen or taken over when the run was planned."""
        for note in self.record.notes:
            self.emit(note)

    def note(self, text: str) -> None:
        """Write a line that people read in the cell and in ``%kaptain logs``."""
        self.emit(Noted(text=text))
