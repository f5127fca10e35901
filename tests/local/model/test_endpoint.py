"""How often an endpoint is looked up, and what it says after it moved, failed or went; with real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from kaptain_magics.config import Settings
from kaptain_magics.core.events import StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import InferenceError, NotFoundError, ServingError
from kaptain_magics.model.context import Context
from kaptain_magics.model.endpoint import Endpoint
from kaptain_magics.state import EndpointRecord
from kaptain_magics.targets.base import EndpointStatus, TargetConfig
from kaptain_magics.targets.local import instances
from kaptain_magics.targets.local.local_serving import LocalServing
from tests.servers import predictor
from tests.waiting import until

NAME = "dev-m"
# The sum of every row times a factor, with every call in a file; a row that begins with -1 takes a second,
# one with -2 is refused.
MODEL = """
import pathlib, time
def predict(inputs):
    (rows,) = inputs.values()
    with open(pathlib.Path(__file__).parent.parent / "calls", "a") as calls:
        calls.write("x")
    if rows[0, 0] == -1:
        time.sleep(1)
    if rows[0, 0] == -2:
        raise ValueError("no")
    return rows.sum(axis=1) * FACTOR
"""


class CountingServing(LocalServing):
    """The local target; counts how often it is asked for an endpoint's status."""

    asked = 0

    def endpoint(self, name: str) -> EndpointStatus:
        """Count, and return the endpoint as it is now."""
        self.asked += 1
        return super().endpoint(name)


class Served:
    """A state folder with an endpoint that can be deployed and asked.

    Args:
        path: A folder of the test.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = Settings(home=str(path / "home"), cache=str(path / "cache"))
        self.target = CountingServing(TargetConfig(home=path / "home", cache=path / "cache"))
        self.elsewhere = LocalServing(
            TargetConfig(home=path / "home", cache=path / "cache")
        )  # as another process has it
        self.registry = Context(self.settings).registry

    def open(self, **settings: Any) -> Endpoint:
        return Endpoint(NAME, self.target, Context(Settings(**vars(self.settings) | settings)))

    def deploy(
        self, factor: int = 1, record: bool = True, framework: ModelFramework = ModelFramework.PYTHON, **more: Any
    ) -> str:
        folder = self.path / f"model-{factor}"
        if framework is ModelFramework.PYTHON:
            predictor(folder, MODEL.replace("FACTOR", str(factor)))
        spec = EndpointSpec(
            name=NAME,
            run_id="r",
            model_id="dev/m",
            revision=f"{factor:032x}",
            artifact_uri=folder.as_uri(),
            framework=framework,
            timeout=60.0,
            **more,
        )
        end = list(self.elsewhere.deploy(spec))[-1]
        assert isinstance(end, StateChanged)
        assert end.state is RunState.SUCCEEDED, end
        if record:
            self.registry.save_endpoint(
                EndpointRecord(name=NAME, target="local", model_id="dev/m", run_id="r", created=time.time(), spec=spec)
            )
        return self.elsewhere.endpoint(NAME).url

    def undeploy(self, record: bool = True) -> None:
        self.elsewhere.undeploy(NAME)
        if record:
            self.registry.remove_endpoint(NAME)

    def kill(self) -> None:
        """Kill the server."""
        for path in (self.path / "home/local/endpoints" / NAME).glob("i-*"):
            info = instances.Instance(path).info
            assert info is not None
            os.kill(info.pid, signal.SIGKILL)
        until(lambda: self.elsewhere.endpoint(NAME).reason, 30, "noticed")

    @property
    def calls(self) -> int:
        file = self.path / "calls"
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    for status in made.elsewhere.endpoints():
        made.elsewhere.undeploy(status.name)


def ask(endpoint: Endpoint, **more: Any) -> int:
    return int(endpoint.predict([[1.0, 2.0]], **more)[0])


def test_the_address_is_looked_up_once(served: Served) -> None:
    served.deploy()
    endpoint = served.open()
    assert [ask(endpoint) for _ in range(50)] == [3] * 50
    assert served.target.asked == 1
    assert ask(served.open()) == 3  # as %kaptain predict and model.predict, which open it each time
    assert int(asyncio.run(endpoint.predict_async([[1.0, 2.0]]))[0]) == 3
    with pytest.raises(InferenceError, match="status 400"):  # the model's own refusal
        endpoint.predict([[-2.0, 0.0]])
    assert served.target.asked == 1
    assert ask(served.open(namespace="other")) == 3  # settings may name another cluster
    assert served.target.asked == 2


def test_a_deployment_is_noticed(served: Served) -> None:
    """By its record, without a failed request; and without one by the failed request."""
    before = served.deploy()
    endpoint = served.open()
    assert ask(endpoint) == 3
    served.deploy(factor=2, replace=True)
    assert ask(endpoint) == 6
    assert served.target.asked == 2
    served.undeploy()
    assert served.deploy(factor=3) != before
    assert ask(endpoint) == 9
    assert served.target.asked == 3
    served.undeploy(record=False)
    served.deploy(factor=4, record=False)
    assert ask(endpoint) == 12
    assert served.target.asked == 4
    assert ask(endpoint) == 12
    assert served.target.asked == 4


def test_the_columns_of_another_model_are_asked_for(served: Served) -> None:
    """Rows without names go by the order of the model that is there, not of the one before."""
    table = pd.DataFrame({"a": [0.0, 1.0, 0.0, 1.0], "b": [0.0, 0.0, 1.0, 1.0]})
    for factor, columns in ((1, ["a", "b"]), (2, ["b", "a"])):
        (served.path / f"model-{factor}").mkdir()
        model = LinearRegression().fit(table[columns], table["a"] + 10 * table["b"])
        joblib.dump(model, served.path / f"model-{factor}" / "model.joblib")
    served.deploy(1, framework=ModelFramework.SKLEARN)
    endpoint = served.open()
    assert float(endpoint.predict([[1.0, 2.0]])[0]) == pytest.approx(21)
    served.deploy(2, framework=ModelFramework.SKLEARN, replace=True)
    assert float(endpoint.predict([[1.0, 2.0]])[0]) == pytest.approx(12)


def test_a_new_token_on_the_same_port(served: Served) -> None:
    url = served.deploy(host="0.0.0.0")
    endpoint = served.open()
    assert ask(endpoint) == 3
    first = endpoint.token
    served.undeploy(record=False)
    assert served.deploy(record=False, host="0.0.0.0", port=int(url.split(":")[2].split("/")[0])) == url
    assert ask(endpoint) == 3
    assert endpoint.token not in (first, "")


def test_an_endpoint_that_is_gone_or_failed_says_so(served: Served) -> None:
    served.deploy()
    endpoint = served.open()
    assert ask(endpoint) == 3
    served.kill()
    with pytest.raises(ServingError, match="endpoint dev-m is failed: its server was killed") as failed:
        ask(endpoint)
    assert failed.value.hint == "start it again: %kaptain_deploy dev/m --replace"
    served.deploy()
    assert ask(endpoint) == 3
    served.undeploy(record=False)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="there is no endpoint 'dev-m'") as gone:
            ask(endpoint)
        assert gone.value.hint == "deploy it first: %kaptain_deploy dev-m"


def test_a_slow_endpoint_is_not_asked_twice(served: Served) -> None:
    served.deploy()
    endpoint = served.open()
    assert ask(endpoint) == 3
    with pytest.raises(ServingError, match="does not answer in time"):
        endpoint.predict([[-1.0, 0.0]], timeout=0.3)
    assert ask(endpoint) == 3
    until(lambda: served.calls >= 3, 30, "answered")
    served.undeploy()  # after what it has still to answer
    assert served.calls == 3
