"""A connection to a port of a pod through the API server: what ``kubectl port-forward`` does."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from contextlib import suppress

from kaptain_magics.targets.kubernetes.api.client import Cluster

_PIECE = 1 << 16  # bytes read at once, fewer where no more have come
_DATA = b"\0"  # the channel of the port's bytes; the other one says errors


class PodStream:
    """One connection.

    Args:
        cluster: The cluster.
        pod: The pod's name.
        port: The port.

    Raises:
        ConnectionError: The API server or the pod does not answer.
    """

    def __init__(self, cluster: Cluster, pod: str, port: int) -> None:
        from kubernetes.stream.ws_client import create_websocket

        url = f"{cluster.host.replace('http', 'ws', 1)}{cluster.path('Pod', pod)}/portforward?ports={port}"
        headers = {"sec-websocket-protocol": "v4.channel.k8s.io", **cluster.credentials()}
        try:
            self._socket = create_websocket(cluster.configuration, url, headers)
        except Exception as error:  # the library's own classes, and those of ssl and socket
            raise ConnectionError(f"pod {pod} cannot be reached: {error}") from error
        self._started: set[int] = set()  # channels whose first frame, which names the port, has come

    def join(self, connection: socket.socket) -> None:
        """Carry bytes both ways until either side ends; then both are closed."""
        remote = self._socket.sock
        with suppress(Exception), connection:  # either side may end as it likes
            while True:
                hidden = getattr(remote, "pending", int)()  # bytes that TLS has decrypted already
                readable = [remote] if hidden else select.select([connection, remote], [], [])[0]
                if remote in readable:
                    data = self._receive()
                    if data is None:
                        break
                    connection.sendall(data)
                if connection in readable:
                    data = connection.recv(_PIECE)
                    if not data:
                        break
                    self._socket.send_binary(_DATA + data)
        with suppress(Exception):
            self._socket.shutdown()

    def _receive(self) -> bytes | None:
        """Return the pod's next bytes (maybe none), or ``None`` when it has closed the connection."""
        from websocket import ABNF

        opcode, frame = self._socket.recv_data_frame(True)
        if opcode == ABNF.OPCODE_CLOSE:
            return None
        if opcode != ABNF.OPCODE_BINARY or not frame.data:
            return b""
        channel, data = frame.data[0], bytes(frame.data[1:])
        if channel not in self._started:
            self._started.add(channel)
            return b""
        return data if channel == _DATA[0] else None


class PodConnection(http.client.HTTPConnection):
    """HTTP to a port of a pod.

    Args:
        cluster: The cluster.
        pod: The pod's name.
        port: The port.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, cluster: Cluster, pod: str, port: int, timeout: float = 60.0) -> None:
        super().__init__("127.0.0.1", port, timeout=timeout)
        self.pod = pod
        self._cluster = cluster

    def connect(self) -> None:
        """Open the stream; a thread carries its bytes."""
        stream = PodStream(self._cluster, self.pod, self.port)
        self.sock, other = socket.socketpair()
        self.sock.settimeout(self.timeout)
        threading.Thread(target=stream.join, args=(other,), name=f"kaptain stream {self.pod}", daemon=True).start()
