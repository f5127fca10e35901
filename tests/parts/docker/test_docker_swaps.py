"""In containers, too: after a swap has returned no client gets an answer of the old revision, and none is refused.

``KAPTAIN_TEST_ROUNDS=20`` makes the rounds as many as that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.events import Event, Noted
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec, ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import StateError, TargetError
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.docker import DockerTarget
from kaptain_magics.targets.docker.endpoint_containers import EndpointContainers
from kaptain_magics.targets.endpoint_store import EndpointStore
from tests.local.faults.test_swaps import NAME, Asking, Kept, half_a_request, other_half
from tests.servers import predictor

pytestmark = pytest.mark.docker
ROUNDS = int(os.environ.get("KAPTAIN_TEST_ROUNDS", "3"))


class Swapped:
    """An endpoint in containers whose revisions answer with their number."""

    def __init__(self, folder: Path, docker_host: str, base_image: str) -> None:
        self.folder, self._base_image = folder, base_image
        config = TargetConfig(home=folder / "home", cache=folder / "cache", settings={"docker_host": docker_host})
        self.target = DockerTarget(config)
        self.number = self.least = 0

    def deploy(self, source: str = "def predict(inputs):\n    return [{number}]\n", **more: Any) -> list[Event]:
        """Deploy the next revision; unless it is a canary nothing older may answer from then on."""
        number = self.number + 1
        model = predictor(self.folder / f"model{number}", source.format(number=number))
        spec = EndpointSpec(
            name=NAME,
            run_id=f"r{number:06d}",
            model_id="s/m",
            revision=f"{number:032x}",
            artifact_uri=model.as_uri(),
            framework=ModelFramework.PYTHON,
            image=ImageSpec(base_image=self._base_image),
            timeout=120.0,
            replace=number > 1 and "canary_percent" not in more,
            **more,
        )
        events = list(self.target.deploy(spec))
        assert events[-1].state is RunState.SUCCEEDED, events[-1]  # type: ignore[attr-defined]
        self.number = number
        if "canary_percent" not in more:
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


@pytest.fixture
def swapped(docker_host: str, docker_base_image: str, tmp_path: Path) -> Iterator[Swapped]:
    swapped = Swapped(tmp_path, docker_host, docker_base_image)
    yield swapped
    swapped.target.undeploy(NAME)
    assert swapped.target.clean() == []


def test_replaced_promoted_and_rolled_back(swapped: Swapped) -> None:
    """Seen by clients that keep their connection, asking or idle, by new ones, and by one within its request."""
    swapped.deploy()
    port = swapped.port
    kept, idle = [Kept(port) for _ in range(2)], [Kept(port) for _ in range(4)]

    def new() -> int:
        client = Kept(port)
        try:
            return client()
        finally:
            client.close()

    def ask_all(allowed: set[int]) -> None:
        answers = {client() for client in idle for _ in range(3)}
        assert answers <= allowed, (answers, allowed)

    clients: list[Callable[[], int]] = [*kept, new]
    threads = [Asking(client, lambda: swapped.least) for client in clients]
    seconds: dict[str, list[float]] = {"replace": [], "promote": [], "roll back": []}

    def timed(what: str, action: Callable[[], object]) -> None:
        since = time.monotonic()
        action()
        seconds[what].append(time.monotonic() - since)

    with ExitStack() as stack:
        for client in (*kept, *idle):
            stack.callback(client.close)
        ask_all({1})
        for thread in threads:
            thread.start()
            stack.callback(thread.stop)
        for round_ in range(ROUNDS):
            half = half_a_request(port)
            if round_ % 3 == 0:
                timed("replace", swapped.deploy)
            else:
                swapped.deploy(canary_percent=50)
                ask_all({swapped.least, swapped.number})
                if round_ % 3 == 1:
                    timed("promote", swapped.promote)
                else:
                    timed("roll back", lambda: swapped.target.set_traffic(NAME, 0))
            ask_all({swapped.least})
            assert other_half(half) == swapped.least
        for thread in threads:
            thread.stop()
    assert [thread.wrong for thread in threads] == [[] for _ in threads]
    assert [client.opened for client in idle] == [1] * 4
    assert all(thread.answers for thread in threads)
    print("answers", [thread.answers for thread in threads], "seconds", seconds)


def test_what_is_in_work_is_answered_by_the_revision_that_took_it(swapped: Swapped) -> None:
    swapped.deploy(source="import time\ndef predict(inputs):\n    time.sleep(5)\n    return [{number}]\n")
    port, answers = swapped.port, list[int]()

    def ask() -> None:
        client = Kept(port)
        answers.append(client())
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)  # the server has them, and takes longer than the next one takes to start
    swapped.deploy()
    for thread in threads:
        thread.join(30)
    assert answers == [1] * 2
    ask()
    assert answers[-1] == 2


def test_a_swap_stands_when_the_server_before_cannot_be_removed(
    swapped: Swapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped.deploy()
    client = Kept(swapped.port)
    with monkeypatch.context() as patched:

        def fail(_: object, names: list[str]) -> None:
            raise TargetError(f"the engine did not stop {names}")

        patched.setattr(EndpointContainers, "retire", fail)
        events = swapped.deploy()
    assert [e.hint for e in events if isinstance(e, Noted) and e.warning] == ["%kaptain clean --force removes it"]
    assert client() == 2
    (line,) = swapped.target.clean(force=True)
    assert line.startswith("container ")
    assert client() == 2
    client.close()


def test_what_cannot_be_recorded_does_not_serve(swapped: Swapped, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped.deploy()
    client = Kept(swapped.port)
    with monkeypatch.context() as patched:

        def fail(_: object, name: str, record: object) -> None:
            raise StateError(f"{name} cannot be written: no space left on device")

        patched.setattr(EndpointStore, "write", fail)
        with pytest.raises(AssertionError, match="no space left"):
            swapped.deploy()
    assert [client() for _ in range(3)] == [1] * 3
    assert swapped.target.endpoint(NAME).traffic == {f"{1:032x}": 100}
    client.close()
