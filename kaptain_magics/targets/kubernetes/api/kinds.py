"""The kinds of objects that are used here, and where the API server has them."""

from __future__ import annotations

from typing import Any, NamedTuple

Manifest = dict[str, Any]


class Kind(NamedTuple):
    """A kind of object.

    Attributes:
        api_version: Group and version, such as ``batch/v1``.
        plural: Its name in URLs.
        namespaced: Whether it lives in a namespace.
    """

    api_version: str
    plural: str
    namespaced: bool = True


KINDS = {
    "Pod": Kind("v1", "pods"),
    "Event": Kind("v1", "events"),
    "Secret": Kind("v1", "secrets"),
    "ConfigMap": Kind("v1", "configmaps"),
    "Service": Kind("v1", "services"),
    "ServiceAccount": Kind("v1", "serviceaccounts"),
    "ResourceQuota": Kind("v1", "resourcequotas"),
    "LimitRange": Kind("v1", "limitranges"),
    "Namespace": Kind("v1", "namespaces", namespaced=False),
    "Node": Kind("v1", "nodes", namespaced=False),
    "Job": Kind("batch/v1", "jobs"),
    "Deployment": Kind("apps/v1", "deployments"),
    "ReplicaSet": Kind("apps/v1", "replicasets"),
    "HorizontalPodAutoscaler": Kind("autoscaling/v1", "horizontalpodautoscalers"),
    "PyTorchJob": Kind("kubeflow.org/v1", "pytorchjobs"),
    "TFJob": Kind("kubeflow.org/v1", "tfjobs"),
    "TrainJob": Kind("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    "Experiment": Kind("kubeflow.org/v1beta1", "experiments"),
    "Trial": Kind("kubeflow.org/v1beta1", "trials"),
    "Suggestion": Kind("kubeflow.org/v1beta1", "suggestions"),
    "InferenceService": Kind("serving.kserve.io/v1beta1", "inferenceservices"),
    "SelfSubjectAccessReview": Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False),
}

FIRST_REPLICAS = {"PyTorchJob": "master", "TFJob": "chief"}
"""The replica of a distributed job whose log and exit code count, by the kind of job."""
REPLICA_LABEL = "training.kubeflow.org/replica-type"  # of an operator's pods


def path(kind: str, namespace: str, name: str = "", api_version: str = "") -> str:
    """Return the URL path of a collection or, with a name, of an object in it."""
    entry = KINDS[kind]
    version = api_version or entry.api_version
    parts = ["/apis" if "/" in version else "/api", version]
    if entry.namespaced:
        parts += ["namespaces", namespace]
    return "/".join([*parts, entry.plural, *([name] if name else [])])
