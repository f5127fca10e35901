"""The containers of an endpoint: a server for each revision, and the gate, which holds the port and routes to them.

A gate or server is restarted by the engine only once it has been ready (``_RESTART``): until then its end is the
deployment's failure, with the reason that it left in ``_FAILURE``.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kaptain_magics.core.failures import Failure
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import KaptainError, ServingError
from kaptain_magics.images.build_context import FOLDER, RUNTIME, Entry, runtime_entries
from kaptain_magics.images.engine import ContainerGoneError, Engine
from kaptain_magics.images.tar_files import files_below
from kaptain_magics.runtime.threads import thread_limits
from kaptain_magics.targets.base import TargetConfig, without_values
from kaptain_magics.targets.docker import container_settings
from kaptain_magics.targets.docker.container_files import archive, copy_in, copy_out
from kaptain_magics.targets.docker.endpoint_record import EndpointRecord, Revision
from kaptain_magics.targets.docker.ready_images import ReadyImage
from kaptain_magics.targets.reading import explain
from kaptain_magics.targets.server_options import common_options

if TYPE_CHECKING:
    from docker.models.containers import Container

SOCKETS = "/run/kaptain"  # where the volume with the sockets of an endpoint is mounted
OPTIONS = f"{FOLDER}/{RUNTIME}/options.json"
MODEL = f"{FOLDER}/model"
_PORT = 8080  # the gate's, inside
_DRAIN = 30.0  # seconds for requests in flight when a server leaves
_RESTART: Any = {"Name": "unless-stopped"}  # also after the engine or the machine was started again
_ASK_TIMEOUT = 2.0  # seconds that one look at a starting server may take
_STATE = f"{FOLDER}/state"  # a folder that the server may write to, whatever user it runs as
_FAILURE = f"{_STATE}/failure.json"  # why it ended by itself
_HINT = "look at the model and at the requirements of its deployment"


@functools.cache
def _ask() -> str:
    """Return the program that asks a server. It goes with each call: containers of older versions have another one."""
    return Path(__file__).parents[2].joinpath("serving", "ask.py").read_text("utf-8")


class EndpointContainers:
    """Makes, asks and removes the containers of endpoints.

    Args:
        engine: The engine.
        config: State folder and settings.
    """

    def __init__(self, engine: Engine, config: TargetConfig) -> None:
        self._engine, self._config = engine, config

    # ---- making --------------------------------------------------------------------------------------------------

    def start(self, spec: EndpointSpec, image: ReadyImage, model: Path, token: str, created: list[str]) -> Revision:
        """Start a server of a revision; it loads its model then.

        Args:
            spec: The endpoint.
            image: The image.
            model: Folder of the model on this machine.
            token: The token that requests need, empty for none.
            created: Gets the container's name as soon as it exists.

        Raises:
            TargetError: The engine refuses it.
        """
        name = f"{self._prefix(spec.name)}-{spec.revision[:8]}-{new_hex(4)}"
        settings = self._server(spec, image, name)
        given = self._config.variables(spec) | ({"KAPTAIN_TOKEN": token} if token else {})
        options = {
            **common_options(spec, MODEL),
            "port": 0,
            "drain_seconds": _DRAIN,
            "private": _private(name),
            "control": _control(name),
            "failure": _FAILURE,
            "env": container_settings.hidden_environment(given, {}, image.path),
        }
        entries = [entry._replace(path=f"model/{entry.path}") for entry in files_below(model)]
        self._run(image, settings, options, entries, created)
        return Revision(spec, name)

    def _server(self, spec: EndpointSpec, image: ReadyImage, name: str) -> dict[str, Any]:
        settings = self._settings(spec, image, name, "server", "kaptain_magics.serving")
        settings["environment"] |= thread_limits(spec.resources.cores)
        return settings | container_settings.limits(spec.resources)

    def render(self, spec: EndpointSpec, image: ReadyImage) -> str:
        """Return the commands that would start an endpoint's gate and a server."""
        gate = self._settings(spec, image, f"{self._prefix(spec.name)}-gate", "gate", "kaptain_magics.serving.router")
        gate["ports"] = {f"{_PORT}/tcp": (spec.host, spec.port)}
        server = self._server(spec, image, f"{self._prefix(spec.name)}-{spec.revision[:8]}")
        hidden = without_values(spec).env
        run_gate = container_settings.as_command(image.name, gate)
        run_server = container_settings.as_command(image.name, server, hidden)
        return "\n\n".join([f"# serves {spec.artifact_uri}, copied to {MODEL}", run_gate, run_server])

    def start_gate(
        self, spec: EndpointSpec, image: ReadyImage, server: str, port: int, created: list[str]
    ) -> tuple[str, int]:
        """Start the gate of an endpoint.

        Args:
            spec: The endpoint.
            image: The image.
            server: The server that it routes to.
            port: Port to publish where the endpoint names none, 0 for any.
            created: Gets the container's name as soon as it exists.

        Returns:
            The gate's name and the port that it is published on.
        """
        name = f"{self._prefix(spec.name)}-gate-{new_hex(4)}"
        settings = self._settings(spec, image, name, "gate", "kaptain_magics.serving.router")
        settings["ports"] = {f"{_PORT}/tcp": (spec.host, spec.port or port or None)}
        self._run(image, settings, _gate_options(name, [server], 0), [], created)
        with self._engine.translate_errors():
            gate = self._get(name)
            self.ask(name, {"do": "status"}, "accepting", seconds=30.0)
            gate.reload()
            gate.update(restart_policy=_RESTART)
            for bound in gate.attrs["NetworkSettings"]["Ports"].get(f"{_PORT}/tcp") or ():
                return name, int(bound["HostPort"])
        raise ServingError("the endpoint's router did not start", self._why_ended(name).error)

    def _settings(self, spec: EndpointSpec, image: ReadyImage, name: str, kind: str, module: str) -> dict[str, Any]:
        user = container_settings.run_as(image.user, self._config.settings)
        labels = container_settings.labels(self._config.home, kind, spec.model_id, spec.run_id, name)
        return {
            "name": name,
            "entrypoint": ["python", "-m", module, "--options", OPTIONS],
            "command": [],
            "working_dir": FOLDER,
            "user": user,
            "labels": {**labels, "kaptain.endpoint": spec.name},
            "environment": {
                **container_settings.nameless(user),
                "PYTHONPATH": container_settings.search_path(image.path),
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            "volumes": {**image.volumes, self._volume(spec.name): {"bind": SOCKETS, "mode": "rw"}},
            "stop_signal": "SIGTERM",
            **container_settings.hardened(),
        }

    def _run(
        self,
        image: ReadyImage,
        settings: dict[str, Any],
        options: dict[str, Any],
        entries: Iterable[Entry],
        created: list[str],
    ) -> None:
        client = self._engine.client
        labels = {k: settings["labels"][k] for k in ("kaptain.managed-by", "kaptain.owner", "kaptain.endpoint")}
        with self._engine.translate_errors(image.name):
            client.volumes.create(
                self._volume(labels["kaptain.endpoint"]), labels={**labels, "kaptain.kind": "sockets"}
            )
            container = client.containers.create(image.id, **settings)
        created.append(settings["name"])
        options_file = Entry(f"{RUNTIME}/options.json", json.dumps(options).encode())
        files = [*runtime_entries(RUNTIME, serving=True), *entries, options_file]
        copy_in(self._engine, container, archive(files, FOLDER, [SOCKETS, _STATE]))
        with self._engine.translate_errors(image.name):
            container.start()

    # ---- asking --------------------------------------------------------------------------------------------------

    def ask(self, name: str, command: dict[str, Any], key: str = "", seconds: float = 0.0) -> dict[str, Any]:
        """Send a command to a server or gate; empty when it does not answer.

        Args:
            name: The container.
            command: The command.
            key: Ask again until this is true in the answer ...
            seconds: ... for so long.
        """
        arguments = [_control(name), json.dumps(command), str(seconds), *([key] if key else [])]
        try:
            with self._engine.translate_errors():
                status, output = self._get(name).exec_run(["python", "-I", "-c", _ask(), *arguments], stderr=False)
            return dict(json.loads(output)) if status == 0 and isinstance(output, bytes) else {}
        except (KaptainError, ValueError):
            return {}

    def wait_ready(self, name: str, seconds: float, check: Callable[[], None]) -> None:
        """Wait until a server has its model, and keep it running from then on.

        Args:
            name: The container.
            seconds: For how long.
            check: Called now and then; may raise.

        Raises:
            ServingError: It ended, or took too long.
        """
        until = time.monotonic() + seconds
        while not self.ask(name, {"do": "status"}, "ready", _ASK_TIMEOUT).get("ready"):
            check()
            if not self.runs(name):
                failure = self._why_ended(name)
                raise ServingError(failure.error, failure.hint or _HINT)
            if time.monotonic() > until:
                raise ServingError(
                    f"the model was not loaded in {seconds:g} s: {self._log_end(name)}", "raise --timeout"
                )
        with self._engine.translate_errors():
            self._get(name).update(restart_policy=_RESTART)

    def route(self, deployed: EndpointRecord) -> None:
        """Set where the gate sends requests, now and after a restart.

        Raises:
            ServingError: It does not answer.
        """
        servers = [revision.server for revision in deployed.revisions]
        command = {"do": "route", "backends": [_private(name) for name in servers], "percent": deployed.percent}
        if not self.ask(deployed.gate, command):
            raise ServingError("the endpoint's router does not answer", "deploy again, or undeploy first")
        options = json.dumps(_gate_options(deployed.gate, servers, deployed.percent)).encode()
        with self._engine.translate_errors():
            gate = self._get(deployed.gate)
        copy_in(self._engine, gate, archive([Entry(f"{RUNTIME}/options.json", options)], FOLDER))

    def runs(self, name: str) -> bool:
        """Whether a container is there and running, which says nothing of its model."""
        try:
            with self._engine.translate_errors():
                return str(self._get(name).status) == "running"
        except ContainerGoneError:
            return False

    def why_not_ready(self, deployed: EndpointRecord) -> str:
        """Return why an endpoint does not answer; empty when it does."""
        if not self.runs(deployed.stable.server):
            return f"its server ended: {self._why_ended(deployed.stable.server).error}"
        if not self.runs(deployed.gate):
            return "the router that holds its port has ended: deploy again with --replace"
        if not self.ask(deployed.stable.server, {"do": "status"}).get("ready"):
            return "its server does not answer"
        return ""

    def _why_ended(self, name: str) -> Failure:
        try:
            with self._engine.translate_errors():
                container = self._get(name)
        except ContainerGoneError:
            return Failure("its container was removed")
        state = container.attrs["State"]
        if state.get("OOMKilled"):
            return Failure("out of memory: the server needed more than its limit", "give it more with --memory")
        if (failure := self._failure(container)) is not None:
            return failure
        return Failure(self._log_end(name) or explain(int(state.get("ExitCode", 0)), "", "the server")[0])

    def _failure(self, container: Container) -> Failure | None:
        """Return what a container wrote about its end."""
        with suppress(KaptainError, OSError), tempfile.TemporaryDirectory() as folder:
            copy_out(self._engine, container, _FAILURE, Path(folder))
            return Failure.read((Path(folder) / Path(_FAILURE).name).read_bytes())
        return None

    def log(self, name: str, lines: int | Literal["all"] = "all") -> str:
        """Return the log of a container, or so many lines of its end."""
        with self._engine.translate_errors():
            return self._get(name).logs(tail=lines).decode("utf-8", "replace")

    def _log_end(self, name: str) -> str:
        """Return the last lines of a container's log in one line."""
        with suppress(KaptainError):
            return " | ".join(line.strip() for line in self.log(name, 20).splitlines()[-3:] if line.strip())
        return ""

    # ---- removing ------------------------------------------------------------------------------------------------

    def retire(self, names: Iterable[str]) -> None:
        """Let servers answer what they have, then remove them."""
        for name in names:
            with suppress(ContainerGoneError), self._engine.translate_errors():
                container = self._get(name)
                container.stop(timeout=int(_DRAIN) + 5)
                container.remove(force=True, v=True)

    def remove(self, names: Iterable[str]) -> None:
        """Remove containers at once, without waiting for requests; what cannot be removed is left to ``clean``."""
        for name in names:
            with suppress(KaptainError), self._engine.translate_errors():
                self._get(name).remove(force=True, v=True)

    def remove_volume(self, endpoint: str) -> None:
        """Remove the volume with an endpoint's sockets."""
        with self._engine.translate_errors():
            self._engine.client.volumes.get(self._volume(endpoint)).remove(force=True)

    def _get(self, name: str) -> Container:
        return self._engine.client.containers.get(name)

    def _prefix(self, endpoint: str) -> str:
        return f"kaptain-{container_settings.owner(self._config.home)[:8]}-{endpoint}"

    def _volume(self, endpoint: str) -> str:
        return f"{self._prefix(endpoint)}-sockets"


def _private(name: str) -> str:
    return f"{SOCKETS}/{name[-30:]}.http"  # the path of a Unix socket has about 100 characters


def _control(name: str) -> str:
    return f"{SOCKETS}/{name[-30:]}.control"


def _gate_options(name: str, servers: list[str], percent: int) -> dict[str, Any]:
    return {
        "failure": _FAILURE,
        "host": "0.0.0.0",  # of the container; the engine publishes it where the endpoint says
        "port": _PORT,
        "control": _control(name),
        "backends": [_private(server) for server in servers],
        "percent": percent,
        "drain_seconds": _DRAIN,
    }
