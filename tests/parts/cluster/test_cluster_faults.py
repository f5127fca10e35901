"""API servers, pods, nodes, registries and stores fail under a job: it survives, or ends with one clear sentence."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import ArtifactSaved, Event
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.conftest import absent
from tests.parts.cluster.jobs import SLOW, disturbed, gone, job, last, log, run, warnings
from tests.parts.cluster.rig import BUCKET, eventually, make_bucket, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
RUN = Path.home() / ".cache/kaptain-cluster/run"


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))


# ---- the API server, pods, nodes -------------------------------------------------------------------------------------


class ClusterProcess:
    """A process of the cluster: killed, and started again with its own command line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._noted = RUN / "pids" / name
        if not self._noted.exists():
            absent("cluster", f"the process of {name} is not known")

    def restart(self) -> None:
        """Kill it, and start it again after two seconds."""
        command = self._kill()
        try:
            time.sleep(2.0)
        finally:
            self._start(command)

    def _kill(self) -> list[str]:
        pid = int(self._noted.read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
        return command

    def _start(self, command: list[str]) -> None:
        with open(RUN / "logs" / f"{self._name}.log", "ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        executable = self._noted.read_text().split()[1]
        self._noted.write_text(f"{process.pid} {executable}\n")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # the cluster's, not the test's
def test_the_api_server_restarts_in_the_middle_of_a_log(target: KubernetesTarget, namespace: Cluster) -> None:
    server = ClusterProcess("kube-apiserver")
    events = disturbed(target, target.submit(job(SLOW.format(200))), 20, server.restart)
    assert last(events).state is RunState.SUCCEEDED, last(events)
    assert log(events) == "".join(f"line {i}\n" for i in range(200))
    eventually(lambda: namespace.list("ServiceAccount"))


def test_a_deleted_pod_is_replaced_or_the_reason_is_reported(target: KubernetesTarget, namespace: Cluster) -> None:
    ref = target.submit(job(SLOW.format(120)))
    deleted = ""

    def delete() -> None:
        nonlocal deleted
        (pod,) = namespace.list("Pod", f"job-name={ref.name}")
        deleted = pod["metadata"]["name"]
        namespace.delete("Pod", deleted, grace=0)

    events = disturbed(target, ref, 5, delete)
    if last(events).state is RunState.SUCCEEDED:
        assert any(deleted in text and "from its beginning" in text for text in warnings(events))
        assert log(events).endswith("".join(f"line {i}\n" for i in range(120)))
        rest = list(target.follow(ref, max(event.cursor for event in events)))
        assert log(rest) == ""
    else:
        assert last(events).reason


def test_a_container_killed_on_its_node(target: KubernetesTarget, namespace: Cluster, docker_host: str) -> None:
    import docker

    ref = target.submit(job(SLOW.format(1000)))
    client = docker.DockerClient(base_url=docker_host)

    def kill() -> None:
        (pod,) = namespace.list("Pod", f"job-name={ref.name}")
        identity = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        client.containers.get(identity).kill()

    try:
        events = disturbed(target, ref, 3, kill)
    finally:
        client.close()
    assert (last(events).state, last(events).exit_code) == (RunState.FAILED, -9)
    assert "signal 9" in last(events).reason


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # the cluster's, not the test's
def test_the_container_runtime_of_the_node_is_killed(target: KubernetesTarget, docker_host: str) -> None:
    import docker

    runtime = ClusterProcess("dockerd")
    events = disturbed(target, target.submit(job(SLOW.format(1000))), 5, runtime.restart)
    assert last(events).state is RunState.FAILED  # this runtime ends its containers when it starts again
    assert last(events).reason
    told = log(events).splitlines()
    assert told == [f"line {i}" for i in range(len(told))]
    client = docker.DockerClient(base_url=docker_host)
    eventually(lambda: with_suppressed(client.ping))
    client.close()
    assert last(run(target, job("print('works again')"))).state is RunState.SUCCEEDED


def test_out_of_memory_is_named(target: KubernetesTarget) -> None:
    source = "data = []\nwhile True:\n    data.append(bytearray(8 << 20))\n"
    end = last(run(target, job(source, resources=Resources.simple("0.5", "64M"))))
    assert end.state is RunState.FAILED
    assert "out of memory" in end.reason
    assert "64M" in end.reason
    assert "--memory" in end.hint


# ---- images ----------------------------------------------------------------------------------------------------------


def test_an_image_that_is_not_there(target: KubernetesTarget, namespace: Cluster) -> None:
    events = run(target, job("print(1)", image=ImageSpec(base_image="127.0.0.1:5000/nobody/nothing:1")))
    assert last(events).state is RunState.FAILED
    assert "127.0.0.1:5000/nobody/nothing:1 cannot be pulled" in last(events).reason
    assert last(events).hint
    gone(namespace)


class Registry:
    """An image registry of the test's own."""

    def __init__(self, folder: Path) -> None:
        import shutil
        import socket

        if shutil.which("docker-registry") is None:
            absent("cluster", "there is no docker-registry")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._config = folder / "registry.yml"
        folder.mkdir()
        self._config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
            f'http: {{addr: "{self.address}"}}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import urllib3

        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            try:
                return urllib3.request("GET", f"http://{self.address}/v2/", retries=False, timeout=2.0).status == 200
            except (OSError, urllib3.exceptions.HTTPError):
                return False

        eventually(answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


def test_the_registry_is_away_for_a_while(target: KubernetesTarget, docker_host: str, tmp_path: Path) -> None:
    import docker

    registry = Registry(tmp_path / "registry")
    client = docker.DockerClient(base_url=docker_host, timeout=60)
    name = f"{registry.address}/kaptain-test/pause"
    try:
        registry.start()
        client.images.get("kaptain-cluster/pause:1").tag(name, "1")
        client.images.push(name, "1")
        client.images.remove(f"{name}:1")
        registry.stop()
        back = threading.Timer(12.0, registry.start)
        back.start()
        events = run(target, job("print(1)", image=ImageSpec(base_image=f"{name}:1")))
        back.join()
        assert any("does not answer" in text or "cannot be pulled" in text for text in warnings(events))
        # It was pulled in the end: this image has no Python, and that is what ends the job.
        assert "cannot be pulled" not in last(events).reason
        assert last(events).state is RunState.FAILED
    finally:
        registry.stop()
        with_suppressed(lambda: client.images.remove(f"{name}:1"))
        client.close()


def with_suppressed(work: Callable[[], Any]) -> Any:
    """Return what the work returns, ``None`` where it fails: it is only tidied up, or tried again."""
    with contextlib.suppress(Exception):
        return work()
    return None


# ---- storage ---------------------------------------------------------------------------------------------------------


def test_the_store_is_away_while_a_model_is_saved(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, bridge: str, tmp_path: Path
) -> None:
    source = """
import time
from pathlib import Path
from kaptain.platform.model_export_util import ModelExportUtil
Path("model.bin").write_bytes(b"w" * 100_000)
print("saving", flush=True)
time.sleep(1)
ModelExportUtil().upload_model("model.bin")
print("saved")
"""
    with SeaweedFS(tmp_path / "store", host=bridge) as store:
        make_bucket(store)
        config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, store)
        target = KubernetesTarget(config)
        uri = f"s3://{BUCKET}/models/dev/fault/trained/{new_hex(32)}"
        events: list[Event] = []
        ref = target.submit(job(source, upload_uri=uri))
        thread = threading.Thread(target=collect, args=(target, ref, events))
        thread.start()
        eventually(lambda: "saving" in log(events))
        store.kill()
        store.turn_away(4)  # more than one client's own retries
        store.start()
        thread.join(200)
        assert last(events).state is RunState.SUCCEEDED, (last(events), log(events))
        assert [event.uri for event in events if isinstance(event, ArtifactSaved)] == [uri]


def collect(target: KubernetesTarget, ref: JobRef, into: list[Event]) -> None:
    for event in target.follow(ref):
        into.append(event)


# ---- requirements ----------------------------------------------------------------------------------------------------


def test_requirements_that_cannot_be_installed(target: KubernetesTarget, namespace: Cluster) -> None:
    missing = job("print(1)", requirements=("no-such-thing-kaptain==1",), env={"PIP_NO_INDEX": "1"})
    end = last(run(target, missing))
    assert end.state is RunState.FAILED
    assert "requirements cannot be installed" in end.reason
    assert "no-such-thing-kaptain" in end.reason
    gone(namespace)


def test_requirements_are_installed_before_the_script(target: KubernetesTarget, bridge: str, tmp_path: Path) -> None:
    import functools
    import http.server
    import zipfile

    wheel = tmp_path / "wheels" / "kaptain_probe-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("kaptain_probe.py", "VALUE = 'installed'\n")
        about = "Metadata-Version: 2.1\nName: kaptain-probe\nVersion: 1.0\n"
        archive.writestr("kaptain_probe-1.0.dist-info/METADATA", about)
        archive.writestr(
            "kaptain_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("kaptain_probe-1.0.dist-info/RECORD", "")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(wheel.parent))
    with http.server.ThreadingHTTPServer((bridge, 0), handler) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        links = f"http://{bridge}:{index.server_address[1]}/"
        env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "PIP_TRUSTED_HOST": bridge}
        source = "import kaptain_probe, sklearn\nprint(kaptain_probe.VALUE)\n"
        events = run(target, job(source, requirements=("kaptain-probe", "scikit-learn>1"), env=env))
        index.shutdown()
    assert last(events).state is RunState.SUCCEEDED, last(events)
    assert log(events) == "installed\n"
