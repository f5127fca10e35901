"""What killed processes leave on a cluster is found again, gone on with, or cleaned; nothing else is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import AnyEvent, Event
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from tests.parts.cluster.jobs import SLOW, job, last, log
from tests.parts.cluster.rig import BUCKET, eventually, fresh_namespace, ours, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))


FOLLOWER = """
import sys, msgspec
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.kubernetes import KubernetesTarget
config, spec = sys.argv[1:]
target = KubernetesTarget(msgspec.json.decode(config, type=TargetConfig, dec_hook=lambda kind, text: kind(text)))
ref = target.submit(msgspec.json.decode(spec, type=JobSpec))
sys.stdout.buffer.write(msgspec.json.encode(ref) + b"\\n")
for event in target.follow(ref):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.buffer.flush()
"""
HOLDER = """
import sys
from pathlib import Path
from kaptain_magics.files import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""
DEPLOYER = """
import sys, msgspec
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.kubernetes import KubernetesTarget
config, spec = sys.argv[1:]
target = KubernetesTarget(msgspec.json.decode(config, type=TargetConfig, dec_hook=lambda kind, text: kind(text)))
for event in target.deploy(msgspec.json.decode(spec, type=EndpointSpec)):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.buffer.flush()
"""


def started(code: str, target: KubernetesTarget, spec: Any) -> subprocess.Popen[bytes]:
    arguments = [msgspec.json.encode(value, enc_hook=str).decode() for value in (target.session.config, spec)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)


def test_a_job_is_found_again_after_its_supervisor_was_killed(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = job(SLOW.format(100), folder=str(target.session.config.home))
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
    assert JobRecord.of_ref(found).container == JobRecord.of_ref(ref).container
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
        target = KubernetesTarget(target_config(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
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
        target = KubernetesTarget(target_config(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
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
    other = KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "other", cluster_image))
    ref = other.submit(job(SLOW.format(10_000)))
    assert not any(ref.name in line for line in target.clean(force=True))
    assert any(ref.name in line for line in target.list_resources("Job"))
    folder = other.session.config.home / "runs" / JobRecord.of_ref(ref).run
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
