"""The pod of a job: one container of the image, with script and runtime laid in from a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.runtime.threads import thread_limits
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests.labels import MODEL_ID, Tags

MOUNT = "/opt/kaptain"  # the payload: start.py, program.json, archives
ROOT = "/home/kaptain"  # an empty volume to work in
WORK = f"{ROOT}/work"
VARIABLE = "env."  # how the names of the payload's files begin that hold the values of variables
INIT = "requirements"  # name of the init container
USER = 1000  # user and group of a pod: not root, whose pods clusters may refuse
STORAGE_RETRY_SECONDS = (
    "120"  # seconds that a store may be away when a model is saved: hours of training may hang on it
)
STORAGE_NAMES = (  # variables of the secret with access to the object store
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_CA_BUNDLE",
    "S3_ENDPOINT",
    "S3_SIGNATURE_VERSION",
    "S3_FORCE_PATH_STYLE",
    "S3_USE_HTTPS",
)
GRACE = 10  # seconds between asking a job to end and ending it


class Setup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manifest needs to know besides its spec.

    Attributes:
        owner: The owner's label value.
        namespace: The namespace.
        image: The image of the work.
        payload: Name of the secret with script and runtime.
        storage: Name of the secret with access to the object store; empty for none.
        pull_secrets: Names of the secrets to pull the image with.
        service_account: Service account of the pods; empty for the namespace's default without its token.
        user: Numeric user of the containers; ``None`` leaves it to the cluster.
        group: Numeric group; that of files in a built image is 0.
        ignore_disruption: Whether the server knows ``podFailurePolicy``.
        variables: Names of the environment variables whose values are in the payload.
        further: Further environment variables of the script's container, which are no secrets.
    """

    owner: str
    namespace: str
    image: str
    payload: str = ""
    storage: str = ""
    pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    user: int | None = USER
    group: int = USER
    ignore_disruption: bool = False
    variables: tuple[str, ...] = ()
    further: dict[str, str] = {}


def job_template(job: JobSpec, setup: Setup, env: Mapping[str, str] | None = None) -> Manifest:
    """Return the pod template of a job.

    Args:
        job: The job.
        setup: What its manifests need besides.
        env: Further environment variables of the container.
    """
    main: dict[str, Any] = {
        **our_container(job.framework.value, setup, job.resources),
        "command": ["python3", "-u", f"{MOUNT}/start.py"],
        "env": variables({**job_environment(job), **setup.further, **(env or {})}, setup),
    }
    if setup.storage:
        main["envFrom"] = [{"secretRef": {"name": setup.storage}}]
    pod = pod_spec([main], setup)
    if job.requirements and not job.image.image_name:  # a built image has them
        install = {
            **our_container(INIT, setup, msgspec.structs.replace(job.resources, gpu_limit=0)),
            "command": ["python3", "-u", f"{MOUNT}/start.py", "install"],
            "env": variables(own_environment(Resources()), setup),
        }
        pod["initContainers"] = [install]
    pod["restartPolicy"] = "Never"
    pod["shareProcessNamespace"] = True  # the script is not process 1, so that signals end it
    pod["terminationGracePeriodSeconds"] = GRACE
    pod["volumes"] = [
        {"name": "payload", "secret": {"secretName": setup.payload}},
        {"name": "work", "emptyDir": {}},
    ]
    return {"metadata": template_metadata(job, setup), "spec": pod}


def template_metadata(job: JobSpec, setup: Setup) -> Manifest:
    """Return the metadata of a job's pods: labels to find them, no service mesh."""
    return {
        "labels": Tags.of_job(setup.owner, job).labels | {"sidecar.istio.io/inject": "false"},
        "annotations": {"sidecar.istio.io/inject": "false", MODEL_ID: job.model_id},
    }


def job_environment(job: JobSpec) -> dict[str, str]:
    """Return what every job finds in its environment: neither credentials nor the variables that it was given."""
    env = {
        **own_environment(job.resources),
        "MODEL_LIFECYCLE_PHASE": job.phase,
        "GPUS": str(job.resources.gpu_limit),
        "KAPTAIN_FRAMEWORK": job.framework.value,
        "KAPTAIN_RUN_ID": job.run_id,
        "KAPTAIN_JOB_NAME": job.name,
        "KAPTAIN_CHANNEL": "stdout",
    }
    if job.upload_uri:
        env["TRAINED_MODEL_UPLOAD_PATH"] = job.upload_uri
        env["KAPTAIN_STORAGE_PATIENCE"] = STORAGE_RETRY_SECONDS
    if job.trial is not None:
        env["KAPTAIN_TRIAL"] = str(job.trial)
    return env


def own_environment(resources: Resources) -> dict[str, str]:
    """Return what every Python process of ours needs in a container without a user's name and home."""
    return {"PYTHONUNBUFFERED": "1", "HOME": ROOT, "USER": "kaptain", **thread_limits(resources.cores)}


def variables(env: Mapping[str, str], setup: Setup) -> list[Manifest]:
    """Return the environment variables of a container.

    Args:
        env: Our own; ``$(...)`` in a value stays as it is.
        setup: Names those that were given, whose values are in the payload alone: they may be secrets.
    """
    ours = {name: text.replace("$(", "$$(") for name, text in env.items() if name not in setup.variables}
    given = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": setup.payload, "key": f"{VARIABLE}{name}"}}}
        for name in setup.variables
    ]
    return [{"name": name, "value": text} for name, text in ours.items()] + given


def variable_files(given: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a payload that hold the values of variables."""
    return {f"{VARIABLE}{name}": value.encode("utf-8", "surrogateescape") for name, value in given.items()}


def pod_spec(containers: list[Manifest], setup: Setup) -> Manifest:
    """Return what all pods have in common: they pass the restricted Pod Security standard."""
    spec: Manifest = {
        "automountServiceAccountToken": bool(setup.service_account),
        "enableServiceLinks": False,
        "securityContext": pod_security(setup),
        "containers": containers,
    }
    if setup.service_account:
        spec["serviceAccountName"] = setup.service_account
    if setup.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in setup.pull_secrets]
    return spec


def pod_security(setup: Setup) -> Manifest:
    """Return as whom a pod's processes run, and who owns its volumes."""
    owner = {} if setup.user is None else {"fsGroup": setup.user}
    return user_security(setup) | owner


def user_security(setup: Setup) -> Manifest:
    """Return as whom processes run, as a pod or a container can have it."""
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if setup.user is not None:
        security |= {"runAsUser": setup.user, "runAsGroup": setup.group}
    return security


def unprivileged() -> Manifest:
    """Return what the restricted standard asks of every container, besides its user."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def our_container(name: str, setup: Setup, resources: Resources) -> Manifest:
    """Return what every container of ours has: the mounted payload, a folder to work in, and its resources."""
    container: Manifest = {
        "name": name,
        "image": setup.image,
        "workingDir": ROOT,
        "securityContext": unprivileged(),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # a failure has its reason where the log is lost, too
        "volumeMounts": [
            {"name": "payload", "mountPath": MOUNT, "readOnly": True},
            {"name": "work", "mountPath": ROOT},
        ],
    }
    named = requirements(resources)
    if named:
        container["resources"] = named
    return container


def requirements(resources: Resources) -> Manifest:
    """Return requests and limits; a value that is not named is left out."""
    requests = {"cpu": resources.cpu_request, "memory": resources.memory_request}
    limits = {"cpu": resources.cpu_limit, "memory": resources.memory_limit}
    if resources.gpu_limit:
        limits["nvidia.com/gpu"] = str(resources.gpu_limit)
    both = {"requests": requests, "limits": limits}
    named = {side: {name: text for name, text in values.items() if text} for side, values in both.items()}
    return {side: values for side, values in named.items() if values}
