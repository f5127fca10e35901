"""The Katib Experiment of a study (``kubeflow.org/v1beta1``)."""

from __future__ import annotations

import re

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Integer
from kaptain_magics.core.metric_lines import katib_filters
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import DomainError
from kaptain_magics.targets.kubernetes.api.kinds import FIRST_REPLICAS, REPLICA_LABEL, Manifest
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.labels import Tags
from kaptain_magics.targets.kubernetes.manifests.pod import Setup

TRIAL = "trialName"  # our name of the trial parameter that holds the trial's own name
SEEDED = ("random", "tpe", "multivariate-tpe", "bayesianoptimization", "cmaes")  # algorithms that take a seed
_UNSAFE = re.compile(r'["\\\n\r]')


def experiment(study: StudySpec, setup: Setup, workload: Manifest, container: str) -> Manifest:
    """Return the Experiment.

    Args:
        study: The study.
        setup: Its surroundings.
        workload: The job of a trial; its values stand in the environment variable ``KAPTAIN_TRIAL_PARAMETERS``.
        container: The container in it whose output holds the metrics.

    Raises:
        DomainError: A choice has a character that Katib cannot put into a job.
    """
    objective: Manifest = {
        "type": study.direction.value,
        "objectiveMetricName": study.objectives[0],
        "metricStrategies": [{"name": name, "value": "latest"} for name in study.objectives],
    }
    if study.goal is not None:
        objective["goal"] = study.goal
    if study.objectives[1:]:
        objective["additionalMetricNames"] = list(study.objectives[1:])
    spec: Manifest = {
        "objective": objective,
        "algorithm": {"algorithmName": study.algorithm, "algorithmSettings": _settings(_algorithm_settings(study))},
        "maxTrialCount": study.trials,
        "parallelTrialCount": min(study.parallel, study.trials),
        "maxFailedTrialCount": min(study.failed_trials, study.trials),
        "resumePolicy": "Never",
        "parameters": [_parameter(name, domain) for name, domain in study.domains.items()],
        "metricsCollectorSpec": {
            "collector": {"kind": "StdOut"},
            "source": {"filter": {"metricsFormat": katib_filters(study.objectives)}},
        },
        "trialTemplate": _template(study, workload, container),
    }
    if study.early_stopping:
        spec["earlyStopping"] = {
            "algorithmName": study.early_stopping,
            "algorithmSettings": _settings(study.early_stopping_settings),
        }
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": Tags.of_study(setup.owner, study).metadata(setup.namespace, study.name),
        "spec": spec,
    }


def placeholder(name: str) -> str:
    """Return what Katib replaces by the value of a trial parameter."""
    return f"${{trialParameters.{name}}}"


def parameter_names(study: StudySpec) -> dict[str, str]:
    """Return the trial parameter's name of every hyperparameter: ``--gamma`` becomes ``gamma``."""
    names: dict[str, str] = {}
    for name in study.domains:
        plain = re.sub(r"\W+", "_", name.lstrip("-")) or "parameter"
        while plain in names.values() or plain == TRIAL:
            plain += "_"
        names[name] = plain
    return names


def trial_parameters(study: StudySpec) -> str:
    """Return the value of ``KAPTAIN_TRIAL_PARAMETERS``: a line ``name=value`` for every hyperparameter."""
    return "\n".join(f"{name}={placeholder(plain)}" for name, plain in parameter_names(study).items())


def _template(study: StudySpec, workload: Manifest, container: str) -> Manifest:
    named = [{"name": plain, "reference": name} for name, plain in parameter_names(study).items()]
    kind = workload["kind"]
    success = "Complete" if kind in ("Job", "TrainJob") else "Succeeded"
    trial_spec = {k: v for k, v in workload.items() if k != "metadata"}
    trial_spec["metadata"] = {"labels": workload["metadata"]["labels"] | {labels.STUDY: study.name}}
    template: Manifest = {
        "retain": True,  # what a failed trial said is still there to be read
        "primaryContainerName": container,
        "successCondition": _condition(success),
        "failureCondition": _condition("Failed"),
        "trialParameters": [*named, {"name": TRIAL, "reference": "${trialSpec.Name}"}],
        "trialSpec": trial_spec,
    }
    if kind in FIRST_REPLICAS:
        template["primaryPodLabels"] = {REPLICA_LABEL: FIRST_REPLICAS[kind]}
    return template


def _condition(kind: str) -> str:
    return f'status.conditions.#(type=="{kind}")#|#(status=="True")#'


def _algorithm_settings(study: StudySpec) -> dict[str, str]:
    settings = dict(study.algorithm_settings)
    if study.seed is not None and study.algorithm in SEEDED:
        settings.setdefault("random_state", str(study.seed))
    return settings


def _settings(settings: dict[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in settings.items()]


def _parameter(name: str, domain: AnyDomain) -> Manifest:
    if isinstance(domain, Categorical | Discrete):
        texts = [str(value) for value in domain.values]
        unsafe = next((text for text in texts if _UNSAFE.search(text)), None)
        if unsafe is not None:
            raise DomainError(f"{name}: Katib cannot pass the choice {unsafe!r}", "leave quotes and line breaks out")
        kind = "categorical" if isinstance(domain, Categorical) else "discrete"
        return {"name": name, "parameterType": kind, "feasibleSpace": {"list": texts}}
    space = {"min": str(domain.min), "max": str(domain.max)}
    if domain.step is not None:
        space["step"] = str(domain.step)
    if domain.log:
        space["distribution"] = "logUniform"
    return {
        "name": name,
        "parameterType": "int" if isinstance(domain, Integer) else "double",
        "feasibleSpace": space,
    }
