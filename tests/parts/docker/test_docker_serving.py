"""What the docker target adds to the suite of all serving targets."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import Event, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec, ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.docker import DockerTarget
from tests.latency import median_kept_alive
from tests.seaweed import SeaweedFS

pytestmark = pytest.mark.docker


ALWAYS = "import numpy as np\n\n\ndef predict(inputs):\n    return np.full(len(next(iter(inputs.values()))), {})\n"


@pytest.fixture(scope="module")
def target(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerTarget]:
    import docker

    from kaptain_magics.targets.docker.container_settings import owner

    home = tmp_path_factory.mktemp("serving")
    target = DockerTarget(TargetConfig(home=home, cache=home / "cache", settings={"docker_host": docker_host}))
    yield target
    client = docker.DockerClient(base_url=docker_host)
    mine = {"label": f"kaptain.owner={owner(home)}"}
    for found in client.containers.list(all=True, filters=mine):
        found.remove(force=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
    client.close()


@pytest.fixture
def spec(docker_base_image: str, tmp_path: Path) -> Callable[..., EndpointSpec]:
    def make(source: str, name: str = "dev-mnist", **changes: Any) -> EndpointSpec:
        folder = tmp_path / new_hex(32)
        folder.mkdir()
        (folder / "model.py").write_text(source)
        endpoint = EndpointSpec(
            name=name,
            run_id="run",
            model_id="dev/mnist",
            revision=folder.name,
            artifact_uri=folder.as_uri(),
            framework=ModelFramework.PYTHON,
            image=ImageSpec(base_image=docker_base_image),
            timeout=120.0,
        )
        return msgspec.structs.replace(endpoint, **changes)

    return make


def deploy(target: DockerTarget, endpoint: EndpointSpec) -> tuple[StateChanged, list[Event]]:
    events = list(target.deploy(endpoint))
    assert isinstance(events[-1], StateChanged)
    return events[-1], events


def ask(url: str, headers: dict[str, str] | None = None) -> Any:
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [0.5, 0.5]}]}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())["outputs"][0]["data"][0]


def test_nothing_is_left_of_endpoints_that_are_gone(
    target: DockerTarget, spec: Callable[..., EndpointSpec], docker_host: str
) -> None:
    import docker

    failed, _ = deploy(target, spec("raise RuntimeError('no')", name="never-there"))
    assert failed.state is RunState.FAILED
    client = docker.DockerClient(base_url=docker_host)
    left = [found.name for found in client.containers.list(all=True) if "never-there" in str(found.name)]
    left += [volume.name for volume in client.volumes.list() if "never-there" in volume.name]
    client.close()
    assert left == []


def test_a_server_s_log_can_be_read(target: DockerTarget, spec: Callable[..., EndpointSpec]) -> None:
    end, _ = deploy(target, spec("print('loading it')\ndef predict(inputs):\n    return [1]\n"))
    assert end.state is RunState.SUCCEEDED, end.reason
    log = target.server_log("dev-mnist")
    assert "loading it" in log
    assert "model dev-mnist is ready" in log


def test_a_server_that_was_killed_comes_back(
    target: DockerTarget, spec: Callable[..., EndpointSpec], docker_host: str
) -> None:
    import docker

    assert deploy(target, spec(ALWAYS.format(4), name="phoenix"))[0].state is RunState.SUCCEEDED
    assert [line for line in target.clean() if "phoenix" in line] == []
    url = target.endpoint("phoenix").url
    client = docker.DockerClient(base_url=docker_host)
    (server,) = [
        found
        for found in client.containers.list(filters={"label": "kaptain.endpoint=phoenix"})
        if found.labels["kaptain.kind"] == "server"
    ]
    server.exec_run(["python", "-c", "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"])
    client.close()
    until = time.monotonic() + 60
    answer = None
    while answer is None and time.monotonic() < until:
        try:
            answer = ask(url)
        except OSError:
            time.sleep(0.1)
    assert answer == 4
    target.undeploy("phoenix")


def test_a_server_has_its_variables_and_the_engine_shows_none(
    target: DockerTarget, spec: Callable[..., EndpointSpec], docker_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    monkeypatch.setenv("DEMO_NAME", "passed")
    code = "import os\nseen = len(os.environ['DEMO_NAME'] + os.environ['G'])\n"
    code += "def predict(inputs):\n    return {'y': inputs['x'] * 0 + seen}\n"
    named = spec(code, name="named", env={"G": "the-given-value"}, env_names=("DEMO_NAME",), token=True)
    assert deploy(target, named)[0].state is RunState.SUCCEEDED
    status = target.endpoint("named")
    client = docker.DockerClient(base_url=docker_host)
    found = client.containers.list(filters={"label": "kaptain.endpoint=named"})
    shown = json.dumps([one.attrs for one in found])
    client.close()
    for secret in ("the-given-value", '"passed"', "=passed", status.headers["Authorization"].split()[1]):
        assert secret not in shown
    assert ask(status.url, status.headers) == 21
    target.undeploy("named")


def test_out_of_memory_while_loading_is_named(target: DockerTarget, spec: Callable[..., EndpointSpec]) -> None:
    greedy = spec(
        "kept = [bytearray(10_000_000) for _ in range(100)]", name="greedy", resources=Resources.simple(memory="100M")
    )
    last, _ = deploy(target, greedy)
    assert last.state is RunState.FAILED
    assert last.reason.startswith("out of memory")
    assert "--memory" in last.hint


def test_a_model_comes_from_an_s3_server(
    docker_host: str, spec: Callable[..., EndpointSpec], seaweed: SeaweedFS, tmp_path: Path
) -> None:
    from kaptain_magics.storage import open_store

    local = spec(ALWAYS.format(5), name="from-s3")
    uri = f"s3://serving-{new_hex(8)}/models/{local.revision}"
    open_store(uri, dict(seaweed.env)).put(Path(local.artifact_uri.removeprefix("file://")), uri)
    config = TargetConfig(
        home=tmp_path, cache=tmp_path / "cache", settings={"docker_host": docker_host}, storage_env=dict(seaweed.env)
    )
    target = DockerTarget(config)
    last, _ = deploy(target, msgspec.structs.replace(local, artifact_uri=uri))
    assert last.state is RunState.SUCCEEDED, last
    assert ask(target.endpoint("from-s3").url) == 5
    target.undeploy("from-s3")
    target.clean(force=True)


def test_a_request_on_a_kept_connection_waits_for_nobody(
    target: DockerTarget, spec: Callable[..., EndpointSpec]
) -> None:
    end, events = deploy(target, spec(ALWAYS.format(1), name="quick"))
    assert end.state is RunState.SUCCEEDED, events
    median = median_kept_alive(target.endpoint("quick").url)
    print(f"median {1000 * median:.2f} ms")
    assert median < 0.02  # an answer in two pieces that waits for an acknowledgement takes 0.04 s
    target.undeploy("quick")
