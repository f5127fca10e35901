"""``python -m kaptain_magics.serving.router``: routes until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.errors import ConfigError
from kaptain_magics.serving.control import ControlSocket, bind, hold_state, take_listeners
from kaptain_magics.serving.failure import clear_failure, report_failure
from kaptain_magics.serving.router.router import Router, RouterOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Route until SIGTERM.

    Args:
        argv: ``--options FILE``, a JSON file of ``RouterOptions``.

    Returns:
        The exit code.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    failure = ""
    try:
        options = _read_options(sys.argv[1:] if argv is None else argv)
        failure = options.failure
        clear_failure(failure)
        with ExitStack() as stack:
            handed = options.handover
            listeners = take_listeners(Path(handed)) if handed else [bind(options.host, options.port)]
            for listener in listeners:
                stack.enter_context(listener)
            if options.state:
                hold_state(Path(options.state), listeners[0].getsockname()[1], stack)
            asyncio.run(_route(options, listeners, stack))
    except Exception as error:
        report_failure(error, failure, "the router failed")
        return 1
    return 0


def _read_options(argv: Sequence[str]) -> RouterOptions:
    try:
        return msgspec.json.decode(Path(argv[-1]).read_bytes(), type=RouterOptions)
    except (OSError, IndexError, msgspec.MsgspecError) as error:
        raise ConfigError(f"invalid options of the router: {error}", "--options FILE") from error


async def _route(options: RouterOptions, listeners: Sequence[socket.socket], stack: ExitStack) -> None:
    loop = asyncio.get_running_loop()
    router = Router(options, listeners)

    def handle(command: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(router.command(command), loop).result(30)

    control = ControlSocket(Path(options.control), handle, listeners)
    stack.callback(control.close)
    control.start()
    if not options.handover:  # no other process accepts
        await router.command({"do": "accept"})
    await router.run()


if __name__ == "__main__":
    sys.exit(main())
