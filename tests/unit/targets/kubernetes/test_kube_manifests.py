"""Manifests stay as they are (golden files) and fit the schemas of the operators' own definitions.

``KAPTAIN_TEST_GOLDEN=write pytest tests/unit/targets/kubernetes`` writes the golden files again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kaptain_magics.core.domains import Categorical, Discrete, Double, Integer
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import ClusterOptions, EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import DomainError, ServingError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import experiment, labels
from kaptain_magics.targets.kubernetes.manifests import inferenceservice as kserve
from kaptain_magics.targets.kubernetes.manifests import secret_manifests as secrets
from kaptain_magics.targets.kubernetes.manifests import server_manifests as serving
from kaptain_magics.targets.kubernetes.manifests import workloads as jobs
from kaptain_magics.targets.kubernetes.manifests.pod import Setup

GOLDEN = Path(__file__).parent / "golden"
KSERVE = Path(__file__).parents[3] / "parts" / "cluster" / "crds" / "kserve.json"
SETUP = Setup(
    owner="jane-0a1b2c3d",
    namespace="demo",
    image="127.0.0.1:5000/team/sklearn:3.11",
    payload="train-script-0011223344556677",
    storage="train-d3adabf95994484a",
    pull_secrets=("train-registry-068ad4ec6b93f037",),
)


def job(**changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": "mnist-job-17921389",
        "run_id": "20211210-192931-a1b2c3",
        "model_id": "dev/mnist",
        "script": Script(name="training.py", source="print(1)"),
        "framework": ModelFramework.SKLEARN,
        "resources": Resources.simple("0.5", "1G"),
        "upload_uri": "s3://kaptain/models/dev/mnist/trained/fc6f2d4e16fd4b2cbd5d85e49d5b0b55",
    }
    return JobSpec(**{**given, **changes})


def endpoint(**changes: Any) -> EndpointSpec:
    given: dict[str, Any] = {
        "name": "dev-mnist",
        "run_id": "20211210-193045-d4e5f6",
        "model_id": "dev/mnist",
        "revision": "b7d7f70cee7b4918ba5a71d9784deff4",
        "artifact_uri": "s3://kaptain/models/dev/mnist/deploy/b7d7f70cee7b4918ba5a71d9784deff4",
        "framework": ModelFramework.SKLEARN,
        "resources": Resources.simple("0.5", "500M"),
    }
    return EndpointSpec(**{**given, **changes})


def study(**changes: Any) -> StudySpec:
    given: dict[str, Any] = {
        "name": "mnist-tune-0174088b",
        "run_id": "20211210-192939-b2c3d4",
        "model_id": "dev/mnist",
        "job": job(),
        "domains": {
            "--gamma": Double(0.0001, 0.001, log=True),
            "--c": Double(0.01, 1.0, step=0.01),
            "depth": Integer(1, 8),
            "--steps": Discrete(("5", "10")),
            "kernel": Categorical(("rbf", "linear")),
        },
        "objectives": ("accuracy", "val/loss"),
        "goal": 0.99,
        "trials": 12,
        "early_stopping": "medianstop",
        "early_stopping_settings": {"start_step": "2"},
        "algorithm_settings": {"n_startup_trials": "4"},
        "algorithm": "tpe",
        "seed": 3,
    }
    return StudySpec(**{**given, **changes})


def trial_job(kind: Callable[[JobSpec, Setup], Manifest] = jobs.batch_job, **changes: Any) -> Manifest:
    name = experiment.placeholder(experiment.TRIAL)
    further = {"KAPTAIN_TRIAL_PARAMETERS": experiment.trial_parameters(study())}
    made = kind(job(name="x", **changes), Setup(**{**_fields(SETUP), "further": further}))
    return json.loads(json.dumps(made).replace('"x"', json.dumps(name)))  # type: ignore[no-any-return]


TORCH = job(framework=ModelFramework.PYTORCH, workers=3, resources=Resources(memory_limit="4G", gpu_limit=1))
FULL = job(
    requirements=("pandas>=2",),
    args=("--data", "$(HOME)"),
    env={"TOKENIZER": "x $(y)", "HOME": "/data"},
    env_names=("HF_TOKEN",),
    timeout=90.5,
    trial=4,
    phase="tune",
    cluster=ClusterOptions(ttl_seconds_after_finished=600, service_account="trainer"),
)
MADE: dict[str, Callable[[], Any]] = {
    "job": lambda: jobs.batch_job(job(), SETUP),
    "job-full": lambda: jobs.batch_job(
        FULL,
        Setup(
            **{**_fields(SETUP), "service_account": "trainer", "variables": (*FULL.env, *FULL.env_names)},
        ),
    ),
    "job-disruption": lambda: jobs.batch_job(
        job(), Setup(**{**_fields(SETUP), "ignore_disruption": True, "user": None})
    ),
    "job-indexed": lambda: jobs.indexed_job(TORCH, SETUP),
    "pytorchjob": lambda: jobs.pytorch_job(TORCH, SETUP),
    "tfjob": lambda: jobs.tf_job(job(framework=ModelFramework.TENSORFLOW, workers=2, timeout=60), SETUP),
    "trainjob": lambda: jobs.train_job(TORCH, SETUP),
    "trainjob-overrides": lambda: jobs.train_job(TORCH, SETUP, "podTemplateOverrides"),
    "experiment": lambda: experiment.experiment(study(), SETUP, trial_job(), "sklearn"),
    "experiment-pytorchjob": lambda: experiment.experiment(
        study(), SETUP, trial_job(jobs.pytorch_job, framework=ModelFramework.PYTORCH, workers=3), "pytorch"
    ),
    "experiment-tfjob": lambda: experiment.experiment(
        study(), SETUP, trial_job(jobs.tf_job, framework=ModelFramework.TENSORFLOW, workers=2), "tensorflow"
    ),
    "deployment": lambda: [
        serving.deployment(endpoint(max_replicas=4), SETUP, "dev-mnist-0a1b2c3d", serving.STABLE),
        serving.service(endpoint(), SETUP),
    ],
    "autoscaler": lambda: [_autoscaler(v) for v in ("autoscaling/v1", "autoscaling/v2beta2", "autoscaling/v2")],
    "inferenceservice": lambda: kserve.inference_service(endpoint(), SETUP, kserve.SERVERLESS),
    "inferenceservice-canary": lambda: kserve.inference_service(
        endpoint(canary_percent=30, protocol="v1", max_replicas=5), SETUP, kserve.SERVERLESS
    ),
    "inferenceservice-raw": lambda: kserve.inference_service(endpoint(max_replicas=3), SETUP, kserve.RAW),
    "inferenceservice-own": lambda: kserve.inference_service(
        endpoint(framework=ModelFramework.PYTORCH, env={"A": "b"}),
        Setup(**{**_fields(SETUP), "variables": ("A",)}),
        kserve.SERVERLESS,
    ),
    "inferenceservice-own-raw": lambda: kserve.inference_service(
        endpoint(framework=ModelFramework.PYTORCH), SETUP, kserve.RAW
    ),
    "inferenceservice-transformer": lambda: kserve.inference_service(
        endpoint(
            transformer={
                "image_name": "team/transformer:1",
                "args": ["--feature_service", "wine"],
                "volumes": [
                    {"name": "feast", "type": "ConfigMap", "path": "/wine"},
                    {"name": "access", "type": "Secret", "path": "/access"},
                ],
                "env_from": {"name": "access", "type": "Secret"},
            },
        ),
        SETUP,
        kserve.SERVERLESS,
    ),
    "secrets": lambda: [
        secrets.masked(secret)
        for secret in (
            secrets.secret(_about("train-d3adabf95994484a"), {"AWS_SECRET_ACCESS_KEY": "hidden-value"}),
            secrets.pull_secret(_about("train-registry-068ad4ec6b93f037"), '{"auths": {"r": {"auth": "aGlkZGVu"}}}'),
            secrets.binary_secret(_about("train-script-0011223344556677"), {"start.py": b"hidden"}),
        )
    ],
}


def _about(name: str) -> Manifest:
    part = labels.part_of({"metadata": {"name": name}})
    return labels.Tags.of_job(SETUP.owner, job()).for_part(part).metadata(SETUP.namespace, name)


def _fields(setup: Setup) -> dict[str, Any]:
    return {name: getattr(setup, name) for name in setup.__struct_fields__}


def _autoscaler(version: str) -> Manifest | None:
    made = serving.deployment(endpoint(max_replicas=4), SETUP, "dev-mnist-0a1b2c3d", serving.STABLE)
    return serving.autoscaler(made, version)


@pytest.mark.parametrize("name", MADE)
def test_manifests_stay_as_they_are(name: str) -> None:
    made = MADE[name]()
    text = yaml.safe_dump_all(made if isinstance(made, list) else [made], sort_keys=False, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("KAPTAIN_TEST_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()
    assert "hidden" not in text
    assert "aGlkZGVu" not in text


def _schema(node: Any) -> Any:
    """An OpenAPI schema as a JSON schema that refuses fields it does not know."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    plain = {k: _schema(v) for k, v in node.items() if not k.startswith("x-kubernetes")}
    if isinstance(node.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        plain.setdefault("additionalProperties", False)
    return plain


@pytest.mark.parametrize("name", [name for name in MADE if name.startswith("inferenceservice")])
def test_kserves_own_schema_takes_them(name: str) -> None:
    definition = json.loads(KSERVE.read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = _schema(schema["properties"]["spec"])
    jsonschema.Draft7Validator(spec).validate(MADE[name]()["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(spec).validate({"predictor": {"unheard": 1}})


def pods(node: Any) -> list[Manifest]:
    """Every pod in a manifest: whatever has containers."""
    if isinstance(node, list):
        return [pod for item in node for pod in pods(item)]
    if not isinstance(node, dict):
        return []
    return ([node] if "containers" in node else []) + [pod for item in node.values() for pod in pods(item)]


PODS = {
    "job": 1,
    "job-full": 1,
    "job-disruption": 1,
    "job-indexed": 1,
    "pytorchjob": 2,
    "tfjob": 2,
    "trainjob": 1,
    "trainjob-overrides": 1,
    "experiment": 1,
    "experiment-pytorchjob": 2,
    "experiment-tfjob": 2,
    "deployment": 1,
    "inferenceservice-own": 1,
    "inferenceservice-own-raw": 1,
    "inferenceservice-transformer": 1,
}
VOLUMES = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"]


@pytest.mark.parametrize("name", MADE)
def test_pods_pass_the_restricted_standard(name: str) -> None:
    found = pods(MADE[name]())
    assert len(found) == PODS.get(name, 0)
    for pod in found:
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = {**pod.get("securityContext", {}), **container["securityContext"]}
            assert security["runAsNonRoot"] is True
            assert security.get("runAsUser", 1) > 0
            assert ("runAsUser" in security) is (name != "job-disruption")  # which leaves the user to the cluster
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not {"privileged", "procMount"} & set(security)
        assert all(set(volume) - {"name"} <= set(VOLUMES) for volume in pod.get("volumes", []))
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@pytest.mark.parametrize("name", [name for name in MADE if name.startswith("inferenceservice")])
def test_what_kserve_runs_is_unprivileged_and_has_resources(name: str) -> None:
    spec = MADE[name]()["spec"]
    predictor = spec["predictor"]
    parts = [
        predictor.get("model"),
        *predictor.get("containers", []),
        *spec.get("transformer", {}).get("containers", []),
    ]
    for part in filter(None, parts):
        assert part["securityContext"]["allowPrivilegeEscalation"] is False
        assert part["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert part["resources"]["requests"] == {"cpu": "0.5", "memory": "500M"}
    assert ("securityContext" in predictor) is (name == "inferenceservice-own-raw")  # Knative refuses it


def test_no_secret_stands_in_a_pod() -> None:
    text = json.dumps([made() for name, made in MADE.items() if name != "secrets"])
    assert "AWS_SECRET_ACCESS_KEY" in text  # as a reference of the TrainJob
    assert '"value": "hidden' not in text


LIMITED = job(workers=2, timeout=59.5, cluster=ClusterOptions(ttl_seconds_after_finished=600))


@pytest.mark.parametrize(
    "limits",
    [
        lambda: jobs.batch_job(LIMITED, SETUP)["spec"],
        lambda: jobs.indexed_job(LIMITED, SETUP)[-1]["spec"],
        lambda: jobs.pytorch_job(LIMITED, SETUP)["spec"]["runPolicy"],
        lambda: jobs.tf_job(LIMITED, SETUP)["spec"]["runPolicy"],
        lambda: jobs.train_job(LIMITED, SETUP)["spec"],
    ],
    ids=["Job", "Indexed Job", "PyTorchJob", "TFJob", "TrainJob"],
)
def test_every_kind_of_job_has_its_limits(limits: Callable[[], Manifest]) -> None:
    assert (limits()["activeDeadlineSeconds"], limits()["ttlSecondsAfterFinished"]) == (60, 600)


def test_service_meshes_are_asked_to_stay_away() -> None:
    template = MADE["job"]()["spec"]["template"]["metadata"]
    assert template["annotations"]["sidecar.istio.io/inject"] == "false"


@pytest.mark.parametrize(
    ("name", "container", "primary"),
    [("experiment-pytorchjob", "pytorch", "master"), ("experiment-tfjob", "tensorflow", "chief")],
)
def test_katib_finds_the_first_of_several_workers(name: str, container: str, primary: str) -> None:
    template = MADE[name]()["spec"]["trialTemplate"]
    assert template["primaryContainerName"] == container
    assert template["primaryPodLabels"] == {"training.kubeflow.org/replica-type": primary}
    assert '"Succeeded"' in template["successCondition"]
    assert all(pod["containers"][0]["name"] == container for pod in pods(template["trialSpec"]))


def test_katib_gets_no_choice_that_it_would_break() -> None:
    broken = study(domains={"kernel": Categorical(('say "hi"', "linear"))})
    with pytest.raises(DomainError, match="Katib"):
        experiment.experiment(broken, SETUP, trial_job(), "sklearn")


def test_trial_parameters_have_plain_and_different_names() -> None:
    names = experiment.parameter_names(
        study(domains={"--a-b": Integer(1, 2), "a_b": Integer(1, 2), "---": Integer(1, 2)})
    )
    assert names == {"--a-b": "a_b", "a_b": "a_b_", "---": "parameter"}
    minimized = experiment.experiment(study(direction=Direction.MINIMIZE), SETUP, trial_job(), "sklearn")
    assert minimized["spec"]["objective"]["type"] == "minimize"


def test_kserve_has_no_canary_without_knative() -> None:
    with pytest.raises(ServingError, match="serverless"):
        kserve.inference_service(endpoint(canary_percent=30), SETUP, kserve.RAW)


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"protocol": "v1"}, False),
        ({"protocol": "v2"}, False),
        ({"framework": ModelFramework.TENSORFLOW, "protocol": "v1"}, False),
        ({"framework": ModelFramework.TENSORFLOW, "protocol": "v2"}, True),
        ({"framework": ModelFramework.MLFLOW, "protocol": "v1"}, True),
        ({"framework": ModelFramework.MLFLOW, "protocol": "v2"}, False),
        ({"framework": ModelFramework.XGBOOST}, True),
        ({"requirements": ("pandas",)}, True),
        ({"requirements": ("pandas",), "serving_config": {"runtime": "team-runtime"}}, False),
        ({"framework": ModelFramework.TENSORFLOW, "serving_config": {"runtime": "kserve-tritonserver"}}, False),
        ({"serving_config": {"runtime": "kaptain"}}, True),
    ],
)
def test_our_server_serves_what_kserves_own_cannot(changes: dict[str, Any], own: bool) -> None:
    assert kserve.own_server(endpoint(**changes)) is own
    predictor = kserve.inference_service(endpoint(**changes), SETUP, kserve.SERVERLESS)["spec"]["predictor"]
    assert ("containers" in predictor, "model" in predictor) == (own, not own)


def test_storage_annotations() -> None:
    env = {"S3_ENDPOINT": "http://minio.kubeflow:9000", "AWS_REGION": "us-east-1", "S3_FORCE_PATH_STYLE": "on"}
    assert kserve.storage_annotations(env) == {
        "serving.kserve.io/s3-endpoint": "minio.kubeflow:9000",
        "serving.kserve.io/s3-usehttps": "0",
        "serving.kserve.io/s3-region": "us-east-1",
        "serving.kserve.io/s3-usevirtualbucket": "false",
    }
    assert kserve.storage_annotations({}) == {}


def test_labels_are_valid_whatever_the_names(tmp_path: Path) -> None:
    made = labels.Tags(owner="jane", model_id="Dev/Größe_1!", run_id="20211210-1929", job="x" * 80).labels
    assert all(0 < len(value) <= 63 for value in made.values())
    assert labels.value("-._a/b._-") == "a-b"
    one = labels.owner_name(tmp_path)
    assert one == labels.owner_name(tmp_path)
    (tmp_path / "other").mkdir()
    assert one != labels.owner_name(tmp_path / "other")
    assert labels.owner_name(tmp_path, "Team ML") == "team-ml"
