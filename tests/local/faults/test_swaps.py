"""After a swap has returned nobody gets an answer of the old revision, and nobody is refused or lost on the way.

``KAPTAIN_TEST_ROUNDS=200`` makes the rounds as many as that.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.model import Workspace
from kaptain_magics.script import capture
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local import LocalTarget
from kaptain_magics.targets.local.instances import Instance
from tests.shell import Notebook
from tests.swaps import NAME, Kept, Swapped, ask_all, ask_once, asking, half_a_request, other_half
from tests.waiting import until

ROUNDS = int(os.environ.get("KAPTAIN_TEST_ROUNDS", "12"))

ROUNDS = int(os.environ.get("KAPTAIN_TEST_ROUNDS", "12"))


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Swapped]:
    target = LocalTarget(TargetConfig(home=tmp_path / "home", cache=tmp_path))
    script = capture("import numpy\n")
    target.serve_like(JobSpec(name="j", run_id="r", model_id="m", script=script, framework=ModelFramework.PYTHON))
    yield Swapped(tmp_path, target)
    target.undeploy(NAME)
    left = [i for i in map(Instance, tmp_path.glob("home/local/endpoints/*/i-*")) if i.alive]
    assert not left


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


@pytest.mark.parametrize("workers", [1, 2])
def test_replacements(workers: int, swapped: Swapped) -> None:
    """Connections that wait keep; those that ask all the time, new ones, and half a request, too."""
    swapped.deploy(workers=workers)
    port = swapped.port
    kept, waiting = [Kept(port) for _ in range(2)], [Kept(port) for _ in range(5)]

    with ExitStack() as stack:
        for client in (*kept, *waiting):
            stack.callback(client.close)
        assert {client() for client in waiting} == {1}
        with asking(swapped, *kept, partial(ask_once, Kept, port)):
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

    with ExitStack() as stack:
        for client in (*clients, waiting):
            stack.callback(client.close)
        assert waiting() == 1
        with asking(swapped, *clients, partial(ask_once, Grpc, port)):
            for round_ in range(ROUNDS):
                if round_ % 3 == 2:
                    swapped.deploy(canary_percent=50, serving_config=config)
                    swapped.promote()
                else:
                    swapped.deploy(serving_config=config)
                assert waiting() == swapped.number
    until(lambda: len(servers(swapped)) == 1, 60, "the end of the servers before")


def test_canaries(swapped: Swapped) -> None:
    """By way of the router: promoted, rolled back, replaced."""
    swapped.deploy()
    port = swapped.port
    kept, waiting = Kept(port), [Kept(port) for _ in range(4)]
    seen: set[int] = set()
    with ExitStack() as stack:
        for client in (kept, *waiting):
            stack.callback(client.close)
        seen |= ask_all(waiting, {1})
        with asking(swapped, kept):
            for round_ in range(ROUNDS):
                half = half_a_request(port)
                swapped.deploy(canary_percent=50)
                seen |= ask_all(waiting, {swapped.least, swapped.number})
                match round_ % 3:
                    case 0:
                        swapped.promote()
                    case 1:
                        swapped.target.set_traffic(NAME, 30)
                        seen |= ask_all(waiting, {swapped.least, swapped.number})
                        swapped.target.set_traffic(NAME, 0)
                    case 2:
                        swapped.deploy()
                seen |= ask_all(waiting, {swapped.least})
                assert other_half(half) == swapped.least
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
        done.append((ask_once(kind, port), time.monotonic()))

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
