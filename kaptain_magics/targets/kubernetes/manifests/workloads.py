"""Manifests of training jobs: Job, Indexed Job, PyTorchJob, TFJob, TrainJob."""

from __future__ import annotations

import math

from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.kubernetes.api.kinds import KINDS, Manifest
from kaptain_magics.targets.kubernetes.manifests.labels import Tags
from kaptain_magics.targets.kubernetes.manifests.pod import STORAGE_NAMES, Setup, job_template, requirements

RENDEZVOUS = 29500  # port of the first worker that the others meet at, PyTorch's default
RUNTIMES = {"pytorch": "torch-distributed", "tensorflow": "plainml-distributed"}

PATCHES = ("runtimePatches", "podTemplateOverrides")  # fields of TrainJob, the newest first


def batch_job(job: JobSpec, setup: Setup) -> Manifest:
    """Return a Job of one worker that is never started a second time by a failure of the script."""
    spec: Manifest = {"backoffLimit": 0, "template": job_template(job, setup)}
    if setup.ignore_disruption:
        disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
        spec["podFailurePolicy"] = {"rules": [disrupted]}
    return _object("Job", job, setup, _limits(job) | spec)


def indexed_job(job: JobSpec, setup: Setup) -> list[Manifest]:
    """Return an Indexed Job of several workers, and the service by which they find each other."""
    template = job_template(job, setup, {"KAPTAIN_WORKERS": str(job.workers)})
    template["spec"]["subdomain"] = job.name
    spec = {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "completions": job.workers,
        "parallelism": job.workers,
        "template": template,
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": Tags.of_job(setup.owner, job).metadata(setup.namespace, job.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"job-name": job.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS}],
        },
    }
    return [service, _object("Job", job, setup, _limits(job) | spec)]


def pytorch_job(job: JobSpec, setup: Setup) -> Manifest:
    """Return a PyTorchJob of one master and the other workers."""
    replicas = {"Master": _replica(job, setup, 1, "pytorch")}
    if job.workers > 1:
        replicas["Worker"] = _replica(job, setup, job.workers - 1, "pytorch")
    return _object("PyTorchJob", job, setup, {"runPolicy": _run_policy(job), "pytorchReplicaSpecs": replicas})


def tf_job(job: JobSpec, setup: Setup) -> Manifest:
    """Return a TFJob of one chief and the other workers."""
    replicas = {"Chief": _replica(job, setup, 1, "tensorflow")}
    if job.workers > 1:
        replicas["Worker"] = _replica(job, setup, job.workers - 1, "tensorflow")
    return _object("TFJob", job, setup, {"runPolicy": _run_policy(job), "tfReplicaSpecs": replicas})


def train_job(job: JobSpec, setup: Setup, style: str = PATCHES[0]) -> Manifest:
    """Return a TrainJob on the runtime that Kubeflow Trainer installs for the framework.

    Args:
        job: The job.
        setup: Its surroundings.
        style: The field by which this version of Trainer lets a pod be changed, of ``PATCHES``.
    """
    template = job_template(job, setup, {"KAPTAIN_WORKERS": str(job.workers)})
    pod = template["spec"]
    main = pod["containers"][0]
    trainer: Manifest = {
        "numNodes": job.workers,
        "image": setup.image,
        "command": main["command"],
        "env": main["env"] + [_from_secret(name, setup) for name in STORAGE_NAMES if setup.storage],
    }
    if resources := requirements(job.resources):
        trainer["resourcesPerNode"] = resources
    node = {"name": "node", "volumeMounts": main["volumeMounts"], "securityContext": main["securityContext"]}
    patch: Manifest = {"volumes": pod["volumes"], "securityContext": pod["securityContext"], "containers": [node]}
    for name in ("serviceAccountName", "imagePullSecrets", "initContainers"):
        if name in pod:
            patch[name] = pod[name]
    spec: Manifest = {
        "runtimeRef": {"name": RUNTIMES.get(job.framework.value, "plainml-distributed")},
        "trainer": trainer,
        style: [_patch(style, template["metadata"], patch)],
    }
    return _object("TrainJob", job, setup, _limits(job) | spec)  # a Trainer that does not know a limit drops it


def _patch(style: str, metadata: Manifest, pod: Manifest) -> Manifest:
    if style == "podTemplateOverrides":
        return {"targetJobs": [{"name": "node"}], "metadata": metadata, "spec": pod}
    node = {"name": "node", "template": {"spec": {"template": {"metadata": metadata, "spec": pod}}}}
    return {"manager": "kaptain-magics", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}}}


def _from_secret(name: str, setup: Setup) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": setup.storage, "key": name, "optional": True}}}


def _object(kind: str, job: JobSpec, setup: Setup, spec: Manifest) -> Manifest:
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": Tags.of_job(setup.owner, job).metadata(setup.namespace, job.name),
        "spec": spec,
    }


def _limits(job: JobSpec) -> Manifest:
    limits: Manifest = {}
    if job.timeout is not None:
        limits["activeDeadlineSeconds"] = max(1, math.ceil(job.timeout))
    if job.cluster.ttl_seconds_after_finished is not None:
        limits["ttlSecondsAfterFinished"] = job.cluster.ttl_seconds_after_finished
    return limits


def _run_policy(job: JobSpec) -> Manifest:
    return {"backoffLimit": 0, "cleanPodPolicy": "None", **_limits(job)}


def _replica(job: JobSpec, setup: Setup, replicas: int, container: str) -> Manifest:
    template = job_template(job, setup)
    template["spec"]["containers"][0]["name"] = container  # the operator looks for this name
    template["spec"].pop("restartPolicy")
    return {"replicas": replicas, "restartPolicy": "Never", "template": template}
