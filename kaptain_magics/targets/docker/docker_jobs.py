"""Jobs as containers of a Docker engine."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kaptain_magics.core.events import ArtifactSaved, Event, StateChanged
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.files import private_folder, write_whole
from kaptain_magics.images.engine import ContainerGoneError, Engine, explain_engine_error
from kaptain_magics.images.progress import CancelledError, Progress
from kaptain_magics.runtime.own_requirements import STORAGE_PACKAGES
from kaptain_magics.targets.background import in_background
from kaptain_magics.targets.base import JobRef, TargetConfig
from kaptain_magics.targets.docker import container_settings
from kaptain_magics.targets.docker.container_files import copy_artifact_out, copy_fetched_out, copy_in, job_archive
from kaptain_magics.targets.docker.container_output import ContainerOutput
from kaptain_magics.targets.docker.container_record import ContainerRecord
from kaptain_magics.targets.docker.ready_images import ImageProvider, ReadyImage
from kaptain_magics.targets.output import OutputReader
from kaptain_magics.targets.reading import explain

if TYPE_CHECKING:
    from docker.models.containers import Container

_TICK = 0.2  # seconds between looks at a silent job
_GRACE_PERIOD = 5  # seconds between SIGTERM and SIGKILL of a job that is stopped
_ENDED = ("exited", "dead")


class _WaitingJob:
    """A job of this process that waits for its image."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.stopping = False


class DockerJobs:
    """Runs jobs in containers.

    Args:
        config: State folder, cache, settings and store.
        engine: The engine.
        images: Finds and makes images.
    """

    name = "docker"

    def __init__(self, config: TargetConfig, engine: Engine, images: ImageProvider) -> None:
        self._config, self._engine, self._images = config, engine, images
        self._waiting: dict[str, _WaitingJob] = {}

    def submit(self, job: JobSpec) -> JobRef:
        """Start the job's container, or leave that to ``follow`` where an image or packages have to be made first."""
        if job.workers > 1:
            raise TargetError(
                f"the docker target runs one worker, not {job.workers}", "use --on kubernetes, or drop --workers"
            )
        self._access(job)  # missing certificates are reported now
        private_folder(Path(job.folder))
        if job.image.image_name:
            ready = self._images.built(job)
        else:
            ready = self._images.find_ready(job.image, _requirements_of(job))
        if ready is None:
            self._waiting[job.name] = _WaitingJob(job)
        else:
            self._start(job, ready)
        return JobRef.of(self.name, job.name, ContainerRecord.of_job(job))

    def _start(self, job: JobSpec, image: ReadyImage) -> None:
        settings = {**self._settings(job, image.user), "volumes": dict(image.volumes)}
        settings["environment"]["PYTHONPATH"] = container_settings.search_path(image.path)
        access, authorities = self._access(job)
        hidden = container_settings.hidden_environment(self._config.variables(job), access, image.path)
        with job_archive(job, image.built, hidden, authorities) as archive:
            with self._engine.translate_errors(image.name):
                container = self._engine.client.containers.create(image.id, **settings)
            try:
                copy_in(self._engine, container, archive)
                with self._engine.translate_errors(image.name):
                    container.start()
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to report
                    container.remove(force=True, v=True)
                raise

    def _settings(self, job: JobSpec, image_user: str) -> dict[str, Any]:
        user = container_settings.run_as(image_user, self._config.settings)
        access, authorities = self._access(job)
        if authorities:
            access["AWS_CA_BUNDLE"] = container_settings.AUTHORITIES
        env, network = self._images.reach(container_settings.job_environment(job, access))
        labels = container_settings.labels(self._config.home, "job", job.model_id, job.run_id, job.name)
        settings = container_settings.job_container(
            job, env={**container_settings.nameless(user), **env}, labels=labels
        )
        return {**settings, **network, "user": user}

    def _access(self, job: JobSpec) -> tuple[dict[str, str], bytes]:
        """Return access to the job's store as its container uses it, and the certificates of a private authority."""
        from kaptain_magics.storage.credentials import portable_access

        if job.upload_uri.startswith("s3://"):
            return portable_access(self._config.storage_env)
        return {name: text for name, text in self._config.storage_env.items() if name != "AWS_CA_BUNDLE"}, b""

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events; any process can, for as long as the container or the note of its end is there."""
        waiting = self._waiting.get(job.name)
        if waiting is not None:
            last: StateChanged | None = None
            for event in self._prepare(waiting):
                if isinstance(event, StateChanged):
                    last = event
                else:
                    yield event
            self._waiting.pop(job.name, None)
            if last is not None:
                yield last
                return
        record = ContainerRecord.of_ref(job)
        noted = _noted_end(record)
        if noted is not None:
            yield noted
            return
        try:
            container = self._container(job)
        except ContainerGoneError:
            yield StateChanged(
                state=RunState.FAILED,
                reason="the job's container was removed or never created",
                hint="run it again",
            )
            return
        yield StateChanged(state=RunState.RUNNING)
        yield from self._watch(record, container, after)

    def _prepare(self, waiting: _WaitingJob) -> Iterator[Event]:
        """Make image and packages, then start; yields a state only when the job has ended by that."""
        spec = waiting.spec
        make: Callable[[Progress], ReadyImage]
        if spec.image.image_name:
            make = functools.partial(self._images.build, spec, _requirements_of(spec))
        else:
            make = functools.partial(self._images.prepare, spec.image, _requirements_of(spec))
        try:
            image = yield from in_background(make, lambda: waiting.stopping)
            self._start(spec, image)
            if waiting.stopping:  # asked to stop at the last moment
                self.stop(JobRef.of(self.name, spec.name, ContainerRecord.of_job(spec)))
        except CancelledError:
            yield StateChanged(state=RunState.STOPPED, reason="stopped before it started")
        except KaptainError as error:
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)

    def _watch(self, record: ContainerRecord, container: Container, after: int) -> Iterator[Event]:
        reader = OutputReader(record.metrics, after, upload_uri=record.upload_uri, settings=record.settings)
        deadline = math.inf if record.timeout is None else _started(container) + record.timeout
        # Running until its output ends, which is when the container has. A limit of time makes it end: the loop only
        # asks for that, and goes on reading what the job says until then. An empty piece comes at every tick.
        with contextlib.closing(ContainerOutput(self._engine, str(container.id)).follow(_TICK)) as output:
            for piece in output:
                yield from self._handled(container, reader.feed(piece))
                if time.time() > deadline:
                    self._end(record, container, "timeout")
        yield from self._handled(container, reader.finish())
        last = self._last_state(record, container, reader.tail)
        if record.fetches and last.state is RunState.SUCCEEDED:
            try:
                copy_fetched_out(self._engine, container, reader.fetched, record.path)
            except KaptainError as error:
                last = StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
        write_whole(record.path / "end.json", msgspec.json.encode(last))
        with contextlib.suppress(TargetError), self._engine.translate_errors():
            container.remove(force=True, v=True)
        yield last

    def _handled(self, container: Container, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, ArtifactSaved):
                copy_artifact_out(self._engine, container, event)
            yield event

    def _last_state(self, record: ContainerRecord, container: Container, tail: str) -> StateChanged:
        try:
            with self._engine.translate_errors():
                container.wait(timeout=30)
                container.reload()
        except ContainerGoneError:
            return StateChanged(
                state=RunState.FAILED, reason="the job's container was removed while it ran", hint="run it again"
            )
        state = container.attrs["State"]
        code = int(state["ExitCode"])
        code = 128 - code if 128 < code < 160 else code
        ended_for = _why_ended(record)
        if code == 0:
            return StateChanged(state=RunState.SUCCEEDED, exit_code=0)
        if ended_for == "timeout":
            reason, hint = f"timed out after {record.timeout:g} s", "give it more time with --timeout"
        elif ended_for:
            return StateChanged(state=RunState.STOPPED, reason="stopped", exit_code=code)
        elif state.get("OOMKilled"):
            limit = container.attrs["HostConfig"].get("Memory") or 0
            at = f" of {limit / 1e6:.0f} MB" if limit else ""
            reason, hint = f"out of memory: the job needed more than its limit{at}", "give it more with --memory"
        elif state.get("Error") or (code == 127 and "exec python failed" in tail):
            error = explain_engine_error(state.get("Error") or 'exec: "python": not found')
            reason, hint = error.message, error.hint
        else:
            reason, hint = explain(code, tail)
        return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)

    def stop(self, job: JobRef) -> None:
        """End the job's container: asked first, killed five seconds later."""
        waiting = self._waiting.get(job.name)
        if waiting is not None:
            waiting.stopping = True
            return
        record = ContainerRecord.of_ref(job)
        if _noted_end(record) is not None:
            return
        with contextlib.suppress(ContainerGoneError):
            self._end(record, self._container(job), "stop")

    def _end(self, record: ContainerRecord, container: Container, reason: str) -> None:
        if _why_ended(record):
            return
        with self._engine.translate_errors():
            container.reload()
            if container.status in _ENDED:
                return
            write_whole(record.path / "asked-to-end", reason.encode())
            container.stop(timeout=_GRACE_PERIOD)

    def _container(self, job: JobRef) -> Container:
        with self._engine.translate_errors():
            return self._engine.client.containers.get(job.name)


def _requirements_of(job: JobSpec) -> tuple[str, ...]:
    """Return the requirements of a job with those of the runtime itself."""
    return (*job.requirements, *(STORAGE_PACKAGES if job.upload_uri.startswith("s3://") else ()))


def _why_ended(record: ContainerRecord) -> str:
    """Return what the job was asked to end for: ``stop``, ``timeout``, or nothing."""
    with contextlib.suppress(OSError):
        return (record.path / "asked-to-end").read_text()
    return ""


def _noted_end(record: ContainerRecord) -> StateChanged | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((record.path / "end.json").read_bytes(), type=StateChanged)
    return None


def _started(container: Container) -> float:
    """Return when the container was started, in seconds since 1970."""
    text = str(container.attrs["State"]["StartedAt"])
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return time.time()
