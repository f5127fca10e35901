"""A container's output as it comes, from its first byte, over dropped connections."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator
from typing import Any

from kaptain_magics.errors import TargetError
from kaptain_magics.images.engine import ContainerGoneError, Engine

_GATHER = 0.03  # seconds in which pieces are put together
_PATIENCE = 60.0  # seconds that an engine may be away before the job counts as lost
_GOING_ON = ("created", "running", "paused", "restarting")
_QUEUED = 512  # pieces that wait for a slow reader at most


class ContainerOutput:
    """Both streams of a container in the order of the engine's log.

    Args:
        engine: The engine.
        container_id: The container, started.
    """

    def __init__(self, engine: Engine, container_id: str) -> None:
        self._engine, self._id = engine, container_id
        self._pieces: queue.Queue[bytes | TargetError | None] = queue.Queue(_QUEUED)
        self._closed = threading.Event()
        self._stream: Any = None
        self._seen = 0
        self._thread = threading.Thread(target=self._pump, name=f"log of {container_id[:12]}", daemon=True)

    def follow(self, tick: float) -> Generator[bytes, None, None]:
        """Yield the output until the container has ended; an empty piece when nothing came for ``tick`` seconds.

        Raises:
            TargetError: The engine has been away for a minute.
        """
        self._thread.start()
        try:
            while True:
                try:
                    piece = self._pieces.get(timeout=tick)
                except queue.Empty:
                    yield b""
                    continue
                gathered: list[bytes] = []
                until = time.monotonic() + _GATHER
                while isinstance(piece, bytes):
                    gathered.append(piece)
                    try:
                        piece = self._pieces.get(timeout=max(0.0, until - time.monotonic()))
                    except queue.Empty:
                        break
                if gathered:
                    yield b"".join(gathered)
                if isinstance(piece, TargetError):
                    raise piece
                if piece is None:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        stream = self._stream
        with contextlib.suppress(Exception):  # a half-open connection may fail in any way when it is shut
            stream.close()  # wakes the thread, which tidies up
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _pump(self) -> None:
        away_since = 0.0
        while not self._closed.is_set():
            try:
                with contextlib.closing(self._engine.connect()) as client, self._engine.translate_errors():
                    self._read(client, follow=True)
                    away_since = 0.0
                    if client.api.inspect_container(self._id)["State"]["Status"] not in _GOING_ON:
                        self._read(client, follow=False)  # an engine that follows can miss the last words
                        self._put(None)
                        return
            except ContainerGoneError:
                self._put(None)
                return
            except TargetError as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _PATIENCE:
                    self._put(error)
                    return
            self._closed.wait(0.2)

    def _read(self, client: Any, follow: bool) -> None:
        """Read the log from its first byte and hand on what has not been seen."""
        skip = self._seen
        self._stream = client.api.logs(self._id, stdout=True, stderr=True, stream=True, follow=follow)
        try:
            for frame in self._stream:
                if skip >= len(frame):
                    skip -= len(frame)
                    continue
                piece, skip = frame[skip:], 0
                if not self._put(piece):
                    break
                self._seen += len(piece)
        finally:
            with contextlib.suppress(Exception):
                self._stream._response.close()  # the stream's own close leaves the socket open without an engine

    def _put(self, piece: bytes | TargetError | None) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                return True
        return False
