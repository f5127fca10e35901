"""A container's output as it comes, from its first byte, over dropped connections."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import TargetError
from kaptain_magics.images.engine import ContainerGoneError, Engine

if TYPE_CHECKING:
    from docker import DockerClient
    from urllib3 import BaseHTTPResponse

_CONNECT = 60.0  # seconds for a connection; the log itself may be silent for as long as the job is
_HEADER = 8  # bytes before a frame: its stream, three zeros, its size
_COALESCE = 0.03  # seconds in which pieces are put together: lines that are printed one by one are one event
_OUTAGE_LIMIT = 60.0  # seconds that an engine may be away before the job counts as lost
_ALIVE = ("created", "running", "paused", "restarting")
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
        self._response: Any = None
        self._seen = 0
        self._thread = threading.Thread(target=self._pump, name=f"log of {container_id[:12]}", daemon=True)

    def follow(self, tick: float) -> Generator[bytes, None, None]:
        """Yield the output until the container has ended; an empty piece when nothing came for ``tick`` seconds.

        Raises:
            TargetError: The engine has been away for a minute.
        """
        self._thread.start()
        try:
            # silent (an empty piece every ``tick``) -> gathering (``_COALESCE`` from the first piece) -> silent, until
            # the container's end or an error comes out of the queue
            while True:
                try:
                    piece = self._pieces.get(timeout=tick)
                except queue.Empty:
                    yield b""
                    continue
                gathered: list[bytes] = []
                until = time.monotonic() + _COALESCE
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
        """Stop reading, and wait for the thread that does."""
        self._closed.set()
        with contextlib.suppress(Exception):  # a half-open connection may fail in any way when it is shut
            self._response.raw.shutdown()  # wakes the thread, which closes it
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _pump(self) -> None:
        """Read until the container has ended, or the engine was away for ``_OUTAGE_LIMIT``.

        Following a log ends when the container does, and also when the connection or the engine does: then the state
        of the container decides whether to read on, from the first byte, past what was handed on before.
        """
        away_since = 0.0
        while not self._closed.is_set():
            try:
                with contextlib.closing(self._engine.connect()) as client, self._engine.translate_errors():
                    self._read(client, follow=True)
                    away_since = 0.0
                    if client.api.inspect_container(self._id)["State"]["Status"] not in _ALIVE:
                        self._read(client, follow=False)  # an engine that follows can miss the last words
                        self._put(None)
                        return
            except ContainerGoneError:
                self._put(None)
                return
            except TargetError as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _OUTAGE_LIMIT:
                    self._put(error)
                    return
            self._closed.wait(0.2)

    def _read(self, client: DockerClient, follow: bool) -> None:
        """Read the log from its first byte and hand on what has not been seen.

        The request is made here and not by ``logs`` of the SDK, whose stream cannot be shut once the engine is gone.
        """
        import requests
        from docker import errors

        api, skip = client.api, self._seen
        url = f"{api.base_url}/v{api.api_version}/containers/{self._id}/logs"
        options = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        with api.get(url, params=options, stream=True, timeout=(_CONNECT, None)) as response:
            try:
                response.raise_for_status()
            except requests.HTTPError as error:
                raise errors.create_api_error_from_http_exception(error) from error
            self._response = response
            for frame in _frames(response.raw):
                if skip >= len(frame):
                    skip -= len(frame)
                    continue
                piece, skip = frame[skip:], 0
                if not self._put(piece):
                    break
                self._seen += len(piece)

    def _put(self, piece: bytes | TargetError | None) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                return True
        return False


def _frames(stream: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the pieces of both output streams; a connection that breaks ends them."""
    import urllib3

    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        while len(header := stream.read(_HEADER)) == _HEADER:
            yield stream.read(int.from_bytes(header[4:], "big"))
