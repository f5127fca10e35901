"""Endpoints as server processes of this machine.

``<home>/local/endpoints/<name>/`` holds ``endpoint.json`` (what is deployed), ``token`` where one is due, and a folder
for every server process. The servers of one endpoint share its listening socket, so that its port never closes while
one follows another. A router process stands before them only while there is a canary.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError, StateError, TargetError
from kaptain_magics.targets.base import EndpointStatus, TargetConfig
from kaptain_magics.targets.endpoint_store import (
    EndpointStore,
    after_failure,
    changed,
    check_deployment,
    check_percentage,
    no_canary,
    url_of,
)
from kaptain_magics.targets.local.deployed import Deployed, ServedRevision
from kaptain_magics.targets.local.endpoint_locks import EndpointLocks
from kaptain_magics.targets.local.instances import (
    HUNG,
    SERVER,
    Instance,
    Launch,
    launch_process,
    wait_ready,
    why_dead,
)
from kaptain_magics.targets.local.local_traffic import DRAIN, LocalTraffic, port_of
from kaptain_magics.targets.local.server_environment import artifact, environment, is_free
from kaptain_magics.targets.server_options import GRPC_PORT, asks_for_replicas, common_options


class LocalServing:
    """Serves models on this machine.

    Args:
        config: The state folder.
        launch: Starts a server, such as by forking a warm worker; the default starts a fresh process.
        interpreter: Returns the Python that has a deployment's requirements.
    """

    name = "local"

    def __init__(
        self,
        config: TargetConfig,
        launch: Launch = launch_process,
        interpreter: Callable[[EndpointSpec], str] = lambda _: sys.executable,
    ) -> None:
        self._folder = config.home / "local" / "endpoints"
        self._variables = config.variables
        self._store = EndpointStore(self._folder, Deployed)
        self._locks = EndpointLocks(config.home / "local" / "turns")
        self._launch = launch
        self._interpreter = interpreter
        self._cancelled = threading.Event()
        self._traffic = LocalTraffic(self._folder, self._store, self._cancelled)

    def cancel(self) -> None:
        """End a ``deploy`` that waits; it then yields ``STOPPED``. May be called from another thread."""
        self._cancelled.set()

    # ---- ServingTarget ------------------------------------------------------------------------------------------

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Start a server for the revision and give it the endpoint's requests, or the canary's share of them.

        ``artifact_uri`` is a ``file:`` URI; its folder is served in place. Deployments of one endpoint follow one
        another in the order of their runs; each keeps its turn until its last event is taken.
        """
        self._cancelled.clear()
        yield StateChanged(state=RunState.RUNNING)
        yield from _notes(endpoint)
        with ExitStack() as stack:
            turn = self._locks.queue(endpoint.name, endpoint.run_id, stack)
            if not turn():
                yield Noted(text=f"Another deployment of {endpoint.name} is running: waiting for it to end.")
            yield from self._deploy(endpoint, turn)

    def _deploy(self, endpoint: EndpointSpec, turn: Callable[[], bool]) -> Iterator[Event]:
        servers: list[Instance] = []
        try:
            yield EndpointChanged(name=endpoint.name, state=EndpointState.PENDING)
            while not turn():
                if self._cancelled.wait(0.02):
                    raise ServingError("the deployment was stopped", "deploy it again")
            placed = self._start(endpoint, servers)
            self._put(endpoint, placed)
            servers.clear()
            yield changed(self.endpoint(endpoint.name))
            yield StateChanged(state=RunState.SUCCEEDED)
        except KaptainError as error:
            yield after_failure(self.endpoint, endpoint.name, error)
            stopped = self._cancelled.is_set()
            state = RunState.STOPPED if stopped else RunState.FAILED
            yield StateChanged(state=state, reason=error.message, hint=error.hint)
        finally:
            self._end(servers)
            if turn():
                self._sweep(endpoint.name)

    def endpoint(self, name: str) -> EndpointStatus:
        """Return the endpoint as it is now."""
        deployed = self._store.read(name)
        spec = deployed.stable.spec
        reason, hint = self._problem(name, deployed)
        requests: dict[str, int] = {}
        for placed in filter(None, (deployed.stable, deployed.canary)):
            answered = int(self._traffic.instance(name, placed.instance).ask({"do": "status"}).get("answered", 0))
            requests[placed.spec.revision] = requests.get(placed.spec.revision, 0) + answered
        traffic = {spec.revision: 100}
        if deployed.canary is not None:
            traffic = {spec.revision: 100 - deployed.percent, deployed.canary.spec.revision: deployed.percent}
        return EndpointStatus(
            name=name,
            state=EndpointState.FAILED if reason else EndpointState.READY,
            url=url_of(deployed.host, deployed.port, spec),
            model_id=spec.model_id,
            framework=spec.framework.value,
            protocol=spec.protocol,
            traffic=traffic,
            requests=requests,
            replicas=0 if reason else 1,
            reason=reason,
            hint=hint,
            headers=self._store.headers(name),
        )

    def stored_endpoints(self) -> list[str]:
        """Return the names of the endpoints in the state folder."""
        return self._store.names()

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints of this target."""
        statuses = []
        for name in self._store.names():
            with suppress(NotFoundError):
                statuses.append(self.endpoint(name))
        return statuses

    def server_log(self, name: str) -> str:
        """Return the log of the server that has the endpoint's requests."""
        deployed = self._store.read(name)
        instance = self._traffic.instance(name, deployed.stable.instance)
        log = instance.log.read_text("utf-8", "replace") if instance.log.exists() else ""
        reason, _ = self._problem(name, deployed)
        return f"{log}{name} is not ready: {reason}\n" if reason else log

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary so many percent: 100 promotes it, 0 rolls it back."""
        check_percentage(canary_percent)
        with self._locks.traffic(name):
            deployed = self._store.read(name)
            if deployed.canary is None:
                raise no_canary(name)
            if canary_percent in (0, 100):
                self._traffic.settle(name, deployed, deployed.canary if canary_percent else deployed.stable)
            else:
                self._traffic.route(name, deployed, deployed.canary, canary_percent)

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary after their requests in flight are answered."""
        with self._locks.traffic(name):
            deployed = self._store.read(name)
            self._end([self._traffic.instance(name, i) for i in deployed.instances])
            self._store.remove(name)
        with self._locks.unless_deploying(name) as idle:
            if idle:
                self._end(self._unused(name))
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def clean(self, force: bool = False) -> list[str]:
        """Find what killed deployments left behind and, with ``force``, remove it; returns a line for each."""
        lines = []
        for name in sorted(path.name for path in self._folder.glob("*") if path.is_dir()):
            with self._locks.unless_deploying(name) as idle, suppress(StateError):
                if not idle:
                    continue
                left = self._unused(name)
                lines += [
                    f"server {instance.folder.name} of endpoint {name}, which has no requests" for instance in left
                ]
                if force:
                    self._end(left)
                if self._store.find(name) is None:
                    lines += [] if left else [f"folder of endpoint {name}"]
                    if force:
                        shutil.rmtree(self._folder / name, ignore_errors=True)
        return lines

    def _unused(self, name: str) -> list[Instance]:
        """Return the servers that have none of the endpoint's requests."""
        deployed = self._store.find(name)
        used = deployed.instances if deployed is not None else []
        return [Instance(path) for path in (self._folder / name).glob("i-*") if path.name not in used]

    @staticmethod
    def _end(leaving: Sequence[Instance]) -> None:
        """End servers after their requests in flight are answered, and remove what they leave."""
        for instance in leaving:
            instance.end()
        for instance in leaving:
            instance.wait(DRAIN + 5)
            instance.remove()

    # ---- starting a server -----------------------------------------------------------------------------------

    def _start(self, spec: EndpointSpec, servers: list[Instance]) -> ServedRevision:
        """Start a server and wait until it has its model; it does not accept requests yet."""
        if sys.platform == "win32":
            raise TargetError("the local target cannot serve on Windows", "deploy with --on docker")
        deployed = self._store.find(spec.name)
        self._check(spec, deployed)
        folder = artifact(spec)
        port, handover = spec.port, ""
        if deployed is not None:
            port, handover = self._port(spec, deployed)
        token = self._store.token(spec)
        python = self._interpreter(spec)
        instance = Instance.make(self._folder / spec.name)
        servers.append(instance)
        options: dict[str, Any] = {
            **common_options(spec, str(folder)),
            "host": spec.host,
            "port": port,
            "drain_seconds": DRAIN,
            "private": str(instance.private),
            "control": str(instance.control),
            "handover": handover,
            "hold": True,
            "patience": spec.timeout + 60.0,
            "state": str(instance.state),
            "failure": str(instance.failure_file),
        }
        if GRPC_PORT in spec.serving_config:
            options[GRPC_PORT] = int(spec.serving_config[GRPC_PORT])
        started = instance.start(self._launch, SERVER, options, environment(spec, token, self._variables(spec)), python)
        wait_ready(instance, started, time.monotonic() + spec.timeout, self._cancelled.is_set)
        return ServedRevision(spec, instance.folder.name)

    def _check(self, spec: EndpointSpec, deployed: Deployed | None) -> None:
        alive = deployed is not None and self._problem(spec.name, deployed) == ("", "")
        check_deployment(spec, alive)

    def _port(self, spec: EndpointSpec, deployed: Deployed) -> tuple[int, str]:
        """Return the port to bind, or the control socket of the server that hands its listening socket over."""
        same = spec.host == deployed.host and spec.port in (0, deployed.port)
        if same or spec.canary_percent is not None:
            for name in deployed.instances:
                instance = self._traffic.instance(spec.name, name)
                if instance.ask({"do": "status"}, HUNG):
                    return deployed.port, str(instance.control)
            for name in deployed.instances:  # none answers: those that are alive hang, and keep the port
                instance = self._traffic.instance(spec.name, name)
                instance.end()
                instance.wait(HUNG)
        if spec.port:
            return spec.port, ""
        return (deployed.port if is_free(deployed.host, deployed.port) else 0), ""

    # ---- moving the requests ----------------------------------------------------------------------------------

    def _put(self, spec: EndpointSpec, placed: ServedRevision) -> None:
        """Give a ready server its requests."""
        with self._locks.traffic(spec.name):
            deployed = self._store.find(spec.name)
            self._check(spec, deployed)
            instance = self._traffic.instance(spec.name, placed.instance)
            if deployed is not None and spec.canary_percent is not None:
                if not instance.ask({"do": "adopt"}):
                    raise ServingError("the canary's server ended", instance.log_end())
                self._traffic.route(spec.name, deployed, placed, spec.canary_percent)
                return
            if deployed is not None:
                self._traffic.settle(spec.name, deployed, placed)
                return
            self._traffic.accept(spec.name, placed)
            self._store.write(spec.name, Deployed(host=spec.host, port=port_of(instance), stable=placed))

    # ---- what is written down ---------------------------------------------------------------------------------

    def _problem(self, name: str, deployed: Deployed) -> tuple[str, str]:
        """Return why an endpoint does not answer, and the next step; empty when it does."""
        stable = self._traffic.instance(name, deployed.stable.instance)
        again = f"start it again: %kaptain_deploy {deployed.stable.spec.model_id} --replace"
        answers = stable.ask({"do": "status"}, HUNG).get("ready")
        if not stable.alive:
            return why_dead(stable), again
        if not answers:
            return "its server does not answer", again
        if deployed.router and not self._traffic.instance(name, deployed.router).alive:
            return "the router of its canary was killed", f"%kaptain promote {name}, or %kaptain rollback {name}"
        return "", ""

    def _sweep(self, name: str) -> None:
        """Remove the folders of servers that have left; only in turn, while no other deployment starts a server."""
        with suppress(KaptainError, OSError):
            for instance in self._unused(name):
                if not instance.alive:
                    instance.remove()
            if self._store.find(name) is None and not list((self._folder / name).glob("i-*")):
                shutil.rmtree(self._folder / name, ignore_errors=True)


def _notes(spec: EndpointSpec) -> Iterator[Event]:
    if spec.resources.memory_bytes is not None:
        yield Noted(text="The local target does not limit the memory of a server: --memory counts on other targets.")
    if asks_for_replicas(spec):
        hint = "use --workers for several processes"
        yield Noted(text="the local target has one replica: replica options are ignored", warning=True, hint=hint)
    if spec.transformer:
        yield Noted(text="the local target has no transformers: it is ignored", warning=True)
