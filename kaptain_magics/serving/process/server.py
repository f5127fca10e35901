"""One server process: listens, loads, answers, and ends without losing a request."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import ServingError
from kaptain_magics.serving.control import Handler, taken
from kaptain_magics.serving.http.app import Application
from kaptain_magics.serving.http.auth import Authorizer
from kaptain_magics.serving.http.http_server import HttpServer
from kaptain_magics.serving.http.successor import Successor
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.inference.served import Served
from kaptain_magics.serving.loaders.load_model import load_model
from kaptain_magics.serving.process.artifact import verify_artifact
from kaptain_magics.serving.process.launch_options import Options
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.signature import LoadedModel

try:
    from uvloop import new_event_loop as _new_loop
except ModuleNotFoundError:  # an accelerator only
    from asyncio import new_event_loop as _new_loop

if TYPE_CHECKING:
    from kaptain_magics.serving.grpc.service import GrpcServer

logger = logging.getLogger("kaptain.serving")

_UPLOAD = 600.0  # seconds that requests which are still coming in may take when another server has taken over


class Setup(NamedTuple):
    """What the processes of a server share.

    Attributes:
        options: What it is started with.
        token: The bearer token; empty for none.
        public: The public listening sockets.
        private: The private listening sockets.
        metrics: Where it counts.
    """

    options: Options
    token: str
    public: list[socket.socket]
    private: list[socket.socket]
    metrics: Metrics


class Server:
    """A server process.

    A single one accepts connections before its model is loaded, and answers 503 until then. One of several waits, so
    that the kernel gives connections only to those that can answer.

    Args:
        setup: Its options, sockets and metrics.
    """

    def __init__(self, setup: Setup) -> None:
        options, metrics = setup.options, setup.metrics
        self._options = options
        self._authorizer = Authorizer(setup.token, options.host)
        self._public = setup.public
        self._private = setup.private
        self._metrics = metrics
        self._eager = options.workers == 1
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._commanded = not options.hold
        self._active = not options.hold  # on the public sockets
        self._accepting = False
        self._listening = False
        self._grpc: GrpcServer | None = None
        self._grpc_listens = False
        self._leaving = False
        self._address = setup.public[0].getsockname()
        self._drain_seconds = options.drain_seconds
        self.failure: BaseException | None = None
        self.served = Served(options.model_name, options.version, options.limits, metrics)
        self._app = Application(self.served, self._authorizer, options.limits)
        self.http = HttpServer(self._app, options.limits, options.access_log)

    async def run(self) -> None:
        """Serve until a signal or ``stop`` ends it; ``failure`` is what kept the model from being loaded."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        if self._eager:
            self._listen()
        threading.Thread(target=self._load, name="loader", daemon=True).start()
        if self._options.hold:
            self._loop.call_later(self._options.patience, self._on_activation_timeout)
        await self._stop.wait()
        if self.failure is None:
            await asyncio.gather(self._drain_grpc(), self.http.drain(self._drain_seconds))
        self._app.close()
        self.served.close()

    def _end(self) -> None:
        self._stop.set()
        if self._grpc is not None:
            self._grpc.stop_waiting()

    def stop(self) -> None:
        """End after the requests in flight; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._end)

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command.

        ``accept`` takes the endpoint's requests. ``release`` gives them to another server but goes on answering those
        that come in privately; ``retire`` ends after that. ``take`` brings connections of a server that does so.
        ``adopt`` and ``status`` change nothing.
        """
        match command.get("do"):
            case "accept":
                self._commanded = self._active = True
                try:
                    await self._start_grpc()
                except ServingError as error:
                    return {"error": error.message}
                if self._listening:
                    self._accept()
            case "release" | "retire" as do:
                await self._release(command.get("to", {}), leaving=do == "retire")
            case "take":
                for client, early in taken(command):
                    self.http.take(client, early)
            case "adopt":  # it is needed, though not on the public socket
                self._commanded = True
            case "status":
                pass
            case other:
                return {"error": f"unknown command {other!r}"}
        return {
            "ready": self.served.ready,
            "accepting": self._accepting,
            "answered": self._metrics.answered,
            "in_flight": self._metrics.in_flight,
            "finishing": self.http.finishing + (0 if self._grpc is None else self._grpc.finishing),
        }

    async def _release(self, to: dict[str, Any], leaving: bool) -> None:
        self._active = self._accepting = False
        await self.http.release(Successor(to, self._address), leaving)
        if not leaving:
            return
        for listener in self._public:  # the other server has its own copies: no client shall wait for an answer here
            listener.close()
        if self._grpc is not None and self._grpc_listens:
            await self._grpc.release()
        self._leaving = True
        self._drain_seconds = max(_UPLOAD, self._options.drain_seconds)
        self._stop.set()

    def _listen(self) -> None:
        self._listening = True
        for listener in self._private:
            self.http.listen(listener, private=True)
        if self._active:
            self._accept()

    def _accept(self) -> None:
        if self._accepting or self.http.closing:
            return
        self._accepting = True
        for listener in self._public:
            self.http.listen(listener)

    def _load(self) -> None:
        """Verify and load in a thread of its own, so that health checks are answered meanwhile."""
        options = self._options
        try:
            folder = verify_artifact(Path(options.folder), options.files)
            model = load_model(ModelFramework.of(options.framework), folder, options.serving_config)
        except BaseException as error:  # SystemExit of a script, too, ends the server
            self._loop.call_soon_threadsafe(self._fail, error)
        else:
            self._loop.call_soon_threadsafe(self._open, model)

    def _open(self, model: LoadedModel) -> None:
        if not self._stop.is_set():
            self._opening = self._loop.create_task(self._open_all(model))
            self._opening.add_done_callback(self._opened)

    async def _open_all(self, model: LoadedModel) -> None:
        if self._options.grpc_port is not None:
            replaceable = bool(self._options.control)
            self._grpc = _make_grpc(self.served, self._authorizer, self._options.limits, self.http, replaceable)
        if self._active:
            await self._start_grpc()
        self.served.open(model)
        gc.collect()
        gc.freeze()  # what is loaded stays: looking through it while a large request is read would block everybody
        if not self._eager:
            self._listen()

    async def _start_grpc(self) -> None:
        """Listen for gRPC, once; a port of its own is not shared out by a router, so a canary does not take it."""
        if self._grpc is not None and not self._grpc_listens:
            self._grpc_listens = True
            await self._grpc.start(self._options.host, self._options.grpc_port or 0)

    def _opened(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        else:
            logger.info("model %s is ready", self.served.name)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._stop.set()

    def _on_activation_timeout(self) -> None:
        if not self._commanded:
            logger.warning("no activation command arrived in time; shutting down")
            self._stop.set()

    async def _drain_grpc(self) -> None:
        if self._grpc is not None and self._grpc_listens:
            end = self._grpc.leave if self._leaving else self._grpc.stop
            await end(self._drain_seconds)


def _make_grpc(
    served: Served, authorizer: Authorizer, limits: Limits, http: HttpServer, replaceable: bool
) -> GrpcServer:
    try:
        from kaptain_magics.serving.grpc.service import GrpcServer
    except ModuleNotFoundError as error:
        raise ServingError(
            f"the gRPC service needs {error.name}, which is not installed here", "pip install 'kaptain-magics[grpc]'"
        ) from None
    return GrpcServer(served, authorizer, limits, http, replaceable)


def run_server(setup: Setup, attach: Callable[[Server, Handler], object]) -> BaseException | None:
    """Run one server in this process to its end.

    Args:
        setup: Its options, sockets and metrics.
        attach: Called before it serves with the server and with what carries out commands, from any thread.

    Returns:
        What kept the model from being loaded.
    """

    async def main() -> BaseException | None:
        loop = asyncio.get_running_loop()
        server = Server(setup)
        attach(server, lambda command: asyncio.run_coroutine_threadsafe(server.command(command), loop).result(30))
        await server.run()
        return server.failure

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main())
