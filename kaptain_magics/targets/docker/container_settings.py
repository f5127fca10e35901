"""From a job to the settings of its container: pure functions, also shown by ``--dry-run``."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kaptain_magics.core.resources import Resources, quantity
from kaptain_magics.core.secrets import masked
from kaptain_magics.core.specs import ImageSpec, JobSpec
from kaptain_magics.images.build_context import FOLDER, PACKAGES, RUNTIME
from kaptain_magics.runtime.threads import thread_limits
from kaptain_magics.storage.credentials import KEYS
from kaptain_magics.targets.job_variables import job_variables

PROGRAM = f"{FOLDER}/{RUNTIME}/program.json"
AUTHORITIES = f"{FOLDER}/{RUNTIME}/ca.pem"  # certificates of the object store's own authority
SENT = f"{FOLDER}/{RUNTIME}/sent.pkl"
FETCHED = f"{FOLDER}/{RUNTIME}/fetched.pkl"
MOUNTED = f"{FOLDER}/.mounted"  # where a volume with the packages that an image lacks is mounted
MANAGED = {"kaptain.managed-by": "kaptain-magics"}

_NOBODY = 65534  # where this process is root, or its system has no such numbers
_SHARED_MEMORY = 1 << 30  # /dev/shm: data loaders with worker processes need more than the engine's 64 MB


def base_image(image: ImageSpec, settings: Mapping[str, str]) -> str:
    """Return the image that runs the work when none is built."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return image.base_image or settings.get("base_image") or f"python:{version}-slim"


def labels(home: Path, kind: str, model_id: str, run_id: str, name: str) -> dict[str, str]:
    """Return the labels by which what we made is found again."""
    return {
        **MANAGED,
        "kaptain.owner": owner(home),
        "kaptain.kind": kind,
        "kaptain.model": model_id,
        "kaptain.run": run_id,
        "kaptain.name": name,
    }


def owner(home: Path) -> str:
    """Return a short name of the state folder that things belong to."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]


def job_environment(job: JobSpec, storage_env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a job's container: what may be among its settings, which the engine shows."""
    return {
        **{name: value for name, value in storage_env.items() if name not in KEYS},
        **job_variables(job),
        **thread_limits(job.resources.cores),
        "KAPTAIN_CHANNEL": "stdout",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": search_path(),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def search_path(images_own: str = "") -> str:
    """Return where Python looks for modules: the runtime, packages that we brought, then the image's own choice."""
    ours = [f"{FOLDER}/{RUNTIME}", MOUNTED, f"{FOLDER}/{PACKAGES}"]
    return ":".join(dict.fromkeys([*ours, *filter(None, images_own.split(":"))]))


def job_container(job: JobSpec, *, env: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a job's container, as ``containers.create`` of the Docker SDK takes them."""
    return {
        "name": job.name,
        "entrypoint": ["python", "-m", "kaptain_magics.runtime.launch", PROGRAM],
        "command": [],
        "working_dir": FOLDER,
        "environment": dict(env),
        "labels": dict(labels),
        "log_config": {"Type": "json-file", "Config": {"max-size": "1t"}},  # whole: the log is read from its first byte
        **hardened(),
        **limits(job.resources),
    }


def hardened() -> dict[str, Any]:
    """Return the settings that leave a container no more rights than it needs."""
    return {
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "group_add": ["0"],  # the files of a context belong to group 0, for users with any number
        "shm_size": _SHARED_MEMORY,
    }


def limits(resources: Resources) -> dict[str, Any]:
    """Return the settings for CPU, memory and GPUs."""
    settings: dict[str, Any] = {}
    if resources.cpu_limit is not None:
        settings["nano_cpus"] = int(quantity(resources.cpu_limit, "cpu") * 1e9)
    if resources.cpu_request is not None:
        settings["cpu_shares"] = max(2, int(quantity(resources.cpu_request, "cpu") * 1024))
    if resources.memory_bytes is not None:
        settings["mem_limit"] = settings["memswap_limit"] = resources.memory_bytes
    if resources.memory_request is not None:
        settings["mem_reservation"] = int(quantity(resources.memory_request, "memory"))
    if resources.gpu_limit:
        settings["device_requests"] = [{"Driver": "", "Count": resources.gpu_limit, "Capabilities": [["gpu"]]}]
    return settings


def run_as(image_user: str, settings: Mapping[str, str]) -> str:
    """Return the user of the container's process: the image's own unless that is root, else a plain number.

    Args:
        image_user: ``USER`` of the image.
        settings: ``docker_user`` overrides the choice.
    """
    chosen = settings.get("docker_user", "")
    if chosen:
        return chosen
    if image_user and image_user.partition(":")[0] not in ("root", "0"):
        return image_user
    uid = os.getuid() if hasattr(os, "getuid") else 0
    return f"{uid or _NOBODY}:{os.getgid() or _NOBODY}" if hasattr(os, "getgid") else f"{_NOBODY}:{_NOBODY}"


def nameless(user: str) -> dict[str, str]:
    """Return what libraries ask of the environment when the user's number has no name in the image."""
    return {"HOME": "/tmp", "USER": "kaptain", "LOGNAME": "kaptain"} if user[:1].isdigit() else {}


def loopback(env: Mapping[str, str]) -> bool:
    """Whether the object store is on this machine's loopback address, which a container's own network cannot reach."""
    return urlsplit(env.get("S3_ENDPOINT", "")).hostname in ("127.0.0.1", "localhost", "::1")


def hidden_environment(
    given: Mapping[str, str], storage_env: Mapping[str, str], images_path: str = ""
) -> dict[str, str]:
    """Return the variables that travel in a file: who may look at a container's settings shall not find them.

    Args:
        given: The variables that a job or an endpoint was given.
        storage_env: What gives access to the object store.
        images_path: Where the image itself has Python look for modules.
    """
    hidden = {name: value for name, value in storage_env.items() if name in KEYS} | dict(given)
    if "PYTHONPATH" in hidden:
        hidden["PYTHONPATH"] = f"{search_path(images_path)}:{hidden['PYTHONPATH']}"
    return hidden


def as_command(image: str, settings: Mapping[str, Any], hidden: Iterable[str] = ()) -> str:
    """Return the ``docker run`` that would do the same.

    Args:
        image: The image.
        settings: The container's settings.
        hidden: Names of the variables that travel in a file.
    """
    words = ["docker run", f"--name {settings['name']}"]
    words += [f"--label {shlex.quote(f'{k}={v}')}" for k, v in settings.get("labels", {}).items()]
    environment = settings.get("environment", {}) | masked(hidden)
    words += [f"--env {shlex.quote(f'{name}={value}')}" for name, value in environment.items()]
    plain = {
        "user": "--user",
        "working_dir": "--workdir",
        "mem_limit": "--memory",
        "memswap_limit": "--memory-swap",
        "mem_reservation": "--memory-reservation",
        "cpu_shares": "--cpu-shares",
        "shm_size": "--shm-size",
        "network_mode": "--network",
    }
    words += [f"{option} {settings[key]}" for key, option in plain.items() if key in settings]
    if "nano_cpus" in settings:
        words.append(f"--cpus {settings['nano_cpus'] / 1e9:g}")
    if "device_requests" in settings:
        words.append(f"--gpus {settings['device_requests'][0]['Count']}")
    words += [f"--volume {source}:{v['bind']}:{v['mode']}" for source, v in settings.get("volumes", {}).items()]
    words += [f"--publish {h}:{p}:{c}" for c, (h, p) in settings.get("ports", {}).items()]
    words += ["--init", "--cap-drop ALL", "--security-opt no-new-privileges", "--group-add 0"]
    entrypoint = settings["entrypoint"]
    words += [f"--entrypoint {entrypoint[0]}", image, shlex.join([*entrypoint[1:], *settings["command"]])]
    return " \\\n  ".join(words)
