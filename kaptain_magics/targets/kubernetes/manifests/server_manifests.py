"""Manifests of an endpoint on a cluster without KServe: Deployment, Service, HorizontalPodAutoscaler."""

from __future__ import annotations

import json
import math

from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.labels import Tags
from kaptain_magics.targets.kubernetes.manifests.pod import (
    MOUNT,
    ROOT,
    STORAGE_RETRY_SECONDS,
    Setup,
    our_container,
    own_environment,
    pod_spec,
    variables,
)
from kaptain_magics.targets.server_options import common_options

PORT = 8080  # of the server in its pod: above 1024, so that it need not be root; KServe's default too
FOLDER = f"{ROOT}/model"
CONTAINER = "kaptain-container"
TERMINATION_LOG = "/dev/termination-log"  # what is written there stands in the container's state
FETCH = "storage-initializer"  # name of the init container
STABLE, CANARY = "stable", "canary"
REPLICAS = "kaptain-magics/replicas"  # annotation of a Deployment: replicas at least and at most
FRAMEWORK = "kaptain-magics/framework"
PROTOCOL = "kaptain-magics/protocol"
BUSY = 70  # percent of the requested CPU that replicas should use
_SETTLE = 5  # seconds that a server goes on after it has left the service, until every node knows
_DRAIN = 30  # seconds for requests in flight


def server_options(endpoint: EndpointSpec, folder: str = FOLDER) -> str:
    """Return the server's options as its JSON file has them.

    Args:
        endpoint: The endpoint.
        folder: Where the model is in the container.
    """
    options = {
        **common_options(endpoint, folder),
        "host": "0.0.0.0",
        "port": PORT,
        "insecure": True,  # the service has an address in the cluster only, as KServe's have
        "drain_seconds": _DRAIN,
        "failure": TERMINATION_LOG,
    }
    return json.dumps(options)


def deployment(endpoint: EndpointSpec, setup: Setup, name: str, role: str) -> Manifest:
    """Return the Deployment of one revision.

    Args:
        endpoint: The endpoint.
        setup: Its surroundings.
        name: The Deployment's name; every deployment of an endpoint has its own.
        role: ``STABLE`` or ``CANARY``.
    """
    at_most = endpoint.max_replicas or endpoint.min_replicas
    metadata = Tags.of_endpoint(setup.owner, endpoint).metadata(setup.namespace, name)
    metadata["labels"][labels.ROLE] = role
    metadata["annotations"] |= {
        REPLICAS: f"{endpoint.min_replicas}-{max(at_most, endpoint.min_replicas)}",
        FRAMEWORK: endpoint.framework.value,
        PROTOCOL: endpoint.protocol,
    }
    selector = {labels.ENDPOINT: endpoint.name, labels.RUN: labels.value(endpoint.run_id)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": max(1, endpoint.min_replicas),
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": max(1, math.ceil(endpoint.timeout)),
            "template": {
                "metadata": {
                    "labels": metadata["labels"] | {labels.ROLE: "server"},
                    "annotations": {labels.MODEL_ID: endpoint.model_id},
                },
                "spec": _server_pod(endpoint, setup),
            },
        },
    }


def _server_pod(endpoint: EndpointSpec, setup: Setup) -> Manifest:
    resources = endpoint.resources
    if endpoint.max_replicas and not resources.cpu_request:  # the autoscaler compares with the request
        resources = Resources(
            cpu_request="250m",
            cpu_limit=resources.cpu_limit,
            memory_request=resources.memory_request,
            memory_limit=resources.memory_limit,
            gpu_limit=resources.gpu_limit,
        )
    env = own_environment(endpoint.resources)
    fetch: Manifest = {
        **our_container(FETCH, setup, resources),
        "command": ["python3", "-u", f"{MOUNT}/serve.py", "fetch"],
        "env": variables(
            {"KAPTAIN_STORAGE_PATIENCE": STORAGE_RETRY_SECONDS, **env, "KAPTAIN_ARTIFACT": endpoint.artifact_uri}, setup
        ),
    }
    if setup.storage:
        fetch["envFrom"] = [{"secretRef": {"name": setup.storage}}]
    ready = {"httpGet": {"path": f"/v2/models/{endpoint.name}/ready", "port": "http"}}
    server = {
        **our_container(CONTAINER, setup, resources),
        "command": ["python3", "-u", f"{MOUNT}/serve.py"],
        "env": variables(env, setup),
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {**ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", f"import time; time.sleep({_SETTLE})"]}}},
    }
    pod = pod_spec([server], setup)
    pod["initContainers"] = [fetch]
    pod["terminationGracePeriodSeconds"] = _SETTLE + _DRAIN + 5
    pod["volumes"] = [{"name": "payload", "secret": {"secretName": setup.payload}}, {"name": "work", "emptyDir": {}}]
    return pod


def service(endpoint: EndpointSpec, setup: Setup) -> Manifest:
    """Return the Service in front of all revisions."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": Tags.of_endpoint(setup.owner, endpoint).metadata(setup.namespace, endpoint.name),
        "spec": {
            "selector": {labels.ENDPOINT: endpoint.name, labels.ROLE: "server"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def autoscaler(deployment: Manifest, api_version: str) -> Manifest | None:
    """Return the HorizontalPodAutoscaler of a Deployment; ``None`` where its replicas are fixed.

    Args:
        deployment: The Deployment, made here or read from the server.
        api_version: The version of the autoscaler that the server has.
    """
    metadata = deployment["metadata"]
    at_least, _, at_most = metadata["annotations"][REPLICAS].partition("-")
    if int(at_most) <= int(at_least):
        return None
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"]},
        "minReplicas": max(1, int(at_least)),
        "maxReplicas": int(at_most),
    }
    if api_version == "autoscaling/v1":
        spec["targetCPUUtilizationPercentage"] = BUSY
    else:
        target = {"type": "Utilization", "averageUtilization": BUSY}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    kept = {name: text for name, text in metadata["labels"].items() if name != labels.ROLE}
    return {
        "apiVersion": api_version,
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": kept},
        "spec": spec,
    }
