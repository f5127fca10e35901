"""In containers, too: after a swap has returned no client gets an answer of the old revision, and none is refused.

``KAPTAIN_TEST_ROUNDS=20`` makes the rounds as many as that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from kaptain_magics.core.events import Noted
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.errors import StateError, TargetError
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.docker import DockerTarget
from kaptain_magics.targets.docker.endpoint_containers import EndpointContainers
from kaptain_magics.targets.endpoint_store import EndpointStore
from tests.swaps import NAME, Kept, Swapped, ask_all, ask_once, asking, half_a_request, other_half

pytestmark = pytest.mark.docker
ROUNDS = int(os.environ.get("KAPTAIN_TEST_ROUNDS", "3"))


@pytest.fixture
def swapped(docker_host: str, docker_base_image: str, tmp_path: Path) -> Iterator[Swapped]:
    config = TargetConfig(home=tmp_path / "home", cache=tmp_path / "cache", settings={"docker_host": docker_host})
    target = DockerTarget(config)
    yield Swapped(tmp_path, target, image=ImageSpec(base_image=docker_base_image))
    target.undeploy(NAME)
    left = target.clean(force=True)
    assert [line for line in left if "-packages-" not in line] == []


def test_replaced_promoted_and_rolled_back(swapped: Swapped) -> None:
    """Seen by clients that keep their connection, asking or idle, by new ones, and by one within its request."""
    swapped.deploy()
    port = swapped.port
    kept, idle = [Kept(port) for _ in range(2)], [Kept(port) for _ in range(4)]
    seconds: dict[str, list[float]] = {"replace": [], "promote": [], "roll back": []}

    def timed(what: str, action: Callable[[], object]) -> None:
        since = time.monotonic()
        action()
        seconds[what].append(time.monotonic() - since)

    with ExitStack() as stack:
        for client in (*kept, *idle):
            stack.callback(client.close)
        ask_all(idle, {1})
        with asking(swapped, *kept, partial(ask_once, Kept, port)):
            for round_ in range(ROUNDS):
                half = half_a_request(port)
                if round_ % 3 == 0:
                    timed("replace", swapped.deploy)
                else:
                    swapped.deploy(canary_percent=50)
                    ask_all(idle, {swapped.least, swapped.number})
                    if round_ % 3 == 1:
                        timed("promote", swapped.promote)
                    else:
                        timed("roll back", lambda: swapped.target.set_traffic(NAME, 0))
                ask_all(idle, {swapped.least})
                assert other_half(half) == swapped.least
    assert [client.opened for client in idle] == [1] * 4
    print("seconds", seconds)


def test_what_is_in_work_is_answered_by_the_revision_that_took_it(swapped: Swapped) -> None:
    swapped.deploy(source="import time\ndef predict(inputs):\n    time.sleep(5)\n    return [{number}]\n")
    port, answers = swapped.port, list[int]()

    def ask() -> None:
        answers.append(ask_once(Kept, port))

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
