"""Whose turn it is to change an endpoint: deployments one after the other, changes of its traffic in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from kaptain_magics.core.names import new_hex
from kaptain_magics.files import Lock, locked, private_folder

_LOCK_TIMEOUT = 60.0  # seconds for another process that changes the same endpoint


class EndpointLocks:
    """Locks of endpoints, which a process loses only by its death.

    Args:
        folder: Where they lie; not in the endpoints' own folders, which come and go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def queue(self, name: str, order: str, stack: ExitStack) -> Callable[[], bool]:
        """Line up for a deployment of an endpoint.

        Args:
            name: The endpoint.
            order: Who waits with a smaller text goes first.
            stack: The turn is given back when it is closed.

        Returns:
            A function that returns whether it is the caller's turn by now.
        """
        line = self._folder / name
        private_folder(line)
        own = Lock(line / f"{order}-{new_hex(8)}")
        turn = self._deploying(name)
        stack.callback(own.path.unlink, missing_ok=True)
        stack.callback(own.release)
        stack.callback(turn.release)
        held = False

        def is_our_turn() -> bool:
            nonlocal held
            if not held and own.acquire() and not any(map(_waits, _before(own.path))):
                held = turn.acquire()
            return held

        return is_our_turn

    @contextmanager
    def unless_deploying(self, name: str) -> Iterator[bool]:
        """Whether no process deploys the endpoint; none can start to while the block runs."""
        turn = self._deploying(name)
        got = turn.acquire()
        try:
            yield got
        finally:
            turn.release()

    def traffic(self, name: str) -> AbstractContextManager[None]:
        """Change for the block what gets the endpoint's requests.

        Raises:
            StateError: Another process does so for too long.
        """
        private_folder(self._folder)
        return locked(self._folder / f"{name}.traffic", _LOCK_TIMEOUT)

    def _deploying(self, name: str) -> Lock:
        private_folder(self._folder)
        return Lock(self._folder / f"{name}.deploying")


def _before(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other.name < path.name]


def _waits(path: Path) -> bool:
    """Whether the process that queued here is alive; a dead one's file is removed."""
    if Lock(path).held_by_other():
        return True
    path.unlink(missing_ok=True)
    return False
