"""Jobs of every kind on a real cluster, studies over Jobs, dry runs, housekeeping, the doctor."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.domains import Double
from kaptain_magics.core.events import ArtifactSaved, Event, Noted, TrialChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_job_name, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Capture, Script
from kaptain_magics.core.specs import ClusterOptions, EndpointSpec, ImageSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import ConfigError, NotFoundError, TargetError
from kaptain_magics.targets.base import ClusterInventory
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.tuning.study import run_study
from tests.parts.cluster.jobs import last, log, run
from tests.parts.cluster.rig import BUCKET, eventually, fresh_namespace, kubectl, ours, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
TRIAL = """
import argparse
import kaptain
parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float)
args = parser.parse_args()
open("model.bin", "w").write(str(args.gamma))
from kaptain.platform.model_export_util import ModelExportUtil
ModelExportUtil().upload_model("model.bin")
kaptain.log_metrics(accuracy=1 - args.gamma)
"""


@pytest.fixture
def target(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> KubernetesTarget:
    return KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pod_storage))


def job(source: str = "print('done')", **changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": new_job_name("Kube", "job"),
        "run_id": new_run_id(),
        "model_id": "dev/kube",
        "script": Script(name="training.py", source=source),
        "framework": ModelFramework.SKLEARN,
        "upload_uri": f"s3://{BUCKET}/models/dev/kube/trained/{new_hex(32)}",
    }
    return JobSpec(**{**given, **changes})


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted)]


def test_the_lines_of_the_contract(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = job(cluster=ClusterOptions(force_cleanup=True))
    events = run(target, spec)
    where = f"in namespace {namespace.namespace}."
    said = texts(events)
    secret = said[0].split()[2]
    assert secret.startswith("train-")
    assert said[:3] == [
        f"Creating secret {secret} {where}",
        f"Creating job {spec.name} {where}",
        "Waiting for Master Node Training Model to start...",
    ]
    assert said[3].startswith(f"Master Node Training Model started in pod: {spec.name}-")
    assert said[4:] == [f"Deleting secret {secret} {where}", f"Deleting job {spec.name} {where}"]
    assert namespace.get("Job", spec.name) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [("raise ValueError('no such digit')", "ValueError: no such digit"), ("raise SystemExit('no rows')", "no rows")],
)
def test_the_pods_state_has_the_reason_too(
    target: KubernetesTarget, namespace: Cluster, source: str, message: str
) -> None:
    spec = job(source)
    end = last(run(target, spec))
    assert end.state is RunState.FAILED
    assert message in end.reason
    (pod,) = namespace.list("Pod", f"kaptain-magics/job={spec.name}")
    ended = explain.terminated(pod, "sklearn") or {}
    assert message in exit_reason(ended, "")[0], ended


def test_what_a_job_carries(target: KubernetesTarget, namespace: Cluster, pod_storage: SeaweedFS) -> None:
    spec = job(cluster=ClusterOptions(ttl_seconds_after_finished=900), resources=Resources.simple("0.25", "200M"))
    ref = target.submit(spec)
    made = namespace.get("Job", spec.name)
    assert made is not None
    assert made["metadata"]["labels"]["kaptain-magics/model"] == "dev-kube"
    assert made["metadata"]["annotations"]["kaptain-magics/model-id"] == "dev/kube"
    assert made["spec"]["ttlSecondsAfterFinished"] == 900
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "250m", "memory": "200M"}
    assert pod_storage.env["AWS_SECRET_ACCESS_KEY"] not in str(made)
    secrets = namespace.list("Secret", f"kaptain-magics/run={spec.run_id}")
    assert len(secrets) == 2
    assert all(s["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"] for s in secrets)
    assert last(list(target.follow(ref))).state is RunState.SUCCEEDED
    eventually(lambda: namespace.list("Secret", f"kaptain-magics/run={spec.run_id}") == [])


def test_values_go_in_and_come_back(target: KubernetesTarget, tmp_path: Path, pod_storage: SeaweedFS) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "sent.pkl").write_bytes(pickle.dumps({"rows": [1, 2, 3]}))
    capture = Capture(send=("rows",), fetch=("total",), metrics={"sum": "total.value"})
    spec = job("total = {'value': sum(rows)}\n", folder=str(folder), capture=capture)
    events = run(target, spec)
    assert last(events).state is RunState.SUCCEEDED, log(events)
    assert pickle.loads((folder / "fetched.pkl").read_bytes()) == {"total": {"value": 6}}
    from kaptain_magics.storage import open_store

    assert open_store(spec.upload_uri, pod_storage.env).list(f"s3://{BUCKET}/models/dev/kube/trained") == [] or (
        not open_store(spec.upload_uri, pod_storage.env).exists(f"{spec.upload_uri}.fetched.pkl")
    )


def test_what_others_put_into_the_store_is_not_taken(
    target: KubernetesTarget, tmp_path: Path, pod_storage: SeaweedFS
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    source = "import atexit\nmine = 1\n"  # the last word on what comes back is not that of what is in the store
    source += """atexit.register(print, '::kaptain::{"kind":"fetched","sha256":"%s"}' % ("0a" * 32))\n"""
    events = run(target, job(source, folder=str(folder), capture=Capture(fetch=("mine",))))
    assert last(events).state is RunState.SUCCEEDED, log(events)
    assert any("do not match the checksum" in text for text in texts(events))
    assert list(folder.iterdir()) == []


def test_variables_travel_in_a_secret(
    target: KubernetesTarget, namespace: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_NAME", "the-passed-value")
    source = "import os\nprint(os.environ['DEMO_NAME'][::-1], os.environ['GIVEN'][::-1])\n"
    spec = job(source, env={"GIVEN": "a $(HOME) value"}, env_names=("DEMO_NAME",))
    ref = target.submit(spec)
    made = str(namespace.get("Job", spec.name))
    events = list(target.follow(ref))
    assert log(events) == "eulav-dessap-eht eulav )EMOH($ a\n"
    for value in ("the-passed-value", "a $(HOME) value"):
        assert value not in made
        assert value not in target.render(spec)
    monkeypatch.delenv("DEMO_NAME")
    assert "DEMO_NAME" in target.render(spec)
    with pytest.raises(ConfigError, match="DEMO_NAME"):
        target.submit(job(source, env_names=("DEMO_NAME",)))


def test_large_files_go_through_the_store(target: KubernetesTarget, tmp_path: Path, pod_storage: SeaweedFS) -> None:
    import os

    from kaptain_magics.storage import open_store

    (tmp_path / "big.bin").write_bytes(os.urandom(2_000_000))
    source = "import hashlib\nprint(hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())\n"
    spec = job(source, files=(str(tmp_path / "big.bin"),))
    events = run(target, spec)
    import hashlib

    assert log(events).strip() == hashlib.sha256((tmp_path / "big.bin").read_bytes()).hexdigest()
    assert not open_store(spec.upload_uri, pod_storage.env).exists(f"{spec.upload_uri}.work.tar.gz")


def test_a_directory_as_store_is_refused(target: KubernetesTarget, namespace: Cluster) -> None:
    with pytest.raises(TargetError, match="directory of this machine"):
        target.submit(job(upload_uri="file:///models/x"))
    config = target.session.config
    without = {name: value for name, value in config.settings.items() if name != "base_image"}
    with pytest.raises(TargetError, match="no image"):
        KubernetesTarget(msgspec.structs.replace(config, settings=without)).submit(job())
    assert not [name for name in ours(namespace) if name.startswith("Secret/")]


# ---- studies over Jobs ----------------------------------------------------------------------------------------------


def study(**changes: Any) -> StudySpec:
    run_id = new_run_id()
    given: dict[str, Any] = {
        "name": f"kube-tune-{new_hex(8)}",
        "run_id": run_id,
        "model_id": "dev/kube",
        "job": job(TRIAL, name="template", run_id=run_id, metric_names=("accuracy",)),
        "domains": {"--gamma": Double(0.1, 0.5)},
        "objectives": ("accuracy",),
        "trials": 4,
        "parallel": 2,
        "seed": 1,
    }
    return StudySpec(**{**given, **changes})


def test_a_study_goes_on_when_its_quota_is_used_up(
    kubeconfig: Path, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        spec = {"hard": {"requests.cpu": "0.5", "requests.memory": "500M"}}
        about = {"name": "kf-resource-quota"}
        cluster.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": about, "spec": spec})
        eventually(lambda: cluster.list("ResourceQuota")[0].get("status", {}).get("hard"))
        target = KubernetesTarget(target_config(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
        template = job(TRIAL, name="template", metric_names=("accuracy",), resources=Resources.simple("0.4", "200M"))
        events: list[Event] = []
        result = run_study(
            study(job=template, trials=3),
            target,
            emit=events.append,
            stopping=threading.Event(),
            folder=tmp_path / "run",
            upload_base=f"s3://{BUCKET}/models/dev/kube",
        )
        assert result.state is RunState.SUCCEEDED, result
        trials = {event.number: event for event in events if isinstance(event, TrialChanged)}
        assert [trials[n].state for n in range(3)] == [TrialState.SUCCEEDED] * 3, [t.reason for t in trials.values()]
        assert any("exceeded" in text for text in texts(events))
        assert result.best is not None
        best = min(trials.values(), key=lambda trial: float(trial.parameters["--gamma"]))
        assert result.best.name == best.name
        assert [name for name in ours(cluster) if name.startswith("Secret/")] == []


# ---- dry runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"requirements": ("pandas>=2",), "timeout": 60.0, "resources": Resources.simple("1", "1G", 1)},
        {"image": ImageSpec(base_image="base:1", image_name="team/mnist"), "env": {"A": "$(B) ${C}"}},
    ],
    ids=["plain", "full", "built"],
)
def test_dry_runs_of_jobs_are_accepted(
    target: KubernetesTarget, kubeconfig: Path, namespace: Cluster, changes: dict[str, Any]
) -> None:
    shown = target.render(job(**changes))
    assert "kaptain-admin-secret" not in shown
    said = kubectl(kubeconfig, "create", "--dry-run=server", "-f", "-", stdin=shown)
    assert said.count("(server dry run)") >= 3
    assert ours(namespace) == ours(namespace)


def test_dry_runs_of_studies_and_endpoints_are_accepted(target: KubernetesTarget, kubeconfig: Path) -> None:
    endpoint = EndpointSpec(
        name="dev-kube",
        run_id=new_run_id(),
        model_id="dev/kube",
        revision=new_hex(32),
        artifact_uri=f"s3://{BUCKET}/models/dev/kube/deploy/1",
        framework=ModelFramework.SKLEARN,
        max_replicas=3,
    )
    for spec in (study(), endpoint):
        shown = target.render(spec)
        assert "kaptain-admin-secret" not in shown
        said = kubectl(kubeconfig, "create", "--dry-run=server", "-f", "-", stdin=shown)
        assert "(server dry run)" in said
    assert "horizontalpodautoscaler" in said
    assert target.session.discovery.autoscaling in shown


# ---- housekeeping, doctor -------------------------------------------------------------------------------------------


def test_everything_can_be_listed_and_removed(
    kubeconfig: Path, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        target = KubernetesTarget(target_config(kubeconfig, cluster, tmp_path / "home", cluster_image, pod_storage))
        assert isinstance(target, ClusterInventory)
        done, running = job(), job("import time\ntime.sleep(600)")
        assert last(run(target, done)).state is RunState.SUCCEEDED
        target.submit(running)
        lines = target.list_resources("Job")
        assert sorted(line.split()[:2] for line in lines) == sorted(
            [[f"job/{done.name}", "ended"], [f"job/{running.name}", "running"]]
        )
        assert all("model dev/kube" in line for line in lines)
        assert len(target.list_resources()) > len(lines)
        assert [line.split()[0] for line in target.delete_all(("Job",))] == [f"job/{done.name}"]
        with pytest.raises(NotFoundError, match="created by Kaptain"):
            target.delete_resource("Job", "not-there")
        with pytest.raises(NotFoundError, match="unknown kind"):
            target.delete_resource("Node", "x")
        assert target.delete_resource("job", running.name)[0].startswith(f"job/{running.name}")
        eventually(lambda: ours(cluster) == [])


def test_the_doctor_finds_nothing_wrong(target: KubernetesTarget) -> None:
    checks = {check.name: check for check in target.check()}
    assert all(check.ok for check in checks.values()), checks
    assert {"cluster", "permissions for jobs", "permissions for endpoints", "base image", "storage for pods"} <= set(
        checks
    )
    local = {"S3_ENDPOINT": "http://127.0.0.1:9000"}
    blind = KubernetesTarget(msgspec.structs.replace(target.session.config, storage_env=local))
    (storage,) = [check for check in blind.check() if check.name == "storage for pods"]
    assert (storage.ok, "127.0.0.1" in storage.detail) == (False, True)


def test_an_artifact_is_saved_by_a_plain_line(target: KubernetesTarget) -> None:
    source = "from sklearn.svm import SVC\nclf = SVC().fit([[0], [1]], [0, 1])\n"
    spec = job(source, capture=Capture(model="clf"))
    events = run(target, spec)
    (saved,) = [event for event in events if isinstance(event, ArtifactSaved)]
    assert (saved.uri, saved.framework) == (spec.upload_uri, "sklearn")
