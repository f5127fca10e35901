"""What goes wrong on a real cluster ends in one sentence with the next step, or is ridden out; nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import AnyEvent, ArtifactSaved, Event, LogWritten, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_job_name, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec, ImageSpec, JobSpec, Script
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.client import Cluster
from tests.cluster.rig import BUCKET, eventually, fresh_namespace, make_bucket, ours, surroundings
from tests.conftest import absent
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
RUN = Path.home() / ".cache/kaptain-cluster/run"
SLOW = "import time\nfor i in range({}):\n    print('line', i, flush=True)\n    time.sleep(0.05)\n"


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image))


def job(source: str, **changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": new_job_name("Fault", "job"),
        "run_id": new_run_id(),
        "model_id": "dev/fault",
        "script": Script(name="training.py", source=source),
        "framework": ModelFramework.SKLEARN,
    }
    return JobSpec(**{**given, **changes})


def run(target: KubernetesTarget, spec: JobSpec) -> list[Event]:
    return list(target.follow(target.submit(spec)))


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged)
    return events[-1]


def log(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, LogWritten))


def warnings(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted) and event.warning]


def disturbed(target: KubernetesTarget, ref: JobRef, lines: int, disturb: Callable[[], Any]) -> list[Event]:
    """Follow a job to its end, and do something to it once its log has more than so many lines."""
    events: list[Event] = []
    done = False
    for event in target.follow(ref):
        events.append(event)
        if not done and log(events).count("\n") > lines:
            disturb()
            done = True
    assert done
    return events


def gone(cluster: Cluster) -> None:
    eventually(lambda: [name for name in ours(cluster) if not name.startswith(("Pod/", "Job/"))] == [])


# ---- the API server, pods, nodes ------------------------------------------------------------------------------------


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


def test_a_deleted_pod_is_replaced_or_the_reason_is_told(target: KubernetesTarget, namespace: Cluster) -> None:
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


# ---- images ---------------------------------------------------------------------------------------------------------


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


# ---- storage --------------------------------------------------------------------------------------------------------


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
        around = surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image, store)
        target = KubernetesTarget(around)
        uri = f"s3://{BUCKET}/models/dev/fault/trained/{new_hex(32)}"
        events: list[Event] = []
        ref = target.submit(job(source, upload_uri=uri))
        thread = threading.Thread(target=collect, args=(target, ref, events))
        thread.start()
        eventually(lambda: "saving" in log(events))
        store.kill()
        time.sleep(20.0)  # what is tested is this long an absence
        store.start()
        thread.join(200)
        assert last(events).state is RunState.SUCCEEDED, (last(events), log(events))
        assert [event.uri for event in events if isinstance(event, ArtifactSaved)] == [uri]


def collect(target: KubernetesTarget, ref: JobRef, into: list[Event]) -> None:
    for event in target.follow(ref):
        into.append(event)


# ---- permissions and quota ------------------------------------------------------------------------------------------


@pytest.fixture
def limited(kubeconfig: Path, namespace: Cluster, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Makes a kubeconfig of a service account that may do no more than the given rules say."""

    def make(rules: list[dict[str, Any]]) -> Path:
        name = f"limited-{new_hex(6)}"
        where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.namespace}"
        namespace.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        group = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
        namespace.request("POST", f"{where}/roles", None, role)
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.namespace}],
        }
        namespace.request("POST", f"{where}/rolebindings", None, binding)
        token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        made = namespace.request("POST", f"{namespace.path('ServiceAccount', name)}/token", None, token)
        import yaml

        config = yaml.safe_load(kubeconfig.read_text())
        config["users"] = [{"name": name, "user": {"token": made["status"]["token"]}}]
        config["contexts"][0]["context"]["user"] = name
        path = tmp_path / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    return make


ALL = ["create", "get", "list", "watch", "patch", "delete"]


def rule(group: str, *resources: str, verbs: list[str] | None = None) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": verbs or ALL}


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([], "may not get jobs"),
        ([rule("batch", "jobs")], "may not create secrets"),
        ([rule("", "secrets"), rule("batch", "jobs", verbs=["get", "list", "watch"])], "may not create jobs"),
    ],
    ids=["nothing", "no secrets", "no jobs"],
)
def test_too_few_permissions_to_submit(
    limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path, rules: list[dict[str, Any]], missing: str
) -> None:
    target = KubernetesTarget(surroundings(limited(rules), namespace, tmp_path / "home", cluster_image))
    with pytest.raises(TargetError) as refused:
        target.submit(job("print(1)"))
    assert missing in refused.value.message
    assert "administrator" in refused.value.hint
    gone(namespace)
    checks = {check.name: check for check in target.check()}
    assert not checks["permissions for jobs"].ok
    assert missing.rpartition(" ")[2] in checks["permissions for jobs"].detail


def test_a_job_that_may_not_be_followed(limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    rules = [rule("", "secrets"), rule("batch", "jobs")]
    target = KubernetesTarget(surroundings(limited(rules), namespace, tmp_path / "home", cluster_image))
    end = last(run(target, job(SLOW.format(10_000))))
    assert end.state is RunState.FAILED
    assert "may not list pods" in end.reason
    gone(namespace)


def test_events_are_not_needed(limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    rules = [rule("", "secrets", "pods"), rule("", "pods/log", verbs=["get"]), rule("batch", "jobs")]
    target = KubernetesTarget(surroundings(limited(rules), namespace, tmp_path / "home", cluster_image))
    assert last(run(target, job("print(1)"))).state is RunState.SUCCEEDED


def quota(cluster: Cluster, **hard: str) -> None:
    spec = {"hard": {name.replace("_", "."): value for name, value in hard.items()}}
    cluster.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "kf-resource-quota"}, "spec": spec}
    )
    eventually(lambda: cluster.list("ResourceQuota")[0].get("status", {}).get("hard"))


def test_quotas(kubeconfig: Path, cluster_image: str, tmp_path: Path) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        quota(cluster, requests_cpu="1", requests_memory="1G")
        target = KubernetesTarget(surroundings(kubeconfig, cluster, tmp_path / "home", cluster_image))
        end = last(run(target, job("print(1)")))
        assert end.state is RunState.FAILED
        assert "cpu and memory to be named" in end.reason
        assert "--cpu 0.5 --memory 1G" in end.hint
        end = last(run(target, job("print(1)", resources=Resources.simple("2", "100M"))))
        assert end.state is RunState.FAILED
        assert "kf-resource-quota is used up" in end.reason
        (check,) = [check for check in target.check() if check.name.startswith("quota")]
        assert "--cpu and --memory" in check.hint
        # One waits until the other has ended and then runs.
        half = Resources.simple("0.6", "100M")
        first = target.submit(job(SLOW.format(60), resources=half))
        ends: list[list[Event]] = []
        threads = [threading.Thread(target=lambda ref=first: ends.append(list(target.follow(ref))))]
        threads[0].start()
        eventually(lambda: cluster.list("Pod", f"job-name={first.name}"))
        second = target.submit(job("print('after')", resources=half))
        events = list(target.follow(second))
        threads[0].join(120)
        assert any("is used up" in text for text in warnings(events))
        assert [last(found).state for found in (*ends, events)] == [RunState.SUCCEEDED] * 2
        gone(cluster)


def test_a_pod_that_no_node_has_room_for(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path
) -> None:
    around = surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image, pending_timeout="2")
    events = run(KubernetesTarget(around), job("print(1)", resources=Resources.simple("500", "1G")))
    assert last(events).state is RunState.FAILED
    assert "Insufficient cpu" in last(events).reason
    assert "--cpu" in last(events).hint
    assert any("no node has room" in text for text in warnings(events))
    gone(namespace)


def test_a_namespace_that_is_not_there(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path
) -> None:
    around = surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image)
    settings = {**around.settings, "namespace": "not-there"}
    target = KubernetesTarget(msgspec.structs.replace(around, settings=settings))
    with pytest.raises(TargetError, match="no namespace not-there"):
        target.submit(job("print(1)"))


def test_no_server_answers(namespace: Cluster, kubeconfig: Path, tmp_path: Path) -> None:
    path = tmp_path / "away"
    path.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", kubeconfig.read_text()))
    target = KubernetesTarget(surroundings(path, namespace, tmp_path / "home", "image:1"))
    before = time.monotonic()
    with pytest.raises(TargetError, match="does not answer"):
        target.submit(job("print(1)"))
    (check,) = target.check()
    assert (check.ok, "does not answer" in check.detail) == (False, True)
    assert time.monotonic() - before < 30


def test_several_workers_are_refused_clearly(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = job("print(1)", framework=ModelFramework.PYTORCH, workers=3)
    with pytest.raises(TargetError, match="cannot run a job of 3 workers") as refused:
        target.submit(spec)
    assert "--workers 1" in refused.value.hint
    gone(namespace)


# ---- requirements ---------------------------------------------------------------------------------------------------


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


# ---- killed processes -----------------------------------------------------------------------------------------------

FOLLOWER = """
import sys, msgspec
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.base import Surroundings
from kaptain_magics.targets.kubernetes import KubernetesTarget
around, spec = sys.argv[1:]
target = KubernetesTarget(msgspec.json.decode(around, type=Surroundings, dec_hook=lambda kind, text: kind(text)))
ref = target.submit(msgspec.json.decode(spec, type=JobSpec))
sys.stdout.buffer.write(msgspec.json.encode(ref) + b"\\n")
for event in target.follow(ref):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.buffer.flush()
"""
HOLDER = """
import sys, fcntl
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
DEPLOYER = """
import sys, msgspec
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.targets.base import Surroundings
from kaptain_magics.targets.kubernetes import KubernetesTarget
around, spec = sys.argv[1:]
target = KubernetesTarget(msgspec.json.decode(around, type=Surroundings, dec_hook=lambda kind, text: kind(text)))
for event in target.deploy(msgspec.json.decode(spec, type=EndpointSpec)):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.buffer.flush()
"""


def started(code: str, target: KubernetesTarget, spec: Any) -> subprocess.Popen[bytes]:
    arguments = [msgspec.json.encode(value, enc_hook=str).decode() for value in (target.workshop.around, spec)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)


def test_a_job_is_found_again_after_its_supervisor_was_killed(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = job(SLOW.format(100), folder=str(target.workshop.around.home))
    process = started(FOLLOWER, target, spec)
    assert process.stdout is not None
    ref = msgspec.json.decode(process.stdout.readline(), type=JobRef)
    events: list[Event] = []
    while log(events).count("\n") < 10:
        events.append(msgspec.json.decode(process.stdout.readline(), type=AnyEvent))
    process.kill()
    process.wait(30)
    process.stdout.close()
    found = target.find(spec.name)
    assert found is not None
    assert found.data["container"] == ref.data["container"]
    assert target.submit(spec).name == ref.name  # a second supervisor goes on with the first one's job
    rest = list(target.follow(found, max(event.cursor for event in events)))
    assert last(rest).state is RunState.SUCCEEDED
    assert log(events) + log(rest) == "".join(f"line {i}\n" for i in range(100))
    assert len(namespace.list("Job", f"kaptain-magics/run={spec.run_id}")) == 1


@pytest.mark.parametrize("lines", [0, 1, 40], ids=["before", "pending", "running"])
def test_what_a_killed_training_leaves_is_cleaned(
    kubeconfig: Path, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path, lines: int
) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        target = KubernetesTarget(surroundings(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
        uri = f"s3://{BUCKET}/models/dev/fault/trained/{new_hex(32)}"
        spec = job(SLOW.format(10_000), upload_uri=uri, folder=str(tmp_path))
        process = started(FOLLOWER, target, spec)
        assert process.stdout is not None
        if lines == 0:
            eventually(lambda: cluster.list("Secret", "app.kubernetes.io/managed-by=kaptain"))
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.wait(30)
        process.stdout.close()
        clean_and_compare(target, cluster)


def clean_and_compare(target: KubernetesTarget, cluster: Cluster) -> None:
    shown = target.clean()
    assert shown
    assert target.list_resources()
    assert [line.split()[0] for line in target.clean(force=True)] == [line.split()[0] for line in shown]
    eventually(lambda: ours(cluster) == [])
    assert target.clean() == []


@pytest.mark.parametrize("events", [3, 6], ids=["creating", "waiting"])
def test_what_a_killed_deployment_leaves_is_cleaned(
    kubeconfig: Path, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path, events: int
) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        target = KubernetesTarget(surroundings(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
        spec = EndpointSpec(
            name="dev-fault",
            run_id=new_run_id(),
            model_id="dev/fault",
            revision=new_hex(32),
            artifact_uri=f"s3://{BUCKET}/models/not/there",
            framework=ModelFramework.PYTHON,
            resources=Resources.simple("500", "1G"),  # no node has so much: it waits until it is killed
        )
        process = started(DEPLOYER, target, spec)
        assert process.stdout is not None
        for _ in range(events):
            process.stdout.readline()
        process.kill()
        process.wait(30)
        process.stdout.close()
        clean_and_compare(target, cluster)


def test_what_others_made_is_left_alone(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path, target: KubernetesTarget
) -> None:
    other = KubernetesTarget(surroundings(kubeconfig, namespace, tmp_path / "other", cluster_image))
    ref = other.submit(job(SLOW.format(10_000)))
    assert not any(ref.name in line for line in target.clean(force=True))
    assert any(ref.name in line for line in target.list_resources("Job"))
    folder = other.workshop.around.home / "runs" / ref.data["run"]
    folder.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    assert other.clean(force=True) == []  # its supervisor lives
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    assert json.dumps(other.clean(force=True)).count(ref.name) >= 1
    eventually(lambda: namespace.get("Job", ref.name) is None)
