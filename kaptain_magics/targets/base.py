"""The protocols of targets.

A new target is one class that implements ``Target`` and what else it can do, and one entry point in the group
``kaptain_magics.targets``. Callers ask for what a target can do, never for its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import msgspec

from kaptain_magics.core import plugins
from kaptain_magics.core.events import Event
from kaptain_magics.core.secrets import masked
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import ConfigError, StateError

_R = TypeVar("_R", bound=msgspec.Struct)
_S = TypeVar("_S", bound=JobSpec | EndpointSpec | StudySpec)


class Check(msgspec.Struct, frozen=True):
    """One finding of a target about itself.

    Attributes:
        name: What was looked at.
        ok: Whether it can be used.
        detail: What was found, in one sentence.
        hint: The next step where it cannot.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


class JobRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A submitted job; enough to find it again from another process.

    Attributes:
        target: The target's name.
        name: The job's name.
        record: What the target needs to find it (folder, namespace, process id ...): a struct of the target's own as
            plain values, see ``of`` and ``read``; no secrets.
        data: The same as older versions wrote it, as texts; only read.
    """

    target: str
    name: str
    record: dict[str, Any] = {}
    data: dict[str, str] = {}

    @classmethod
    def of(cls, target: str, name: str, record: msgspec.Struct) -> Self:
        """Return the reference of a job with what its target needs to find it."""
        return cls(target=target, name=name, record=msgspec.to_builtins(record, str_keys=True))

    def read(self, kind: type[_R]) -> _R:
        """Return the record as the struct that ``of`` was given.

        Raises:
            StateError: It has another form.
        """
        try:
            return msgspec.convert(self.record, kind)
        except msgspec.ValidationError as error:
            what = f"the reference of job {self.name} cannot be read: {error}"
            raise StateError(what, f"use the version of target {self.target} that started the job") from error


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint as it is now.

    Attributes:
        name: The endpoint's name.
        state: Its state.
        url: Where to send requests from here.
        cluster_url: The address inside the cluster, where it is another.
        open_with: Command that opens the endpoint at port 8080 of this machine, where ``url`` ends with this process.
        model_id: The model's id.
        framework: The model's framework.
        protocol: ``v2`` or ``v1``.
        traffic: Percent of requests by revision.
        requests: Requests answered so far by revision, where the target counts them.
        replicas: Replicas that are ready.
        reason: Why it is not ready.
        hint: The next step where it is not ready.
        headers: Headers that a request needs, such as the token's; never shown.
    """

    name: str
    state: EndpointState
    url: str = ""
    cluster_url: str = ""
    open_with: str = ""
    model_id: str = ""
    framework: str = ""
    protocol: str = "v2"
    traffic: dict[str, int] = {}
    requests: dict[str, int] = {}
    replicas: int = 0
    reason: str = ""
    hint: str = ""
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name != "headers"}
        masked = {"headers": dict.fromkeys(self.headers, "***")} if self.headers else {}
        return f"EndpointStatus({', '.join(f'{name}={value!r}' for name, value in {**shown, **masked}.items())})"


@runtime_checkable
class Target(Protocol):
    """Runs jobs: each is submitted, followed from any process, and stopped."""

    name: str

    def check(self) -> list[Check]:
        """Look whether the target is usable here, with cause and next step where it is not."""

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return what would be applied for ``spec`` (``--dry-run``), secrets masked."""

    def submit(self, job: JobSpec) -> JobRef:
        """Start a job and return at once.

        Raises:
            TargetError: The target cannot be used or refuses the job; nothing is left behind.
        """

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events until a terminal ``StateChanged``, which is the last.

        Args:
            job: The job, submitted by this process or another.
            after: ``cursor`` of the last event that the caller has; the log goes on behind it, facts may be repeated.
        """

    def stop(self, job: JobRef) -> None:
        """End a job and all that belongs to it; ``follow`` then yields ``STOPPED``. Ended jobs are left alone."""


@runtime_checkable
class ServingTarget(Protocol):
    """Serves models: endpoints with a stable revision and perhaps a canary."""

    name: str

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Deploy or replace an endpoint; yields events until it is ready or has failed.

        The last event is ``StateChanged`` ``SUCCEEDED`` (the model answers ready) or ``FAILED``; an endpoint that was
        there before still serves after a failure.
        """

    def endpoint(self, name: str) -> EndpointStatus:
        """Return the endpoint as it is now.

        Raises:
            NotFoundError: There is none of that name.
        """

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints of this target."""

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary so many percent: 100 promotes it, 0 rolls it back."""

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary after their requests in flight are answered."""


@runtime_checkable
class Cancellable(Protocol):
    """A serving target whose ``deploy`` can be ended while it waits."""

    def cancel(self) -> None:
        """End a ``deploy`` that waits; it then yields ``STOPPED``. May be called from another thread."""


@runtime_checkable
class ReadyAhead(Protocol):
    """A target that can prepare for jobs that nobody has asked for yet."""

    def make_ready(
        self, modules: Sequence[str], jobs: Sequence[JobSpec], owner: int, cancelled: Callable[[], bool]
    ) -> None:
        """Prepare for jobs like these, and for others that import some of the modules.

        Args:
            modules: Names of modules, of any libraries.
            jobs: What ran last.
            owner: The process that it is for; what was prepared ends with it unless it was used.
            cancelled: Asked now and then whether it is not wanted any more.
        """


@runtime_checkable
class WarmStart(Protocol):
    """A target that can get ready for jobs ahead of them."""

    def warm_up(self, job: JobSpec) -> None:
        """Begin what such jobs need, such as imports, and return at once."""


@runtime_checkable
class ServesInPlace(Protocol):
    """A serving target whose servers read the model from a folder of this machine."""

    def serve_like(self, job: JobSpec) -> None:
        """Start the next server from what such a job has imported already."""


@runtime_checkable
class ListensHere(Protocol):
    """A serving target whose endpoints listen on this machine, can ask for a token and are in the state folder."""

    def stored_endpoints(self) -> list[str]:
        """Return the names of the endpoints in the state folder; asks no server."""


@runtime_checkable
class ServerLogs(Protocol):
    """A serving target whose servers' logs can be read."""

    def server_log(self, name: str) -> str:
        """Return the log of the server that has an endpoint's requests.

        Raises:
            NotFoundError: There is none of that name.
        """


@runtime_checkable
class ReadsHere(Protocol):
    """A target whose jobs read files of this machine where they are; to the jobs of others they are sent."""

    def reads_here(self, path: str) -> bool:
        """Whether a job can read what is at an absolute path of this machine."""


@runtime_checkable
class GpuTarget(Protocol):
    """A target that knows its GPUs before anything starts."""

    def check_gpus(self, count: int) -> None:
        """Refuse more GPUs than one job can get.

        Raises:
            TargetError: There are fewer, with what was looked at.
        """


@runtime_checkable
class RunEnder(Protocol):
    """A target that finds what belongs to a run without the process that supervised it."""

    def end_run(self, run_id: str) -> None:
        """End the jobs of a run whose supervisor was killed."""


@runtime_checkable
class Cleanable(Protocol):
    """A target that finds what it left behind."""

    def clean(self, force: bool = False) -> list[str]:
        """Find leftovers of ended and killed runs and, with ``force``, remove them; returns a line for each."""


@runtime_checkable
class ClusterInventory(Cleanable, Protocol):
    """A target whose objects can be listed and removed by kind (Job, Experiment, InferenceService, Secret ...)."""

    def list_resources(self, *kinds: str) -> list[str]:
        """Return a line for every object that was made here, of these kinds or of all."""

    def delete_resource(self, kind: str, name: str) -> list[str]:
        """Remove one object; returns a line for what was removed.

        Raises:
            NotFoundError: There is none.
        """

    def delete_all(self, kinds: Sequence[str], force: bool = False) -> list[str]:
        """Remove the ended (not ready) objects of these kinds, with ``force`` all; returns a line for each."""


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a target is configured with when it is created.

    Attributes:
        home: The state folder (``KAPTAIN_HOME``).
        cache: Folder for things that can be made again.
        settings: The target's own settings by name (``namespace``, ``context``, ``warm`` ...).
        storage_env: Environment variables that give a job access to the object store (secrets!).
    """

    home: Path
    cache: Path
    settings: Mapping[str, str] = {}
    storage_env: Mapping[str, str] = {}

    def variables(self, spec: JobSpec | EndpointSpec) -> dict[str, str]:
        """Return the environment variables that a job or an endpoint was given (secrets!).

        Raises:
            ConfigError: One that is to be passed on is not set here.
        """
        return spec.env | {name: os.environ[name] for name in present(spec.env_names)}

    def __repr__(self) -> str:
        return f"TargetConfig(home={str(self.home)!r})"


def without_values(spec: _S) -> _S:
    """Return a spec as it may be shown: masks are the values of its variables, whether they are set here or not."""
    if isinstance(spec, StudySpec):
        return msgspec.structs.replace(spec, job=without_values(spec.job))
    return msgspec.structs.replace(spec, env=masked((*spec.env, *spec.env_names)), env_names=())


def present(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of variables that are passed on, all of which are set.

    Raises:
        ConfigError: One is not.
    """
    names = tuple(names)
    for name in names:
        if name not in os.environ:
            raise ConfigError(
                f"--env {name} passes a variable on, but it is not set in this environment",
                f"set it (os.environ[{name!r}] = getpass.getpass()), or pass another value with --env",
            )
    return names


GROUP = "kaptain_magics.targets"  # of entry points
TARGETS = {
    "local": "kaptain_magics.targets.local:LocalTarget",
    "docker": "kaptain_magics.targets.docker:DockerTarget",
    "kubernetes": "kaptain_magics.targets.kubernetes:KubernetesTarget",
}


def target_names() -> list[str]:
    """Return the names of all targets that are installed."""
    return plugins.names(GROUP, TARGETS)


def open_target(name: str, config: TargetConfig) -> Target:
    """Return the target of that name; its module is imported only now.

    Raises:
        ConfigError: There is no such target.
    """
    target: Target = plugins.load(GROUP, TARGETS, name, "target")(config)
    return target
