"""100,000 requests over plain connections while revisions are swapped and a canary moves: none lost, none wrong."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from kaptain_magics.core.events import StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local.instances import Instance
from kaptain_magics.targets.local.local_serving import LocalServing
from tests.servers import JSON, predictor, tensor

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
REQUESTS = int(os.environ.get("KAPTAIN_TEST_SOAK", "100000"))
CLIENTS = 8
NAME = "soak"
STEP = 1_000_000
SOURCE = """
batchable = True
def predict(inputs):
    (rows,) = inputs.values()
    return rows.sum(axis=1) + {mark}
"""


class Clients:
    """Half of them keep their connections, half make a new one for every request. None tries a request again."""

    def __init__(self, port: int) -> None:
        self.answers: Counter[int] = Counter()
        self.faults: list[str] = []
        self._port = port
        self._turn = threading.Lock()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        for count in range(REQUESTS // CLIENTS):
            value = number * 10_000 + count % 10_000
            body = json.dumps({"inputs": [tensor("x", "FP64", [1, 2], [value, 0.5])]})
            try:
                connection.request("POST", f"/v2/models/{NAME}/infer", body, JSON)
                answer = connection.getresponse()
                data = json.loads(answer.read())
                mark, rest = divmod(data["outputs"][0]["data"][0] - 0.5, STEP)
                fault = "" if answer.status == 200 and rest == value else f"{answer.status} {data}"
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                mark, fault = 0, repr(error)
                connection.close()
            with self._turn:
                self.answers[int(mark)] += 1
                if fault:
                    self.faults.append(fault)
            if number % 2:
                connection.close()
        connection.close()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)


def test_soak(tmp_path: Path) -> None:
    target = LocalServing(TargetConfig(home=tmp_path, cache=tmp_path))

    def deploy(number: int, canary_percent: int | None = None) -> None:
        folder = predictor(tmp_path / f"model-{number}", SOURCE.format(mark=number * STEP))
        spec = EndpointSpec(
            name=NAME,
            run_id="r",
            model_id=NAME,
            revision=f"{number:032x}",
            artifact_uri=folder.as_uri(),
            framework=ModelFramework.PYTHON,
            replace=True,
            canary_percent=canary_percent,
            timeout=120.0,
        )
        last = list(target.deploy(spec))[-1]
        assert isinstance(last, StateChanged)
        assert last.state is RunState.SUCCEEDED, last

    deploy(1)
    clients = Clients(int(target.endpoint(NAME).url.split(":")[2].split("/")[0]))
    begun = time.monotonic()
    memory: list[float] = []
    moves = 0
    try:
        for thread in clients.threads:
            thread.start()
        number = 1
        while not clients.done:
            number += 1
            kind = number % 3
            if kind == 0:
                deploy(number)
            else:
                deploy(number, canary_percent=30)
                time.sleep(1.0)
                target.set_traffic(NAME, 70)
                time.sleep(1.0)
                target.set_traffic(NAME, 100 if kind == 1 else 0)
            moves += 1
            time.sleep(1.0)
            memory.append(_memory(tmp_path))
        for thread in clients.threads:
            thread.join()
        seconds = time.monotonic() - begun
    finally:
        target.undeploy(NAME)
    asked = sum(clients.answers.values())
    print(f"\n{asked} requests in {seconds:.0f} s, {moves} moves, {len(clients.answers)} revisions answered")
    print(f"faults: {Counter(clients.faults)}; memory of the server MB: {memory[0]:.0f} first, {memory[-1]:.0f} last")
    assert asked == REQUESTS // CLIENTS * CLIENTS
    assert not clients.faults


def _memory(home: Path) -> float:
    alive = [i for p in (home / "local/endpoints" / NAME).glob("i-*") if (i := Instance(p)).alive and i.info]
    return max(psutil.Process(i.info.pid).memory_info().rss for i in alive if i.info) / 1e6
