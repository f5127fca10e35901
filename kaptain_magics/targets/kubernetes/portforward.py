"""An address of this machine that leads to an endpoint's pods: what ``kubectl port-forward`` does, kept open.

The listener is on 127.0.0.1 and lives as long as this process. Every connection is given a pod of its own, so that a
canary gets its share.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress

from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.client import Cluster

_PIECE = 1 << 16
_DATA = b"\0"  # the channel of the port's bytes; the other one says errors
_known: dict[tuple[str, str, str], Forward] = {}
_guard = threading.Lock()


class Forward:
    """One listener.

    Args:
        cluster: The cluster.
        pods: Returns the names of the pods that can answer now, in the order in which they are tried.
        port: Their port.
    """

    def __init__(self, cluster: Cluster, pods: Callable[[], list[str]], port: int) -> None:
        self._cluster, self._pods, self._port = cluster, pods, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name=f"kaptain forward {self.address}", daemon=True).start()

    def close(self) -> None:
        """Stop listening; open connections go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="kaptain forwarded", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                pods = self._pods()
            except KaptainError:
                return
            for pod in pods:
                with suppress(ConnectionError):
                    stream = PodStream(self._cluster, pod, self._port)
                    break
            else:
                return
            with closing(stream), suppress(Exception):  # either side may end as it likes
                stream.join(connection)


class PodStream:
    """A connection to a port of a pod, through the API server.

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
        self._begun: set[int] = set()  # channels whose first frame, which names the port, has come

    def close(self) -> None:
        """Close the connection at once."""
        with suppress(Exception):
            self._socket.shutdown()

    def join(self, connection: socket.socket) -> None:
        """Carry bytes both ways until either side ends."""
        remote = self._socket.sock
        while True:
            hidden = getattr(remote, "pending", int)()  # bytes that TLS has decrypted already
            readable = [remote] if hidden else select.select([connection, remote], [], [])[0]
            if remote in readable:
                data = self._receive()
                if data is None:
                    return
                connection.sendall(data)
            if connection in readable:
                data = connection.recv(_PIECE)
                if not data:
                    return
                self._socket.send_binary(_DATA + data)

    def _receive(self) -> bytes | None:
        """Return the pod's next bytes (maybe none), or ``None`` when it has closed the connection."""
        from websocket import ABNF

        opcode, frame = self._socket.recv_data_frame(True)
        if opcode == ABNF.OPCODE_CLOSE:
            return None
        if opcode != ABNF.OPCODE_BINARY or not frame.data:
            return b""
        channel, data = frame.data[0], bytes(frame.data[1:])
        if channel not in self._begun:
            self._begun.add(channel)
            return b""
        return data if channel == _DATA[0] else None


def forward(cluster: Cluster, name: str, pods: Callable[[], list[str]], port: int) -> Forward:
    """Return this process's listener for an endpoint; it is made when there is none."""
    key = (cluster.host, cluster.namespace, name)
    with _guard:
        if key not in _known:
            _known[key] = Forward(cluster, pods, port)
        return _known[key]


def forget(cluster: Cluster, name: str) -> None:
    """Close this process's listener for an endpoint that was taken down."""
    with _guard:
        found = _known.pop((cluster.host, cluster.namespace, name), None)
    if found is not None:
        found.close()
