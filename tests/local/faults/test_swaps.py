"""After a swap has returned nobody gets an answer of the old revision, and nobody is refused or lost on the way.

``KAPTAIN_TEST_ROUNDS=200`` makes the rounds as many as that.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec, JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from kaptain_magics.script import capture
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local import LocalTarget
from kaptain_magics.targets.local.instances import Instance
from tests.servers import JSON, predictor, tensor
from tests.shell import Notebook
from tests.waiting import until

ROUNDS = int(os.environ.get("KAPTAIN_TEST_ROUNDS", "12"))
NAME = "s-m"
PATH = f"/v2/models/{NAME}/infer"
BODY = json.dumps({"inputs": [tensor("x", "INT64", [1], [1])]}).encode()


class Swapped:
    """An endpoint whose revisions answer with their number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = LocalTarget(TargetConfig(home=folder / "home", cache=folder))
        script = capture("import numpy\n")
        job = JobSpec(name="j", run_id="r", model_id="m", script=script, framework=ModelFramework.PYTHON)
        self.target.serve_like(job)
        self.number = 0

    def deploy(self, source: str = "def predict(inputs):\n    return [{number}]\n", **more: Any) -> None:
        number = self.number + 1
        model = predictor(self.folder / f"model{number}", source.format(number=number))
        spec = EndpointSpec(
            name=NAME,
            run_id=f"r{number:06d}",
            model_id="s/m",
            revision=f"{number:032x}",
            artifact_uri=model.as_uri(),
            framework=ModelFramework.PYTHON,
            timeout=60.0,
            replace=number > 1 and "canary_percent" not in more,
            **more,
        )
        end = list(self.target.deploy(spec))[-1]
        assert end.state is RunState.SUCCEEDED, end  # type: ignore[attr-defined]
        self.number = number

    def canary(self, **more: Any) -> None:
        """Deploy a revision as a canary and promote it."""
        number = self.number
        self.deploy(canary_percent=50, **more)
        promoted, self.number = self.number, number  # until then, the one before may answer
        self.target.set_traffic(NAME, 100)
        self.number = promoted

    @property
    def port(self) -> int:
        port = urlsplit(self.target.endpoint(NAME).url).port
        assert port
        return port


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Swapped]:
    made = Swapped(tmp_path)
    yield made
    made.target.undeploy(NAME)
    left = [i for i in map(Instance, tmp_path.glob("home/local/endpoints/*/i-*")) if i.alive]
    assert not left


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


class Grpc:
    """A client that keeps its channel."""

    def __init__(self, port: int) -> None:
        import grpc

        from kaptain_magics.serving.grpc.messages import SERVICE, messages

        kinds = messages()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=kinds["ModelInferRequest"].SerializeToString,
            response_deserializer=kinds["ModelInferResponse"].FromString,
        )
        self._request = kinds["ModelInferRequest"](model_name=NAME)
        self._request.inputs.add(name="x", datatype="INT64", shape=[1]).contents.int64_contents.append(1)

    def __call__(self) -> int:
        return int(self._call(self._request, timeout=30).outputs[0].contents.int64_contents[0])

    def close(self) -> None:
        self._channel.close()


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
def asking(swapped: Swapped, *clients: Callable[[], int]) -> Iterator[list[Asking]]:
    threads = [Asking(client, lambda: swapped.number) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
    assert [thread.wrong for thread in threads] == [[] for _ in threads]
    assert all(thread.answers for thread in threads)
    print("answers", [thread.answers for thread in threads])


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


@pytest.mark.parametrize("workers", [1, 2])
def test_replacements(workers: int, swapped: Swapped) -> None:
    """Connections that wait keep; those that ask all the time, new ones, and half a request, too."""
    swapped.deploy(workers=workers)
    port = swapped.port
    kept, waiting = [Kept(port) for _ in range(2)], [Kept(port) for _ in range(5)]

    def new() -> int:
        client = Kept(port)
        try:
            return client()
        finally:
            client.close()

    with ExitStack() as stack:
        for client in (*kept, *waiting):
            stack.callback(client.close)
        assert {client() for client in waiting} == {1}
        with asking(swapped, *kept, new):
            for _ in range(ROUNDS):
                halves = [half_a_request(port) for _ in range(2)]
                swapped.deploy(workers=workers)
                assert [client() for client in waiting] == [swapped.number] * 5
                assert [other_half(half) for half in halves] == [swapped.number] * 2
        assert [client.opened for client in waiting] == [1] * 5  # they changed hands, and no client noticed
    until(lambda: len(servers(swapped)) == 1, 60, "the end of the servers before")


def servers(swapped: Swapped) -> list[Instance]:
    return [i for i in map(Instance, swapped.folder.glob("home/local/endpoints/*/i-*")) if i.alive]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_grpc(swapped: Swapped) -> None:
    port = free_port()
    config = {"grpc_port": str(port)}
    swapped.deploy(serving_config=config)
    clients, waiting = [Grpc(port) for _ in range(2)], Grpc(port)

    def new() -> int:
        client = Grpc(port)
        try:
            return client()
        finally:
            client.close()

    with ExitStack() as stack:
        for client in (*clients, waiting):
            stack.callback(client.close)
        assert waiting() == 1
        with asking(swapped, *clients, new):
            for round_ in range(ROUNDS):
                if round_ % 3 == 2:
                    swapped.canary(serving_config=config)
                else:
                    swapped.deploy(serving_config=config)
                assert waiting() == swapped.number
    until(lambda: len(servers(swapped)) == 1, 60, "the end of the servers before")


def test_canaries(swapped: Swapped) -> None:
    """By way of the router: promoted, rolled back, replaced."""
    swapped.deploy()
    port = swapped.port
    kept, waiting = Kept(port), [Kept(port) for _ in range(4)]
    least = 1
    seen: set[int] = set()

    def ask_all(allowed: set[int]) -> None:
        answers = {client() for client in waiting for _ in range(3)}
        assert answers <= allowed, (answers, allowed)
        seen.update(answers)

    with ExitStack() as stack:
        for client in (kept, *waiting):
            stack.callback(client.close)
        ask_all({1})
        thread = Asking(kept, lambda: least)
        thread.start()
        stack.callback(thread.stop)
        for round_ in range(ROUNDS):
            half = half_a_request(port)
            swapped.deploy(canary_percent=50)
            ask_all({least, swapped.number})
            match round_ % 3:
                case 0:
                    swapped.target.set_traffic(NAME, 100)
                    least = swapped.number
                case 1:
                    swapped.target.set_traffic(NAME, 30)
                    ask_all({least, swapped.number})
                    swapped.target.set_traffic(NAME, 0)
                case 2:
                    swapped.deploy()
                    least = swapped.number
            ask_all({least})
            assert other_half(half) == least
        thread.stop()
        assert thread.wrong == []
        assert [client.opened for client in waiting] == [1] * 4
    assert len(seen) > ROUNDS // 2


@pytest.mark.parametrize("kind", [Kept, Grpc])
def test_what_is_in_work_is_answered_before_the_swap_returns(kind: type[Kept | Grpc], swapped: Swapped) -> None:
    grpc_port = free_port()
    config = {"grpc_port": str(grpc_port)}
    slow = "import time\ndef predict(inputs):\n    time.sleep(1.5)\n    return [{number}]\n"
    swapped.deploy(slow, serving_config=config)
    port, done = grpc_port if kind is Grpc else swapped.port, []

    def ask() -> None:
        client = kind(port)
        done.append((client(), time.monotonic()))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    (server,) = servers(swapped)
    until(lambda: server.ask({"do": "status"}).get("in_flight") == 3, 30)
    swapped.deploy(serving_config=config)
    returned = time.monotonic()
    for thread in threads:
        thread.join(30)
    assert [number for number, _ in done] == [1] * 3
    assert max(when for _, when in done) < returned + 0.5
    until(lambda: len(servers(swapped)) == 1, 60)


def test_train_deploy_predict(notebook: Notebook) -> None:
    """As a notebook does it, from the top to the bottom."""
    first: Kept | None = None
    wrong = []
    try:
        for number in range(1, max(4, ROUNDS // 3) + 1):
            notebook.run(
                f"%%kaptain_train s/m --model m\nfrom sklearn.dummy import DummyClassifier\n"
                f"m = DummyClassifier(strategy='constant', constant={number}).fit([[0], [1]], [0, {number}])\n"
            )
            notebook.run("%kaptain_deploy s/m --replace")
            answer = notebook.run("%kaptain predict s/m [[0]]").tolist()
            if answer != [number]:
                wrong.append((number, answer))
            if first is None:
                port = urlsplit(Workspace().endpoint("s/m").url).port
                assert port
                first = Kept(port)
            assert first.ready()
        assert wrong == []
    finally:
        if first is not None:
            first.close()
        Workspace().endpoint("s/m").undeploy()
