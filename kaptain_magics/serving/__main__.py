"""``python -m kaptain_magics.serving``: the entry point of containers and of the local target."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from kaptain_magics.runtime.variables import restart_with
from kaptain_magics.serving.control import (
    ControlSocket,
    Handler,
    answer_parent,
    bind,
    hold_state,
    take_listeners,
)
from kaptain_magics.serving.failure import clear_failure, report_failure
from kaptain_magics.serving.http.auth import demand_token
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.process.launch_options import Options, read_options
from kaptain_magics.serving.process.server import Server, Setup, run_server
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
    failure = ""
    try:
        options = read_options(sys.argv[1:] if argv is None else argv)
        failure = options.failure
        clear_failure(failure)
        restart_with(options.env)
        token = os.environ.get("KAPTAIN_TOKEN", "")
        demand_token(options.host, token, options.insecure)
        with ExitStack() as stack:
            setup = _listen(options, token, stack)
            logger.info("listening on %s:%d", options.host, setup.public[0].getsockname()[1])
            return _serve_alone(setup, stack) if options.workers == 1 else _serve_many(setup, stack)
    except Exception as error:
        report_failure(error, failure)
        return 1


def _listen(options: Options, token: str, stack: ExitStack) -> Setup:
    """Open the listening sockets, or take them over, until ``stack`` is closed."""
    public = take_listeners(Path(options.handover)) if options.handover else [bind(options.host, options.port)]
    private = [listen_unix(Path(options.private))] if options.private else []
    for listener in (*public, *private):
        stack.enter_context(listener)
    if options.private:
        stack.callback(Path(options.private).unlink, missing_ok=True)
    if options.state:
        hold_state(Path(options.state), public[0].getsockname()[1], stack)
    return Setup(options, token, public, private, Metrics(options.workers))


def _serve_alone(setup: Setup, stack: ExitStack) -> int:
    def attach(_: Server, handler: Handler) -> None:
        if setup.options.control:
            control = ControlSocket(Path(setup.options.control), handler, setup.public)
            stack.callback(control.close)
            control.start()

    return 0 if _run(setup, attach) else 1


def _serve_many(setup: Setup, stack: ExitStack) -> int:
    def serve_child(channel: socket.socket) -> int:
        loaded = _run(setup, lambda server, handler: answer_parent(channel, handler, server.stop))
        return 0 if loaded else NOT_LOADED

    options = setup.options
    workers = Workers(options, setup.metrics, [*setup.public, *setup.private], serve_child)
    control = ControlSocket(Path(options.control), workers.command, setup.public) if options.control else None
    if control is not None:
        stack.callback(control.close)
    return workers.run(control)


def _run(setup: Setup, attach: Callable[[Server, Handler], object]) -> bool:
    """Run one server to its end; returns whether it could load its model."""
    error = run_server(setup, attach)
    if error is not None:
        report_failure(error, setup.options.failure, "the model cannot be loaded")
    return error is None


if __name__ == "__main__":
    sys.exit(main())
