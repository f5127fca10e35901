"""What goes wrong with an engine, each with the one sentence that it deserves."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import AnyEvent, Event, LogWritten, StateChanged
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError, WorkloadError
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import FOLLOWER, FOREVER, Rig, assert_stream, log_of, outcome

pytestmark = pytest.mark.docker


@pytest.fixture
def client(docker_host: str) -> Iterator[Any]:
    import docker

    client = docker.DockerClient(base_url=docker_host)
    yield client
    client.close()


@pytest.fixture
def rig(client: Any, docker_host: str, docker_base_image: str, tmp_path: Path) -> Iterator[Rig]:
    from kaptain_magics.targets.docker.container_settings import owner

    yield Rig(
        name="docker",
        config=TargetConfig(home=tmp_path, cache=tmp_path / "cache", settings={"docker_host": docker_host}),
        folder=tmp_path / "runs",
        uploads=(tmp_path / "storage").as_uri(),
        image=ImageSpec(base_image=docker_base_image),
    )
    for found in client.containers.list(all=True, filters={"label": f"kaptain.owner={owner(tmp_path)}"}):
        found.remove(force=True)


def follow_until_ready(rig: Rig, act: Any) -> list[Event]:
    """Follow a job that never ends; ``act`` is called with its container's name once it is ready."""
    target = rig.open()
    job = rig.job(FOREVER)
    ref = target.submit(job)
    events: list[Event] = []
    for event in target.follow(ref):
        events.append(event)
        if isinstance(event, LogWritten):
            act(job.name)
    assert_stream(events)
    return events


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged)
    return events[-1]


def test_out_of_memory_is_named_with_the_limit(rig: Rig) -> None:
    source = "print('filling', flush=True)\nkept = []\nwhile True:\n    kept.append(bytearray(10_000_000))\n"
    done = outcome(rig.open(), rig.job(source, resources=Resources.simple(memory="64M")))
    assert done.last.state is RunState.FAILED
    assert done.last.reason == "out of memory: the job needed more than its limit of 64 MB"
    assert "--memory" in done.last.hint
    assert done.log == "filling\n"


def test_a_missing_image_is_named(rig: Rig) -> None:
    image = ImageSpec(base_image="127.0.0.1:1/nobody/has-this:1")
    done = outcome(rig.open(), rig.job("x = 1", image=image))
    assert done.last.state is RunState.FAILED
    assert "127.0.0.1:1/nobody/has-this:1" in done.last.reason
    assert "--base-image" in done.last.hint


def test_an_image_without_python_is_reported(rig: Rig, client: Any) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    client.api.import_image_from_data(sink.getvalue(), repository="kaptain-test/empty", tag="1")
    done = outcome(rig.open(), rig.job("x = 1", image=ImageSpec(base_image="kaptain-test/empty:1")))
    assert done.last.state is RunState.FAILED
    assert done.last.reason == "the image has no `python`"
    assert "--base-image" in done.last.hint
    client.images.remove("kaptain-test/empty:1", force=True)


def test_more_than_the_machine_has_is_reported_at_once(rig: Rig) -> None:
    with pytest.raises(WorkloadError, match=r"has only [\d.]+ CPUs"):
        rig.open().submit(rig.job("x = 1", resources=Resources.simple(cpu="512")))
    with pytest.raises(WorkloadError, match="gives no GPUs to containers"):
        rig.open().submit(rig.job("x = 1", resources=Resources.simple(gpus=1)))
    assert rig.open().clean() == []  # type: ignore[attr-defined]


def test_a_killed_container_is_a_failure_with_its_signal(rig: Rig, client: Any) -> None:
    end = last(follow_until_ready(rig, lambda name: client.containers.get(name).kill()))
    assert (end.state, end.exit_code) == (RunState.FAILED, -9)
    assert "SIGKILL" in end.reason


def test_a_removed_container_ends_the_wait(rig: Rig, client: Any) -> None:
    end = last(follow_until_ready(rig, lambda name: client.containers.get(name).remove(force=True)))
    assert end.state is RunState.FAILED
    assert end.reason


def test_a_container_that_was_never_made_ends_the_wait(rig: Rig) -> None:
    from kaptain_magics.targets.base import JobRef
    from kaptain_magics.targets.docker.container_record import ContainerRecord

    ref = JobRef.of("docker", "never-made", ContainerRecord(folder=str(rig.folder)))
    end = last(list(rig.open().follow(ref)))
    assert end.state is RunState.FAILED


def test_a_job_survives_the_process_that_followed_it(rig: Rig) -> None:
    """The follower is killed; another one goes on behind the last event that it had."""
    source = """
        import time
        for i in range(60):
            print("step", i, flush=True)
            time.sleep(0.05)
        print("accuracy=0.5")
    """
    job = rig.job(source)
    ref = rig.open().submit(job)
    command = [sys.executable, "-c", FOLLOWER, "docker"]
    command += [msgspec.json.encode(value, enc_hook=str).decode() for value in (rig.config, ref)]
    follower = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, env=dict(os.environ))
    assert follower.stdout is not None
    seen: list[Event] = []
    for line in follower.stdout:
        seen.append(msgspec.json.decode(line, type=AnyEvent))
        if log_of(job, seen).count("\n") >= 10:
            break
    follower.send_signal(signal.SIGKILL)
    follower.wait()
    follower.stdout.close()
    rest = list(rig.open().follow(ref, max(event.cursor for event in seen)))
    assert_stream(rest)
    assert last(rest).state is RunState.SUCCEEDED
    assert log_of(job, [*seen, *rest]) == "".join(f"step {i}\n" for i in range(60)) + "accuracy=0.5\n"
    again = list(rig.open().follow(ref))
    assert last(again).state is RunState.SUCCEEDED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK forgets a cut connection
def test_an_engine_that_goes_away_is_waited_for_and_then_named(
    rig: Rig, docker_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way to the engine is cut in the middle of a log, once for a moment and once for good."""
    if not docker_host.startswith("unix://"):
        pytest.fail("this test needs an engine behind a Unix socket")
    short = Path(tempfile.gettempdir()) / f"kaptain-test-{os.getpid()}.sock"
    relay = Relay(docker_host.removeprefix("unix://"), short)
    rig.config = msgspec.structs.replace(rig.config, settings={"docker_host": f"unix://{short}"})
    target = rig.open()
    source = "import time\nfor i in range(40):\n    print('step', i, flush=True)\n    time.sleep(0.05)\n"
    job = rig.job(source)
    ref = target.submit(job)
    events: list[Event] = []
    for event in target.follow(ref):
        events.append(event)
        if isinstance(event, LogWritten) and relay.cuts < 3:
            relay.cut()
    assert relay.cuts == 3
    assert_stream(events)
    assert log_of(job, events) == "".join(f"step {i}\n" for i in range(40))
    monkeypatch.setattr("kaptain_magics.targets.docker.container_output._OUTAGE_LIMIT", 1.0)
    ref = target.submit(rig.job(FOREVER))
    stream = target.follow(ref)
    while not isinstance(next(stream), LogWritten):
        pass
    relay.close()
    with pytest.raises(TargetError, match="does not answer"):
        list(stream)
    stream.close()  # type: ignore[attr-defined]
    del stream, target
    gc.collect()


class Relay:
    """A Unix socket in front of the engine's, whose connections can be cut."""

    def __init__(self, target: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._target, self._path, self.cuts = target, path, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._open += [client, server]
            threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()
        client.close()
        server.close()

    def cut(self) -> None:
        self.cuts += 1
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self.cut()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
