"""An endpoint that is swapped while clients ask it, on any target.

After a swap has returned nobody gets an answer of the old revision, and nobody is refused or lost on the way.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kaptain_magics.core.events import Event
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import ServingTarget
from tests.servers import JSON, predictor, tensor

NAME = "s-m"
PATH = f"/v2/models/{NAME}/infer"
BODY = json.dumps({"inputs": [tensor("x", "INT64", [1], [1])]}).encode()


class Swapped:
    """An endpoint whose revisions answer with their number.

    Attributes:
        number: That of the newest revision.
        least: That of the oldest one which may answer who asks now.
    """

    def __init__(self, folder: Path, target: ServingTarget, **spec: Any) -> None:
        self.folder, self.target, self._spec = folder, target, spec
        self.number = self.least = 0

    def deploy(self, source: str = "def predict(inputs):\n    return [{number}]\n", **more: Any) -> list[Event]:
        """Deploy the next revision; unless it is a canary nothing older may answer from then on."""
        number, canary = self.number + 1, "canary_percent" in more
        model = predictor(self.folder / f"model{number}", source.format(number=number))
        spec = EndpointSpec(
            name=NAME,
            run_id=f"r{number:06d}",
            model_id="s/m",
            revision=f"{number:032x}",
            artifact_uri=model.as_uri(),
            framework=ModelFramework.PYTHON,
            replace=number > 1 and not canary,
            **{"timeout": 120.0, **self._spec, **more},
        )
        events = list(self.target.deploy(spec))
        assert events[-1].state is RunState.SUCCEEDED, events[-1]  # type: ignore[attr-defined]
        self.number = number
        if not canary:
            self.least = number
        return events

    def promote(self) -> None:
        self.target.set_traffic(NAME, 100)
        self.least = self.number

    @property
    def port(self) -> int:
        port = urlsplit(self.target.endpoint(NAME).url).port
        assert port
        return port


class Kept:
    """A client that keeps its connection as long as the server does."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.opened = 0

    def __call__(self) -> int:
        if self._connection.sock is None:
            self._connection.connect()
            self.opened += 1
        self._connection.request("POST", PATH, BODY, JSON)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return int(json.loads(body)["outputs"][0]["data"][0])

    def ready(self) -> bytes:
        self._connection.request("GET", f"/v2/models/{NAME}/ready")
        return self._connection.getresponse().read()

    def close(self) -> None:
        self._connection.close()


class Asking(threading.Thread):
    """Asks without a pause, and looks that no answer is older than what was deployed when it asked."""

    def __init__(self, ask: Callable[[], int], least: Callable[[], int]) -> None:
        super().__init__()
        self._ask, self._least = ask, least
        self._stopping = threading.Event()
        self.answers = 0
        self.wrong: list[Any] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            least = self._least()
            try:
                answer = self._ask()
            except Exception as error:
                self.wrong.append(error)
                continue
            self.answers += 1
            if answer < least:
                self.wrong.append((least, answer))
            time.sleep(0.001)

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)


@contextmanager
def asking(swapped: Swapped, *clients: Callable[[], int]) -> Iterator[None]:
    """Let clients ask all the time, each in a thread; afterwards all of them had answers, and none a wrong one."""
    threads = [Asking(client, lambda: swapped.least) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()
    assert [thread.wrong for thread in threads] == [[] for _ in threads]
    assert all(thread.answers for thread in threads)
    print("answers", [thread.answers for thread in threads])


def ask_all(clients: Iterable[Kept], allowed: set[int]) -> set[int]:
    answers = {client() for client in clients for _ in range(3)}
    assert answers <= allowed, (answers, allowed)
    return answers


def ask_once(kind: Callable[[int], Any], port: int) -> int:
    """Ask on a connection of its own."""
    with closing(kind(port)) as client:
        return int(client())


def half_a_request(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    client.sendall(head.encode() + BODY[:10])
    return client


def other_half(client: socket.socket) -> int:
    with client:
        client.sendall(BODY[10:])
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        assert answer.status == 200, answer.read()
        return int(json.loads(answer.read())["outputs"][0]["data"][0])
