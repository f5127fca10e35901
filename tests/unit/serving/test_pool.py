"""Connections that wait for the next request, before a server that counts what reaches it."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from kaptain_magics.serving.client import pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counting:
    """Answers as many requests on every connection as its argument says, and closes the connection on the next one.

    Args:
        answered: Requests answered on each connection, the first connection first; later ones answer all.
    """

    def __init__(self, *answered: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/x"
        self.requests: list[int] = []  # the number of the connection that brought each
        self._answered = answered
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            most = self._answered[number] if number < len(self._answered) else 1000
            threading.Thread(target=self._serve, args=(connection, number, most), daemon=True).start()
            number += 1

    def _serve(self, connection: socket.socket, number: int, most: int) -> None:
        with connection:
            for answered in range(most + 1):
                if not connection.recv(65536):
                    return
                self.requests.append(number)
                if answered < most:
                    connection.sendall(OK)


@pytest.fixture
def counting() -> Iterator[list[Counting]]:
    """Servers that are closed with the test."""
    servers: list[Counting] = []
    yield servers
    for server in servers:
        server.listener.close()


def get(server: Counting) -> bytes:
    return pool.request("GET", server.url, {}, None, 30.0).body


def test_a_connection_is_used_again(counting: list[Counting]) -> None:
    counting.append(server := Counting())
    assert [get(server) for _ in range(3)] == [b"ok"] * 3
    assert server.requests == [0, 0, 0]


def test_what_a_kept_connection_loses_is_sent_again(counting: list[Counting]) -> None:
    counting.append(server := Counting(1))
    assert [get(server), get(server)] == [b"ok"] * 2
    assert server.requests == [0, 0, 1]


def test_what_a_new_connection_loses_is_not_sent_again(counting: list[Counting]) -> None:
    """The server may have died of it; another one must not."""
    counting.append(server := Counting(0))
    with pytest.raises(http.client.RemoteDisconnected):
        get(server)
    assert server.requests == [0]


def test_every_kept_connection_may_be_stale(counting: list[Counting]) -> None:
    counting.append(server := Counting(1, 1, 1))
    together = threading.Barrier(3)

    def ask() -> None:
        together.wait(30)
        get(server)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert get(server) == b"ok"
    assert len(server.requests) >= 4


@pytest.mark.interpreter
def test_a_fork_has_connections_of_its_own(counting: list[Counting]) -> None:
    counting.append(server := Counting())
    assert get(server) == b"ok"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if get(server) == b"ok" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert get(server) == b"ok"
    assert server.requests == [0, 1, 0]
