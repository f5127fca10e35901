"""How long the cluster target takes beside ``kubectl``, and how late a log is; prints a table of ratios."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import LogWritten, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_job_name, new_run_id
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.parts.cluster.rig import eventually, target_config

pytestmark = [pytest.mark.benchmark, pytest.mark.cluster]
ROUNDS = 5


def job(source: str, **changes: Any) -> JobSpec:
    return JobSpec(
        name=new_job_name("Bench", "job"),
        run_id=new_run_id(),
        model_id="dev/bench",
        script=Script(name="training.py", source=source),
        framework=ModelFramework.SKLEARN,
        **changes,
    )


def pod_of(cluster: Cluster, name: str) -> dict[str, Any]:
    return next(iter(cluster.list("Pod", f"job-name={name}")), {})


def until_pod(cluster: Cluster, name: str) -> float:
    while not pod_of(cluster, name):
        time.sleep(0.002)
    return time.perf_counter()


def test_submitting_beside_kubectl(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image)
    ours: list[float] = []
    theirs: list[float] = []
    KubernetesTarget(config).render(job("print(1)"))  # imports, as in a supervisor that is warm
    for number in range(ROUNDS):
        target = KubernetesTarget(config)
        spec = job("print(1)")
        begun = time.perf_counter()
        target.submit(spec)
        ours.append(until_pod(namespace, spec.name) - begun)
        manifest = tmp_path / f"{number}.yaml"
        same = job("print(1)")
        manifest.write_text(target.render(same))
        begun = time.perf_counter()
        create = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", namespace.namespace, "create", "-f", str(manifest)]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        theirs.append(until_pod(namespace, same.name) - begun)
    with capsys.disabled():
        print("\n| from the call to the pod | median | ratio |\n| --- | --- | --- |")
        limit = statistics.median(theirs)
        print(f"| kubectl create of the same manifests | {limit * 1000:.0f} ms | 1.0 |")
        mine = statistics.median(ours)
        print(f"| submit | {mine * 1000:.0f} ms | {mine / limit:.2f} |")


def test_how_late_a_log_is(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "import time\ntime.sleep(3)\nfor i in range(100):\n    print(time.time(), flush=True)\n    time.sleep(0.05)\n"
    )
    target = KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))
    late: list[float] = []
    for event in target.follow(target.submit(job(source))):
        if isinstance(event, LogWritten):
            now = time.time()
            late += [now - float(line) for line in event.text.split()]
    assert len(late) == 100
    late.sort()
    with capsys.disabled():
        print("\n| a line's way from the container | |\n| --- | --- |")
        for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
            print(f"| {name} | {late[int(share * (len(late) - 1))] * 1000:.0f} ms |")


def test_a_large_log(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = 200_000
    source = f"for i in range({lines}):\n    print('a line of the log of a job, number', i)\n"
    target = KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))
    spec = job(source)
    count, first, end = 0, 0.0, None
    for event in target.follow(target.submit(spec)):
        if isinstance(event, LogWritten):
            first = first or time.perf_counter()
            count += event.text.count("\n")
        end = event
    taken = time.perf_counter() - first
    assert count == lines
    assert isinstance(end, StateChanged)
    assert end.state is RunState.SUCCEEDED
    pod = pod_of(namespace, spec.name)["metadata"]["name"]
    begun = time.perf_counter()
    logs = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", namespace.namespace, "logs", pod]
    subprocess.run(logs, check=True, capture_output=True, timeout=300)
    limit = time.perf_counter() - begun
    with capsys.disabled():
        print(f"\n| {lines} lines | seconds | ratio |\n| --- | --- | --- |")
        print(f"| kubectl logs, afterwards | {limit:.1f} | 1.0 |")
        print(f"| followed while written | {taken:.1f} | {taken / limit:.1f} |")


def test_a_trial_after_another(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        list(target.follow(target.submit(job("print('accuracy=0.5')"))))
        ours.append(time.perf_counter() - begun)
        name = f"bare-{new_hex(6)}"
        container = {"name": "c", "image": cluster_image, "command": ["python3", "-c", "print('accuracy=0.5')"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        begun = time.perf_counter()
        made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}
        namespace.create(made)
        eventually(lambda name=name: (namespace.get("Job", name) or {}).get("status", {}).get("succeeded"))
        bare.append(time.perf_counter() - begun)
    with capsys.disabled():
        limit, mine = statistics.median(bare), statistics.median(ours)
        print("\n| a job from call to end | median | ratio |\n| --- | --- | --- |")
        print(f"| a bare Job of the same image | {limit:.2f} s | 1.0 |")
        print(f"| submit and follow | {mine:.2f} s | {mine / limit:.2f} |")
