"""``python -m kaptain_magics.serving``: the entry point of containers and of the local target."""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from kaptain_magics.errors import KaptainError
from kaptain_magics.runtime.variables import enter
from kaptain_magics.serving.control import (
    ControlSocket,
    Handler,
    answer_parent,
    bind,
    hold_state,
    take_listeners,
)
from kaptain_magics.serving.http.auth import demand_token
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.process.options import Options, read_options
from kaptain_magics.serving.process.server import Server, run_server
from kaptain_magics.serving.process.workers import NOT_LOADED, Workers
from kaptain_magics.sockets import listen_unix

logger = logging.getLogger("kaptain.serving")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; may be called in a process that was forked from a warm one.

    Args:
        argv: The command line without the program's name.

    Returns:
        The exit code: 0 after a drain, 1 where the server could not start or the model not be loaded.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.dont_write_bytecode = True  # nothing may appear in the model's folder
    try:
        options = read_options(sys.argv[1:] if argv is None else argv)
        enter(options.env)
        token = os.environ.get("KAPTAIN_TOKEN", "")
        demand_token(options.host, token, options.insecure)
        with ExitStack() as stack:
            return _serve(options, token, stack)
    except KaptainError as error:
        _tell(error)
        return 1


def _serve(options: Options, token: str, stack: ExitStack) -> int:
    public = take_listeners(Path(options.handover)) if options.handover else [bind(options.host, options.port)]
    private = [listen_unix(Path(options.private))] if options.private else []
    for listener in (*public, *private):
        stack.enter_context(listener)
    if options.private:
        stack.callback(Path(options.private).unlink, missing_ok=True)
    port = public[0].getsockname()[1]
    if options.state:
        hold_state(Path(options.state), port, stack)
    logger.info("listening on %s:%d", options.host, port)
    metrics = Metrics(options.workers)
    make = functools.partial(Server, options, token, public, private, metrics, options.workers == 1)
    if options.workers == 1:
        return _serve_alone(options, make, public, stack)
    return _serve_many(options, make, public, private, metrics, stack)


def _serve_alone(
    options: Options, make: functools.partial[Server], public: list[socket.socket], stack: ExitStack
) -> int:
    def attach(_: Server, handler: Handler) -> None:
        if options.control:
            control = ControlSocket(Path(options.control), handler, public)
            stack.callback(control.close)
            control.start()

    failure = run_server(make, attach)
    if failure is not None:
        _tell(failure)
    return 0 if failure is None else 1


def _serve_many(
    options: Options,
    make: functools.partial[Server],
    public: list[socket.socket],
    private: list[socket.socket],
    metrics: Metrics,
    stack: ExitStack,
) -> int:
    def serve_child(channel: socket.socket) -> int:
        failure = run_server(make, lambda server, handler: answer_parent(channel, handler, server.stop))
        if failure is not None:
            _tell(failure)
        return 0 if failure is None else NOT_LOADED

    workers = Workers(options, metrics, [*public, *private], serve_child)
    control = ControlSocket(Path(options.control), workers.command, public) if options.control else None
    if control is not None:
        stack.callback(control.close)
    return workers.run(control)


def _tell(error: BaseException) -> None:
    """Write why the server ends: one line for what was foreseen, the whole traceback for the rest."""
    if isinstance(error, KaptainError):
        logger.error("%s", " - ".join(filter(None, (error.message, error.hint))))
    else:
        logger.error("the model cannot be loaded: %s: %s", type(error).__name__, error, exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
