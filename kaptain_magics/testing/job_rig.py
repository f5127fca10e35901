"""A target under test: how it is opened, the jobs it gets, and what is read off their events."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.core.events import Event, LogWritten, MetricReported, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_job_name, new_run_id
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import ImageSpec, JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import JobRef, Target, TargetConfig, open_target

FOLLOWER = """
import sys, msgspec
from pathlib import Path
from kaptain_magics.targets.base import JobRef, TargetConfig, open_target
name, config, ref, after = sys.argv[1:]
config = msgspec.json.decode(config, type=TargetConfig, dec_hook=lambda kind, text: Path(text))
target = open_target(name, config)
for event in target.follow(msgspec.json.decode(ref, type=JobRef), int(after)):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.buffer.flush()
"""
FOREVER = """
import time
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@dataclass
class Rig:
    """A target and what the suite needs to use it.

    Attributes:
        name: The target's name in ``TARGETS``.
        config: What it is opened with, here and in other processes.
        folder: Where the jobs' folders are made.
        uploads: Folder URI for saved models that the jobs can reach.
        image: The image that the jobs run in.
        environment: Environment variables for the other processes (kubeconfig, engine address).
        leftovers: Names of what the target still keeps for ended jobs that it should have removed.
    """

    name: str
    config: TargetConfig
    folder: Path
    uploads: str
    image: ImageSpec = field(default_factory=ImageSpec)
    environment: dict[str, str] = field(default_factory=dict)
    leftovers: Callable[[], list[str]] = list

    def open(self) -> Target:
        return open_target(self.name, self.config)

    def job(self, source: str, **changes: Any) -> JobSpec:
        run_id = new_run_id()
        folder = self.folder / run_id
        folder.mkdir(parents=True)
        job = JobSpec(
            name=new_job_name("Suite", "job"),
            run_id=run_id,
            model_id="dev/suite",
            script=Script(name="training.py", source=textwrap.dedent(source).lstrip("\n")),
            framework=ModelFramework.SKLEARN,
            folder=str(folder),
            upload_uri=f"{self.uploads}/dev/suite/trained/{new_hex(32)}",
            image=self.image,
        )
        return msgspec.structs.replace(job, **changes)

    def read(self, uri: str) -> bytes:
        from kaptain_magics.storage import open_store

        return open_store(uri, dict(self.config.storage_env)).read(uri)


def log_of(job: JobSpec, events: Iterable[Event]) -> str:
    """The log that the events carry: their text, or the ranges of the job's own file."""
    parts = []
    for event in events:
        if isinstance(event, LogWritten):
            written = event.text.encode()
            if not written and event.end > event.start:
                with open(Path(job.folder) / "log.txt", "rb") as file:
                    file.seek(event.start)
                    written = file.read(event.end - event.start)
            parts.append(written)
    return b"".join(parts).decode("utf-8", "replace")


def states_of(events: Iterable[Event]) -> list[RunState]:
    return [event.state for event in events if isinstance(event, StateChanged)]


def metrics_of(events: Iterable[Event]) -> list[tuple[str, float, int | None]]:
    return [(e.name, e.value, e.step) for e in events if isinstance(e, MetricReported)]


@dataclass
class Outcome:
    job: JobSpec
    ref: JobRef
    events: list[Event]

    @property
    def log(self) -> str:
        return log_of(self.job, self.events)

    @property
    def last(self) -> StateChanged:
        assert isinstance(self.events[-1], StateChanged), self.events[-1]
        return self.events[-1]


def outcome(target: Target, job: JobSpec) -> Outcome:
    """Run a job to its end and check what holds for every stream."""
    ref = target.submit(job)
    done = Outcome(job, ref, list(target.follow(ref)))
    assert_stream(done.events)
    return done


def assert_stream(events: list[Event]) -> None:
    """Exactly one terminal state, and it is the last event; a bad end has its reason."""
    states = states_of(events)
    assert [s.terminal for s in states].count(True) == 1, states
    last = events[-1]
    assert isinstance(last, StateChanged)
    assert last.state.terminal
    if last.state is not RunState.SUCCEEDED:
        assert last.reason
        assert "\n" not in last.reason.strip()
    cursors = [event.cursor for event in events if event.cursor]
    assert cursors == sorted(cursors)
