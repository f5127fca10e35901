"""Studies that Katib runs; its controllers are played by a stand-in, its trials are real Jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.domains import Categorical, Discrete, Double, Integer
from kaptain_magics.core.events import Event, Noted, TrialChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_run_id
from kaptain_magics.core.scripts import Binding, Script
from kaptain_magics.core.specs import ClusterOptions, JobSpec, StudySpec
from kaptain_magics.core.states import Direction, RunState, TrialState
from kaptain_magics.storage import open_store
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.study_runners import NativeTuner, choose_runner
from tests.parts.cluster.jobs import last
from tests.parts.cluster.rig import BUCKET, eventually, kubectl, ours, target_config
from tests.parts.cluster.standins import KatibStandIn, definitions
from tests.seaweed import SeaweedFS
from tests.shell import Notebook

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
SCRIPT = """
import argparse
from pathlib import Path
from kaptain.platform.metadata_util import MetadataUtil
from kaptain.platform.model_export_util import ModelExportUtil

depth = 1
kind = "plain"
parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=1)
args, _ = parser.parse_known_args()
assert isinstance(depth, int) and kind in ("a b", "plain")
Path("model.bin").write_text(f"{args.gamma} {args.steps} {depth} {kind}")
ModelExportUtil().upload_model("model.bin")
MetadataUtil.record_metrics({"accuracy": 1 - args.gamma, "val/loss": args.gamma})
"""


@pytest.fixture(scope="module", autouse=True)
def katib(namespace: Cluster) -> Iterator[None]:
    with definitions(namespace, "katib.yaml"):
        yield


@pytest.fixture
def target(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> KubernetesTarget:
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pod_storage)
    return KubernetesTarget(config)


def study(source: str = SCRIPT, **changes: object) -> StudySpec:
    run_id = new_run_id()
    job = JobSpec(
        name="template",
        run_id=run_id,
        model_id="dev/mnist",
        script=Script(name="training.py", source=source.lstrip()),
        framework=ModelFramework.SKLEARN,
        bindings={"depth": Binding.ASSIGNMENT, "kind": Binding.ASSIGNMENT},
        upload_uri=f"s3://{BUCKET}/models/dev/mnist/tuned/{new_hex(32)}",
        metric_names=("accuracy", "val/loss"),
        cluster=changes.pop("cluster", ClusterOptions()),  # type: ignore[arg-type]
    )
    given = {
        "name": f"mnist-tune-{new_hex(8)}",
        "run_id": run_id,
        "model_id": "dev/mnist",
        "job": job,
        "domains": {
            "--gamma": Double(0.01, 0.5),
            "--steps": Discrete(("5", "10")),
            "depth": Integer(1, 4),
            "kind": Categorical(("a b", "plain")),
        },
        "objectives": ("accuracy", "val/loss"),
        "trials": 3,
        "parallel": 2,
    }
    return StudySpec(**{**given, **changes})  # type: ignore[arg-type]


def trials_of(events: list[Event]) -> dict[str, TrialChanged]:
    return {event.name: event for event in events if isinstance(event, TrialChanged)}


def test_a_study_of_real_jobs(target: KubernetesTarget, namespace: Cluster, pod_storage: SeaweedFS) -> None:
    assert isinstance(target, NativeTuner)
    spec = study(seed=7)
    assert target.study_runner.available(spec)
    assert not target.study_runner.available(
        msgspec.structs.replace(spec, algorithm="nsga2")
    )  # Katib has no such algorithm
    with KatibStandIn(namespace):
        ref = target.study_runner.start(spec)
        events = list(target.study_runner.follow(ref))
    assert last(events).state is RunState.SUCCEEDED, events
    trials = trials_of(events)
    assert sorted(t.number for t in trials.values()) == [0, 1, 2]
    assert {t.state for t in trials.values()} == {TrialState.SUCCEEDED}, [t.reason for t in trials.values()]
    store = open_store(f"s3://{BUCKET}", pod_storage.env)
    for trial in trials.values():
        gamma, steps = trial.parameters["--gamma"], trial.parameters["--steps"]
        assert trial.metrics["accuracy"].latest == pytest.approx(1 - float(gamma))
        assert trial.metrics["val/loss"].latest == pytest.approx(float(gamma))
        assert steps in ("5", "10")
        saved = store.read(f"{trial.artifact_uri}/model.bin").decode()
        assert saved == f"{gamma} {steps} {trial.parameters['depth']} {trial.parameters['kind']}"
        assert 0 < trial.started <= trial.ended
    best = [event for event in events if isinstance(event, TrialChanged) and event.best][-1]
    assert best.metrics["accuracy"].latest == max(t.metrics["accuracy"].latest for t in trials.values())
    experiment = namespace.get("Experiment", spec.name)
    assert experiment is not None
    assert experiment["status"]["currentOptimalTrial"]["bestTrialName"] == best.name
    assert experiment["spec"]["algorithm"]["algorithmSettings"] == [{"name": "random_state", "value": "7"}]
    texts = [event.text for event in events if isinstance(event, Noted)]
    assert any(text.startswith("Deleting secret tune-") for text in texts)
    assert [name for name in ours(namespace) if name.startswith(("Secret/", "Job/"))] == []
    assert list(target.study_runner.follow(ref))[-1] == last(events)


@pytest.mark.parametrize("where", ["a file that is deleted meanwhile", "the script"])
def test_what_was_too_large_for_a_secret_is_removed_at_the_end(
    target: KubernetesTarget, namespace: Cluster, pod_storage: SeaweedFS, tmp_path: Path, where: str
) -> None:
    noise = tmp_path / "noise.txt"
    noise.write_text(new_hex(2_000_000))
    spec = study(SCRIPT + ("" if "file" in where else f"# {noise.read_text()}"), trials=1, parallel=1)
    if "file" in where:
        spec = msgspec.structs.replace(spec, job=msgspec.structs.replace(spec.job, files=(str(noise),)))
    store, work = open_store(f"s3://{BUCKET}", pod_storage.env), f"{spec.job.upload_uri}.work.tar.gz"
    with KatibStandIn(namespace):
        ref = target.study_runner.start(spec)
        assert store.exists(work)
        noise.unlink()
        end = last(list(target.study_runner.follow(ref)))
    assert end.state is RunState.SUCCEEDED, end
    assert not store.exists(work)


def test_a_user_who_may_not_list_secrets_gets_the_end(
    target: KubernetesTarget, namespace: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = namespace.list

    def refuse(kind: str, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        if kind == "Secret":
            raise ApiError(403, "Forbidden", 'secrets is forbidden: User "jane" cannot list resource "secrets"')
        return listed(kind, labels, fields)

    monkeypatch.setattr(target.session.cluster, "list", refuse)
    spec = study(trials=1, parallel=1, cluster=ClusterOptions(delete_experiment=True))
    with KatibStandIn(namespace):
        end = last(list(target.study_runner.follow(target.study_runner.start(spec))))
    assert end.state is RunState.SUCCEEDED, end
    eventually(lambda: ours(namespace) == [])  # the secrets are the experiment's


def test_the_goal_ends_a_study_and_the_experiment_may_go_too(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = study(
        goal=0.5,
        trials=6,
        parallel=1,
        direction=Direction.MAXIMIZE,
        cluster=ClusterOptions(delete_experiment=True),
    )
    with KatibStandIn(namespace):
        events = list(target.study_runner.follow(target.study_runner.start(spec)))
    assert last(events).state is RunState.SUCCEEDED
    assert "goal" in last(events).reason
    assert len(trials_of(events)) == 1
    assert namespace.get("Experiment", spec.name) is None


def test_early_stopping_and_stopping(target: KubernetesTarget, namespace: Cluster) -> None:
    source = "import time\nfor i in range(4000):\n    print(f'accuracy=0.{i + 1}', flush=True)\n    time.sleep(0.05)\n"
    spec = study(
        source,
        domains={"--gamma": Double(0.1, 0.2)},
        objectives=("accuracy",),
        early_stopping="medianstop",
        early_stopping_settings={"min_trials_required": "1", "start_step": "2"},
    )
    events: list[Event] = []
    with KatibStandIn(namespace, stop_early=(0,)):
        ref = target.study_runner.start(spec)
        for event in target.study_runner.follow(ref):
            events.append(event)
            if isinstance(event, TrialChanged) and event.state is TrialState.EARLY_STOPPED:
                target.study_runner.stop(ref)
    early = [trial for trial in trials_of(events).values() if trial.state is TrialState.EARLY_STOPPED]
    assert len(early) == 1
    assert early[0].metrics["accuracy"].max > 0
    assert {trial.state for trial in trials_of(events).values()} <= {TrialState.EARLY_STOPPED, TrialState.KILLED}
    assert last(events).state is RunState.STOPPED


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no luck')", "no luck"),
        ("print('accurracy=0.5')", "`accuracy` never reported"),
    ],
    ids=["raises", "no metric"],
)
def test_failed_trials_have_reason_and_log(
    target: KubernetesTarget, namespace: Cluster, source: str, reason: str
) -> None:
    spec = study(source, domains={"--gamma": Double(0.1, 0.2)}, objectives=("accuracy",), failed_trials=1, parallel=1)
    with KatibStandIn(namespace):
        events = list(target.study_runner.follow(target.study_runner.start(spec)))
    assert last(events).state is RunState.FAILED
    assert reason in last(events).reason
    (trial,) = trials_of(events).values()
    assert (trial.state, reason in trial.reason) == (TrialState.FAILED, True)


def test_a_study_ends_after_its_timeout(target: KubernetesTarget, namespace: Cluster) -> None:
    source = "import time\ntime.sleep(600)\n"
    spec = study(source, domains={"--gamma": Double(0.1, 0.2)}, timeout=3.0)
    with KatibStandIn(namespace):
        events = list(target.study_runner.follow(target.study_runner.start(spec)))
    assert last(events).state is RunState.FAILED
    assert "3 s" in last(events).reason
    assert namespace.get("Experiment", spec.name) is None


def test_another_process_goes_on_with_a_study(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = study(trials=2, parallel=1)
    with KatibStandIn(namespace):
        ref = target.study_runner.start(spec)
        stream = target.study_runner.follow(ref)
        first = next(event for event in stream if isinstance(event, TrialChanged))
        stream.close()  # type: ignore[attr-defined]
        again = KubernetesTarget(target.session.config)
        assert again.study_runner.start(spec).name == ref.name
        events = list(again.study_runner.follow(ref))
    assert last(events).state is RunState.SUCCEEDED
    assert sorted(t.number for t in trials_of(events).values()) == [0, 1]
    assert trials_of(events)[first.name].number == first.number


def test_what_a_killed_study_leaves_is_cleaned(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = study("import time\ntime.sleep(600)\n", domains={"--gamma": Double(0.1, 0.2)})
    with KatibStandIn(namespace):
        target.study_runner.start(spec)
        eventually(lambda: any(name.startswith("Job/") for name in ours(namespace)))
        shown = target.clean()
        assert any(line.startswith(f"experiment/{spec.name}") for line in shown)
        target.clean(force=True)
        eventually(lambda: ours(namespace) == [])
    assert namespace.get("Experiment", spec.name) is None


def test_the_dry_run_is_accepted(target: KubernetesTarget, kubeconfig: Path, namespace: Cluster) -> None:
    shown = target.render(study())
    assert "kaptain-admin-secret" not in shown
    said = kubectl(kubeconfig, "create", "--dry-run=server", "-f", "-", stdin=shown)
    assert said.count("(server dry run)") == 3


def test_studies_run_as_jobs_when_asked(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path
) -> None:
    target = KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))
    assert choose_runner(target.study_runner, study(tuner="jobs")) is None
    assert "kind: Experiment" not in target.render(study(tuner="jobs"))
    assert choose_runner(target.study_runner, study(tuner="katib")) is target.study_runner
    assert threading.active_count() < 50


def test_what_katib_would_refuse_ends_the_study_before_it_starts(notebook: Notebook, kernel_namespace: Cluster) -> None:
    Path("train.py").write_text("c = 0.5\nprint(f'loss={c}')\n")
    line = "%kaptain_tune dev/refused c=Double(0.1, 1) --objective loss --file train.py --algorithm"
    error = notebook.error(f"{line} tpe --algorithm-setting n_startup_trials=3")  # the loop here has it
    assert "Katib's tpe has no setting 'n_startup_trials'" in str(error)
    said = [event.text for event in notebook.variables["_kaptain"].folder.events() if isinstance(event, Noted)]
    assert said == ["The study minimizes loss (as its name suggests; loss:max would maximize it)."]
    error = notebook.error(f"{line} hyperband --algorithm-setting r_l=9")
    assert "Katib's hyperband needs resource_name" in str(error)
    assert kernel_namespace.list("Experiment") == []
