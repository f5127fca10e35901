"""What only the local target has: processes that are killed, ports that are taken, state that is stale, tokens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, ServingError, TargetError
from kaptain_magics.serving.client.predict import predict
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local import instances
from kaptain_magics.targets.local.local_serving import LocalServing
from kaptain_magics.targets.local.server_environment import base_environment
from tests.servers import ADDER, JSON, predictor, tensor
from tests.waiting import until

NAME = "dev-m"
FOREVER = "import time\nwhile True:\n    time.sleep(0.05)\n"

Make = Callable[..., LocalServing]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make targets on one state folder; what they left is ended with the test."""
    config = TargetConfig(home=tmp_path / "home", cache=tmp_path / "cache")
    yield lambda **more: LocalServing(config, **more)
    target = LocalServing(config)
    for status in target.endpoints():
        target.undeploy(status.name)
    for path in (tmp_path / "home").rglob("i-*"):
        left = instances.Instance(path)
        left.end()
        left.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return predictor(tmp_path / "model", ADDER)


def spec(folder: Path, revision: str = "a", **more: Any) -> EndpointSpec:
    given: dict[str, Any] = {"timeout": 60.0, **more}
    return EndpointSpec(
        name=NAME,
        run_id="r",
        model_id="dev/m",
        revision=revision * 32,
        artifact_uri=folder.as_uri(),
        framework=ModelFramework.PYTHON,
        **given,
    )


def deploy(target: LocalServing, wanted: EndpointSpec) -> StateChanged:
    events = list(target.deploy(wanted))
    assert isinstance(events[-1], StateChanged)
    return events[-1]


def succeed(target: LocalServing, wanted: EndpointSpec) -> str:
    end = deploy(target, wanted)
    assert end.state is RunState.SUCCEEDED, end
    return target.endpoint(NAME).url


def processes(tmp_path: Path) -> dict[str, int]:
    """Return the living processes of the endpoint by the kind of their options."""
    found = {}
    for path in (tmp_path / "home/local/endpoints" / NAME).glob("i-*"):
        instance = instances.Instance(path)
        info = instance.info
        if instance.alive and info is not None:
            options = json.loads((path / "options.json").read_text())
            found["router" if "backends" in options else options["version"][0]] = info.pid
    return found


def ask(url: str, **headers: str) -> int:
    return int(predict(url, headers, [[1.0, 2.0]])[0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"autoscale": 5}, "replica options are ignored"),
        ({"max_replicas": 3}, "replica options are ignored"),
        ({"resources": Resources.simple(memory="500M")}, "does not limit the memory of a server"),
        ({}, ""),
    ],
    ids=str,
)
def test_options_that_count_elsewhere_are_said(make: Make, tmp_path: Path, more: dict[str, Any], said: str) -> None:
    events = list(make().deploy(spec(tmp_path / "missing", **more)))
    assert events[-1].state is RunState.FAILED
    assert [said in event.text for event in events if isinstance(event, Noted)] == [True] * bool(said)


def test_a_killed_server_is_failed_with_the_reason(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder))
    os.kill(processes(tmp_path)["a"], signal.SIGKILL)
    until(lambda: "its server was killed, or the machine was restarted" in target.endpoint(NAME).reason, 30)
    status = target.endpoint(NAME)
    assert status.state is EndpointState.FAILED
    assert status.replicas == 0
    assert [s.state for s in target.endpoints()] == [EndpointState.FAILED]
    with pytest.raises(ServingError, match="does not answer"):
        ask(url)
    assert succeed(target, spec(folder, "b")) == url  # no --replace needed, and the port is the same
    assert ask(url) == 3


def test_a_recycled_process_id_is_not_taken_for_the_server(make: Make, folder: Path, tmp_path: Path) -> None:
    """After a reboot the id may be another process's: only the lock shows whose."""
    target = make()
    succeed(target, spec(folder))
    os.kill(processes(tmp_path)["a"], signal.SIGKILL)
    until(lambda: not processes(tmp_path), 30)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (state,) = (tmp_path / "home/local/endpoints" / NAME).glob("i-*/state.json")
        state.write_text(json.dumps({"pid": stranger.pid, "port": 1}))
        assert target.endpoint(NAME).state is EndpointState.FAILED
        target.undeploy(NAME)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert not (tmp_path / "home/local/endpoints" / NAME).exists()


def test_a_port_that_another_process_took_meanwhile(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder))
    os.kill(processes(tmp_path)["a"], signal.SIGKILL)
    until(lambda: not processes(tmp_path), 30)
    port = int(url.split(":")[2].split("/")[0])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        end = deploy(target, spec(folder, "b", port=port))
        assert end.state is RunState.FAILED
        assert f"cannot listen on 127.0.0.1:{port}" in end.reason
        assert succeed(target, spec(folder, "b")) != url


def test_a_chosen_port_moves_the_endpoint(make: Make, folder: Path) -> None:
    target = make()
    first = succeed(target, spec(folder))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = succeed(target, spec(folder, "b", port=port, replace=True))
    assert second != first
    assert f":{port}/" in second
    assert ask(second) == 3
    assert succeed(target, spec(folder, "c", replace=True)) == second


def test_a_killed_canary_loses_nothing(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder))
    succeed(target, spec(folder, "b", canary_percent=50))
    os.kill(processes(tmp_path)["b"], signal.SIGKILL)
    assert [ask(url) for _ in range(20)] == [3] * 20
    target.set_traffic(NAME, 0)
    assert target.endpoint(NAME).traffic == {"a" * 32: 100}
    assert ask(url) == 3


def test_a_killed_stable_server_leaves_the_canary(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder))
    succeed(target, spec(folder, "b", canary_percent=50))
    os.kill(processes(tmp_path)["a"], signal.SIGKILL)
    assert [ask(url) for _ in range(10)] == [3] * 10
    target.set_traffic(NAME, 100)
    assert target.endpoint(NAME).state is EndpointState.READY
    assert ask(url) == 3


def test_a_killed_router_is_replaced(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder))
    succeed(target, spec(folder, "b", canary_percent=50))
    os.kill(processes(tmp_path)["router"], signal.SIGKILL)
    until(lambda: target.endpoint(NAME).state is EndpointState.FAILED, 30)
    assert "router" in target.endpoint(NAME).reason
    target.set_traffic(NAME, 20)
    assert target.endpoint(NAME).state is EndpointState.READY
    assert ask(url) == 3
    os.kill(processes(tmp_path)["router"], signal.SIGKILL)
    target.set_traffic(NAME, 100)
    assert ask(url) == 3
    until(lambda: list(processes(tmp_path)) == ["b"], 60)


def test_a_server_outlives_who_deployed_it(folder: Path, tmp_path: Path, make: Make) -> None:
    code = """
import msgspec, sys
from pathlib import Path
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local.server_environment import base_environment
from kaptain_magics.targets.local.local_serving import LocalServing
home = Path(sys.argv[1])
spec = msgspec.json.decode(sys.argv[2], type=EndpointSpec)
for event in LocalServing(TargetConfig(home=home, cache=home)).deploy(spec):
    print(type(event).__name__, flush=True)
sys.exit(event.state != "succeeded")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "home"), msgspec.json.encode(spec(folder)).decode()]
    subprocess.run(command, check=True, timeout=120)
    status = make().endpoint(NAME)
    assert status.state is EndpointState.READY
    assert ask(status.url) == 3
    pid = processes(tmp_path)["a"]
    assert os.getsid(pid) == pid

    endless = predictor(tmp_path / "endless", FOREVER)
    command[-1] = msgspec.json.encode(spec(endless, "b", replace=True, timeout=60.0)).decode()
    deployer = subprocess.Popen(command)
    try:
        until(lambda: "b" in processes(tmp_path), 60, "second server")
    finally:
        deployer.kill()
        deployer.wait()
    assert ask(status.url) == 3  # it is still the first one's
    orphan = processes(tmp_path)["b"]
    with suppress(ProcessLookupError):
        os.kill(orphan, signal.SIGKILL)


def test_a_server_that_nobody_takes_ends_itself(tmp_path: Path, folder: Path, make: Make) -> None:
    instance = instances.Instance.make(tmp_path / "home/local/endpoints/dev-m")
    options = {
        "model_name": NAME,
        "folder": str(folder),
        "framework": "python",
        "port": 0,
        "hold": True,
        "patience": 0.5,
        "private": str(instance.private),
        "control": str(instance.control),
        "state": str(instance.state),
    }
    started = instance.start(instances.launch_process, instances.SERVER, options, base_environment(), sys.executable)
    until(lambda: started.poll() is not None, 60, "ended")
    assert started.poll() == 0
    assert "no activation command arrived in time" in instance.log.read_text()
    assert not instance.control.exists()
    assert not instance.private.exists()


def test_a_deployment_can_be_cancelled(make: Make, tmp_path: Path) -> None:
    target = make()
    events: list[Event] = []
    wanted = spec(predictor(tmp_path / "endless", FOREVER))
    thread = threading.Thread(target=lambda: events.extend(target.deploy(wanted)))
    thread.start()
    until(lambda: processes(tmp_path), 60, "started")
    (pid,) = processes(tmp_path).values()
    target.cancel()
    thread.join(60)
    assert isinstance(events[-1], StateChanged)
    assert events[-1].state is RunState.STOPPED
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 60, "ended")
    assert not (tmp_path / "home/local/endpoints" / NAME).exists()


def test_a_deployment_that_nobody_follows_cleans_up(make: Make, folder: Path, tmp_path: Path) -> None:
    events = make().deploy(spec(folder))
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert not processes(tmp_path)
    with pytest.raises(KaptainError):
        make().endpoint(NAME)


def test_it_takes_only_so_long(make: Make, tmp_path: Path) -> None:
    end = deploy(make(), spec(predictor(tmp_path / "endless", FOREVER), timeout=1.5))
    assert end.state is RunState.FAILED
    assert "was not loaded in time" in end.reason


def test_a_server_that_is_killed_while_it_loads(make: Make, tmp_path: Path) -> None:
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    started = time.monotonic()
    end = deploy(make(), spec(predictor(tmp_path / "killed", source)))
    assert end.state is RunState.FAILED
    assert "killed by SIGKILL" in end.reason
    assert time.monotonic() - started < 40


def test_a_token_is_made_beyond_this_machine(make: Make, folder: Path, tmp_path: Path) -> None:
    target = make()
    url = succeed(target, spec(folder, host="0.0.0.0"))
    assert url.startswith("http://127.0.0.1:")
    status = target.endpoint(NAME)
    token = status.headers["Authorization"].removeprefix("Bearer ")
    assert len(token) >= 32
    with pytest.raises(ServingError, match="a bearer token is needed"):
        ask(url)
    assert ask(url, **status.headers) == 3
    endpoint = tmp_path / "home/local/endpoints" / NAME
    assert (endpoint / "token").stat().st_mode & 0o077 == 0
    pid = processes(tmp_path)["a"]
    assert token not in " ".join(psutil.Process(pid).cmdline())
    for path in endpoint.rglob("*"):
        assert path.name == "token" or not path.is_file() or token not in path.read_text()
    succeed(target, spec(folder, "b", host="0.0.0.0", replace=True))
    assert target.endpoint(NAME).headers == status.headers


def test_several_workers_and_threads(make: Make, tmp_path: Path) -> None:
    source = "import os\ndef predict(inputs):\n    return [[os.getpid(), int(os.environ['OMP_NUM_THREADS'])]]\n"
    target = make()
    wanted = spec(predictor(tmp_path / "who", source), workers=2, resources=Resources.simple(cpu="2500m"))
    url = succeed(target, wanted)

    def who() -> set[int]:
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
        connection.request(
            "POST", f"/v2/models/{NAME}/infer", json.dumps({"inputs": [tensor("x", "INT8", [1], [1])]}), JSON
        )
        pid, threads = json.loads(connection.getresponse().read())["outputs"][0]["data"]
        connection.close()
        assert threads == 3
        found.add(pid)
        return found if len(found) == 2 else set()

    found: set[int] = set()
    until(who, 60, "both workers")
    assert target.endpoint(NAME).requests["a" * 32] >= 2
    succeed(target, spec(predictor(tmp_path / "next", ADDER), "b", replace=True, workers=2))
    assert ask(url) == 3
    for pid in found:
        until(lambda pid=pid: not psutil.pid_exists(pid), 60, "drained")  # type: ignore[misc]


def test_options_that_this_target_does_not_have(make: Make, folder: Path) -> None:
    events = list(make().deploy(spec(folder, max_replicas=3, transformer={"image_name": "x"})))
    notes = [e for e in events if isinstance(e, Noted)]
    assert [n.warning for n in notes] == [True, True]
    assert "replica" in notes[0].text


def test_artifacts_that_are_elsewhere(make: Make, folder: Path) -> None:
    end = deploy(make(), msgspec.structs.replace(spec(folder), artifact_uri="s3://kaptain/models/x"))
    assert end.state is RunState.FAILED
    assert "s3://kaptain/models/x" in end.reason
    end = deploy(make(), msgspec.structs.replace(spec(folder), artifact_uri=(folder / "gone").as_uri()))
    assert "does not exist" in end.reason


def test_requirements_choose_the_interpreter(make: Make, folder: Path) -> None:
    asked: list[Sequence[str]] = []

    def interpreter(asking: EndpointSpec) -> str:
        asked.append(asking.requirements)
        raise TargetError("pip could not install nonsense", "check its name")

    end = deploy(make(interpreter=interpreter), spec(folder, requirements=("nonsense==9",)))
    assert asked == [("nonsense==9",)]
    assert (end.state, end.reason, end.hint) == (RunState.FAILED, "pip could not install nonsense", "check its name")


def test_a_server_may_come_from_elsewhere(make: Make, folder: Path, tmp_path: Path) -> None:
    launched: list[tuple[str, list[str]]] = []

    def launch(module: str, argv: Sequence[str], env: Mapping[str, str], log: Path, python: str) -> instances.Started:
        launched.append((module, list(argv)))
        code = f"import os, sys\nif os.fork(): os._exit(0)\nfrom {module}.__main__ import main\n"
        code += "sys.exit(main(sys.argv[1:]))"
        with open(log, "ab") as output:
            command = [python, "-c", code, *argv]
            child = subprocess.Popen(command, env=dict(env), stdout=output, stderr=output, start_new_session=True)
        child.wait()

        class OutOfSight:
            def poll(self) -> int | None:
                return None

        return OutOfSight()

    target = make(launch=launch)
    url = succeed(target, spec(folder))
    assert launched[0][0] == instances.SERVER
    assert ask(url) == 3


def test_several_deployments_at_once(make: Make, folder: Path) -> None:
    ends: list[StateChanged] = []

    def run(revision: str) -> None:
        ends.append(deploy(make(), spec(folder, revision)))

    threads = [threading.Thread(target=run, args=(revision,)) for revision in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    states = sorted(end.state for end in ends)
    assert states == [RunState.FAILED, RunState.FAILED, RunState.SUCCEEDED]
    assert ask(make().endpoint(NAME).url) == 3
