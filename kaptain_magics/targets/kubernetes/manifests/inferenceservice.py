"""The KServe InferenceService of an endpoint (``serving.kserve.io/v1beta1``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import ServingError
from kaptain_magics.runtime.text_values import is_true
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests.labels import Tags
from kaptain_magics.targets.kubernetes.manifests.pod import (
    MOUNT,
    STORAGE_NAMES,
    Setup,
    our_container,
    own_environment,
    pod_security,
    requirements,
    unprivileged,
    user_security,
    variables,
)
from kaptain_magics.targets.kubernetes.manifests.server_manifests import PORT

MODE = "serving.kserve.io/deploymentMode"
AUTHORITIES = "serving.kserve.io/s3-cabundle-configmap"  # annotation of the secret with access to the object store
SERVERLESS, RAW = "Serverless", "RawDeployment"
SECRET_KIND = "Secret"  # of a transformer's volumes; the other one is ConfigMap
# Frameworks whose saved folder KServe's own servers load as it is, and the protocols that these servers speak; all else
# is served by our server under KServe. (Its server for XGBoost takes a folder with one file alone, and ours has the
# checksums beside the model.)
PROTOCOLS = {
    ModelFramework.SKLEARN: ("v1", "v2"),
    ModelFramework.TENSORFLOW: ("v1",),
    ModelFramework.MLFLOW: ("v2",),
}
FOLDER = "/mnt/models"  # where KServe's storage initializer puts the model
CONTAINER = "kserve-container"
OWN_RUNTIME = "kaptain"  # value of serving_config["runtime"] that asks for our server


def own_server(endpoint: EndpointSpec) -> bool:
    """Whether our server serves the endpoint under KServe: where KServe's own cannot, or lack its requirements."""
    if runtime := endpoint.serving_config.get("runtime"):
        return runtime == OWN_RUNTIME
    return bool(endpoint.requirements) or endpoint.protocol not in PROTOCOLS.get(endpoint.framework, ())


def inference_service(endpoint: EndpointSpec, setup: Setup, mode: str) -> Manifest:
    """Return the InferenceService.

    Args:
        endpoint: The endpoint.
        setup: Its surroundings.
        mode: ``SERVERLESS`` or ``RAW``.

    Raises:
        ServingError: KServe cannot do what is asked in this mode.
    """
    if mode == RAW and endpoint.canary_percent is not None:
        raise ServingError(
            "KServe has canaries in its serverless mode only",
            "have Knative installed, or serve without KServe: %config KaptainMagics.cluster_serving = 'plain'",
        )
    metadata = Tags.of_endpoint(setup.owner, endpoint).metadata(setup.namespace, endpoint.name)
    metadata["annotations"][MODE] = mode
    spec: Manifest = {"predictor": _predictor(endpoint, setup, mode)}
    if endpoint.transformer:
        spec["transformer"] = _transformer(endpoint, setup) | _pod_security(setup, mode)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": spec,
    }


def _predictor(endpoint: EndpointSpec, setup: Setup, mode: str) -> Manifest:
    predictor: Manifest = {
        "serviceAccountName": setup.service_account or f"{endpoint.name}-service-account",
        "minReplicas": endpoint.min_replicas,
    }
    if own_server(endpoint):
        predictor |= _own(endpoint, setup) | _pod_security(setup, mode)
    else:
        predictor["model"] = _model(endpoint, setup)
    if endpoint.max_replicas is not None:
        predictor["maxReplicas"] = endpoint.max_replicas
    if mode == SERVERLESS:
        predictor |= {"scaleTarget": endpoint.autoscale, "scaleMetric": "concurrency"}
    elif endpoint.max_replicas is not None:
        predictor |= {"scaleTarget": 70, "scaleMetric": "cpu"}
    if endpoint.canary_percent is not None:
        predictor["canaryTrafficPercent"] = endpoint.canary_percent
    if setup.pull_secrets:
        predictor["imagePullSecrets"] = [{"name": name} for name in setup.pull_secrets]
    return predictor


def _model(endpoint: EndpointSpec, setup: Setup) -> Manifest:
    """Return the model for one of KServe's own servers, or for the runtime that is named."""
    model: Manifest = {
        "modelFormat": {"name": endpoint.framework.value},
        "protocolVersion": endpoint.protocol,
        "storageUri": endpoint.artifact_uri,
        "securityContext": unprivileged() | {"seccompProfile": {"type": "RuntimeDefault"}},  # the user is the runtime's
    }
    if runtime := endpoint.serving_config.get("runtime"):
        model["runtime"] = runtime
    if setup.variables:
        model["env"] = variables({}, setup)
    if resources := requirements(endpoint.resources):
        model["resources"] = resources
    return model


def _own(endpoint: EndpointSpec, setup: Setup) -> Manifest:
    """Return a pod of our server; KServe brings the model to it."""
    env = {**own_environment(endpoint.resources), "STORAGE_URI": endpoint.artifact_uri}
    container: Manifest = {
        **our_container(CONTAINER, setup, endpoint.resources),
        "securityContext": _restricted(setup),
        "command": ["python3", "-u", f"{MOUNT}/serve.py"],
        "env": variables(env, setup),
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": f"/v2/models/{endpoint.name}/ready", "port": PORT}},
    }
    if setup.storage:  # it brings what its image lacks from there, and forgets the keys before it serves
        forgotten = ",".join(name for name in STORAGE_NAMES if name not in setup.variables)
        container["env"] = variables({**env, "KAPTAIN_FORGET": forgotten}, setup)
        container["envFrom"] = [{"secretRef": {"name": setup.storage}}]
    volumes = [{"name": "payload", "secret": {"secretName": setup.payload}}, {"name": "work", "emptyDir": {}}]
    return {"containers": [container], "volumes": volumes}


def _restricted(setup: Setup) -> Manifest:
    """Return what a container needs to pass the restricted standard by itself: Knative takes none of it of a pod."""
    return unprivileged() | user_security(setup)


def _pod_security(setup: Setup, mode: str) -> Manifest:
    """Return the pod-level security context: it holds for KServe's own containers too."""
    return {"securityContext": pod_security(setup)} if mode == RAW else {}


def _transformer(endpoint: EndpointSpec, setup: Setup) -> Manifest:
    transformer: Mapping[str, Any] = endpoint.transformer
    container: Manifest = {
        "name": CONTAINER,
        "image": transformer["image_name"],
        "securityContext": _restricted(setup),
    }
    if resources := requirements(msgspec.structs.replace(endpoint.resources, gpu_limit=0)):
        container["resources"] = resources
    if transformer.get("args"):
        container["args"] = list(transformer["args"])
    volumes, mounts = [], []
    for number, volume in enumerate(transformer.get("volumes") or ()):
        name = f"volume-{number}"
        if volume["type"] == SECRET_KIND:
            volumes.append({"name": name, "secret": {"secretName": volume["name"]}})
        else:
            volumes.append({"name": name, "configMap": {"name": volume["name"]}})
        mounts.append({"name": name, "mountPath": volume["path"], "readOnly": True})
    if mounts:
        container["volumeMounts"] = mounts
    source = transformer.get("env_from")
    if source:
        field = "secretRef" if source["type"] == SECRET_KIND else "configMapRef"
        container["envFrom"] = [{field: {"name": source["name"]}}]
    component: Manifest = {"containers": [container]}
    if volumes:
        component["volumes"] = volumes
    return component


def authorities(metadata: Manifest, certificates: bytes) -> Manifest:
    """Return the ConfigMap with certificates that KServe's storage initializer is to trust.

    Args:
        metadata: Its metadata.
        certificates: The certificates (PEM).
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"cabundle.crt": certificates.decode("ascii", "replace")},
    }


def storage_annotations(env: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations by which KServe's storage initializer learns of an S3 server.

    Args:
        env: The access to the object store.
    """
    endpoint = env.get("S3_ENDPOINT", "")
    if not endpoint:
        return {}
    scheme, _, host = endpoint.rpartition("://")
    annotations = {
        "serving.kserve.io/s3-endpoint": host,
        "serving.kserve.io/s3-usehttps": "0" if scheme == "http" else "1",
    }
    if env.get("AWS_REGION"):
        annotations["serving.kserve.io/s3-region"] = env["AWS_REGION"]
    if is_true(env.get("S3_FORCE_PATH_STYLE", "")):
        annotations["serving.kserve.io/s3-usevirtualbucket"] = "false"
    return annotations
