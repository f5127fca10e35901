"""Endpoints as containers: a gate that holds the port for as long as the endpoint lives, and a server a revision.

The gate routes to the servers over Unix sockets in a volume that they share, so that a server can follow another, or
stand beside it as a canary, while the port never closes. ``<home>/docker/endpoints/<name>/`` holds what is deployed.
"""

from __future__ import annotations

import functools
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, ServingError, TargetError
from kaptain_magics.files import locked
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.progress import CancelledError
from kaptain_magics.runtime.own_requirements import SERVING_PACKAGES
from kaptain_magics.targets.background import in_background
from kaptain_magics.targets.base import EndpointStatus, TargetConfig
from kaptain_magics.targets.docker.endpoint_containers import EndpointContainers
from kaptain_magics.targets.docker.endpoint_record import EndpointRecord, Revision
from kaptain_magics.targets.docker.ready_images import ImageProvider, ReadyImage
from kaptain_magics.targets.endpoint_store import (
    EndpointStore,
    after_failure,
    changed,
    check_deployment,
    check_percentage,
    no_canary,
    url_of,
)
from kaptain_magics.targets.server_options import GRPC_PORT, asks_for_replicas

_LOCK_TIMEOUT = 120.0  # seconds for another process that changes the same endpoint


class DockerServing:
    """Serves models in containers.

    Args:
        config: State folder, cache, settings and store.
        engine: The engine.
        images: Finds and makes images.
    """

    def __init__(self, config: TargetConfig, engine: Engine, images: ImageProvider) -> None:
        self._config, self._images = config, images
        self._folder = config.home / "docker" / "endpoints"
        self._store = EndpointStore(self._folder, EndpointRecord)
        self._servers = EndpointContainers(engine, config)
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End a ``deploy`` that waits; it then yields ``STOPPED``. May be called from another thread."""
        self._cancelled.set()

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Start a server for the revision and give it the endpoint's requests, or the canary's share of them."""
        self._cancelled.clear()
        yield StateChanged(state=RunState.RUNNING)
        yield from _notes(endpoint)
        started: list[str] = []
        try:
            yield EndpointChanged(name=endpoint.name, state=EndpointState.PENDING)
            self._check(endpoint, self._store.find(endpoint.name))
            requirements = (*endpoint.requirements, *SERVING_PACKAGES)
            image = self._images.find_ready(endpoint.image, requirements)
            if image is None:
                prepare = functools.partial(self._images.prepare, endpoint.image, requirements)
                image = yield from in_background(prepare, self._cancelled.is_set)
            with _ModelFolder(endpoint, self._config) as folder:
                revision = self._servers.start(endpoint, image, folder, self._store.token(endpoint), started)
            yield Noted(text=f"Waiting for the server of {endpoint.name} to load its model.")
            self._servers.wait_ready(revision.server, endpoint.timeout, self._stop_if_cancelled)
            yield from self._give_requests(endpoint, revision, image, started)
            yield changed(self.endpoint(endpoint.name))
            yield StateChanged(state=RunState.SUCCEEDED)
        except CancelledError:
            stopped = ServingError("the deployment was stopped")
            yield after_failure(self.endpoint, endpoint.name, stopped)
            yield StateChanged(state=RunState.STOPPED, reason=stopped.message)
        except KaptainError as error:
            yield after_failure(self.endpoint, endpoint.name, error)
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
        finally:
            self._servers.remove(started)
            if self._store.find(endpoint.name) is None:
                self._remove_rest(endpoint.name)

    def endpoint(self, name: str) -> EndpointStatus:
        """Return the endpoint as it is now.

        Raises:
            NotFoundError: There is none of that name.
        """
        deployed = self._store.read(name)
        spec = deployed.stable.spec
        reason = self._servers.why_not_ready(deployed)
        requests: dict[str, int] = {}
        for revision in deployed.revisions:
            answered = int(self._servers.ask(revision.server, {"do": "status"}).get("answered", 0))
            requests[revision.spec.revision] = requests.get(revision.spec.revision, 0) + answered
        return EndpointStatus(
            name=name,
            state=EndpointState.FAILED if reason else EndpointState.READY,
            url=url_of(deployed.host, deployed.port, spec),
            model_id=spec.model_id,
            framework=spec.framework.value,
            protocol=spec.protocol,
            traffic=deployed.traffic,
            requests=requests,
            replicas=0 if reason else 1,
            reason=reason,
            headers=self._store.headers(name),
        )

    def server_log(self, name: str) -> str:
        """Return the log of the server that has the endpoint's requests."""
        return self._servers.log(self._store.read(name).stable.server)

    def stored_endpoints(self) -> list[str]:
        """Return the names of the endpoints in the state folder."""
        return self._store.names()

    def endpoints(self) -> list[EndpointStatus]:
        """Return the endpoints of this state folder; each is asked how it is."""
        return [self.endpoint(name) for name in self._store.names()]

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary so many percent: 100 promotes it, 0 rolls it back."""
        check_percentage(canary_percent)
        with self._turn(name):
            deployed = self._store.read(name)
            if deployed.canary is None:
                raise no_canary(name)
            stays = deployed.canary if canary_percent == 100 else deployed.stable
            beside = None if canary_percent in (0, 100) else deployed.canary
            self._retire_others(deployed, self._route(deployed, stays, beside, canary_percent))

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary after their requests in flight are answered."""
        with self._turn(name):
            deployed = self._store.read(name)
            self._servers.retire(deployed.containers)
            self._store.remove(name)
        self._remove_rest(name)

    def knows(self, name: str, container: str = "") -> bool:
        """Whether an endpoint is deployed, and a container one of its own."""
        deployed = self._store.find(name) if name else None
        if deployed is None:
            return False
        return not container or container in deployed.containers

    # ---- moving the requests -------------------------------------------------------------------------------------

    def _give_requests(
        self, spec: EndpointSpec, revision: Revision, image: ReadyImage, started: list[str]
    ) -> Iterator[Event]:
        """Give a ready server its requests: through the gate that is there, else through a new one on its port.

        What serves is recorded first; from then on no failure may remove it, so ``started`` is emptied.
        """
        with self._turn(spec.name):
            deployed = self._store.find(spec.name)
            self._check(spec, deployed)
            if deployed is not None and self._servers.runs(deployed.gate) and spec.port in (0, deployed.port):
                if spec.canary_percent is None:
                    after = self._route(deployed, revision, None, 0)
                else:
                    after = self._route(deployed, deployed.stable, revision, spec.canary_percent)
            else:
                port = deployed.port if deployed is not None else 0
                gate, port = self._servers.start_gate(spec, image, revision.server, port, started)
                after = EndpointRecord(host=spec.host, port=port, gate=gate, stable=revision)
                self._store.write(spec.name, after)
            started.clear()
            try:
                self._retire_others(deployed, after)
            except TargetError as error:
                hint = "%kaptain clean --force removes it"
                text = f"a container of the previous revision could not be removed: {error.message}"
                yield Noted(text=text, warning=True, hint=hint)

    def _route(
        self, deployed: EndpointRecord, stable: Revision, canary: Revision | None, percent: int
    ) -> EndpointRecord:
        """Route to these servers only, and record it."""
        after = EndpointRecord(
            host=deployed.host,
            port=deployed.port,
            gate=deployed.gate,
            stable=stable,
            canary=canary,
            percent=percent if canary is not None else 0,
        )
        self._servers.route(after)
        try:
            self._store.write(stable.spec.name, after)
        except BaseException:
            self._servers.route(deployed)  # what is not recorded must not serve: its server is removed
            raise
        return after

    def _retire_others(self, deployed: EndpointRecord | None, after: EndpointRecord) -> None:
        """Let the containers that get no requests any more answer what they have, then remove them."""
        if deployed is not None:
            self._servers.retire([name for name in deployed.containers if name not in after.containers])

    def _check(self, spec: EndpointSpec, deployed: EndpointRecord | None) -> None:
        alive = deployed is not None and not self._servers.why_not_ready(deployed)
        check_deployment(spec, alive)

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _turn(self, name: str) -> AbstractContextManager[None]:
        return locked(self._folder / f".{name}.lock", _LOCK_TIMEOUT)

    # ---- what a server needs -------------------------------------------------------------------------------------

    def _remove_rest(self, name: str) -> None:
        with suppress(KaptainError):
            self._servers.remove_volume(name)
        shutil.rmtree(self._folder / name, ignore_errors=True)


class _ModelFolder:
    """The folder of a model on this machine, for as long as it is copied into a container."""

    def __init__(self, spec: EndpointSpec, config: TargetConfig) -> None:
        self._spec, self._config = spec, config
        self._fetched: Path | None = None

    def __enter__(self) -> Path:
        from kaptain_magics.targets.docker.container_files import local_folder

        folder = local_folder(self._spec.artifact_uri)
        if folder is not None:
            return folder
        from kaptain_magics.storage import open_store

        self._fetched = self._config.cache / "docker" / "models" / f"{self._spec.revision}-{secrets.token_hex(4)}"
        store = open_store(self._spec.artifact_uri, dict(self._config.storage_env))
        store.get(self._spec.artifact_uri, self._fetched)
        return self._fetched

    def __exit__(self, *_: object) -> None:
        if self._fetched is not None:
            shutil.rmtree(self._fetched, ignore_errors=True)


def _notes(spec: EndpointSpec) -> Iterator[Event]:
    if asks_for_replicas(spec):
        hint = "use --workers for several processes"
        yield Noted(text="the docker target has one replica: replica options are ignored", warning=True, hint=hint)
    if spec.transformer:
        yield Noted(text="the docker target has no transformers: it is ignored", warning=True)
    if GRPC_PORT in spec.serving_config:
        yield Noted(text=f"the docker target serves over HTTP only: {GRPC_PORT} is ignored", warning=True)
