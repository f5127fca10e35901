"""Says in one sentence what a cluster means: refusals, events, the states of pods and containers.

Pure functions over what the API server sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kaptain_magics.targets.kubernetes.api.kinds import Manifest


class Problem(NamedTuple):
    """Something that keeps work from starting or going on.

    Attributes:
        sentence: What it is.
        hint: The next step; may be empty.
        lasting: Whether it stays until a person fixes it; the others may pass by themselves.
    """

    sentence: str
    hint: str = ""
    lasting: bool = False


_SMALLER = "ask for less with --cpu and --memory, or wait until other work has ended"
_MUST_SPECIFY = re.compile(r"must specify ([\w.,/-]+)")
_EXCEEDED = re.compile(r"exceeded quota: ([^,]+), requested: (.+?), used: (.+?), limited: (.+?)$")
_SECURITY = re.compile(r'violates PodSecurity "([^"]+)": (.+)$')
_LIMIT_RANGE = re.compile(r"((?:maximum|minimum) \w+ usage per \w+ is [^,]+, but (?:limit|request)[^,\]]*)")
_FORBIDDEN = re.compile(
    r'User "([^"]+)" cannot (\w+) resource "([^"]+)"(?: in API group "([^"]*)")?(?: in the namespace "([^"]+)")?'
)
_NO_NAMESPACE = re.compile(r'namespaces? "([^"]+)" not found')
_NO_IMAGE = re.compile(
    r"not found|manifest unknown|no such image|does not exist|repository name|invalid reference|ErrImageNeverPull", re.I
)
_NO_ACCESS = re.compile(r"unauthorized|authentication required|no basic auth|denied|forbidden|\b40[13]\b", re.I)
_NO_CONNECTION = re.compile(
    r"dial tcp|connection refused|i/o timeout|no such host|TLS handshake|EOF|\b50[0234]\b", re.I
)


def refusal(code: int, message: str) -> tuple[str, str]:
    """Return sentence and hint for a request that the API server refused.

    Args:
        code: The HTTP status.
        message: The server's message.
    """
    problem = _admission(message)
    if problem is not None:
        return problem.sentence, problem.hint
    if match := _FORBIDDEN.search(message):
        user, verb, resource, _, namespace = match.groups()
        in_namespace = f" in namespace {namespace}" if namespace else ""
        return (
            f"{user} may not {verb} {resource}{in_namespace}",
            "ask the cluster's administrator for a role that allows it; %kaptain doctor lists all that is needed",
        )
    if match := _NO_NAMESPACE.search(message):
        return (
            f"there is no namespace {match[1]}",
            "name another one with %config KaptainMagics.namespace, or create it: kubectl create namespace " + match[1],
        )
    if code == 401:
        return "the API server does not accept the credentials", "log in to the cluster again, then run the line again"
    text = " ".join(message.split()) or f"HTTP status {code}"
    return f"the API server refused: {text[:500]}", ""


def _admission(message: str) -> Problem | None:
    """Explain what a quota, a limit range or pod security says of a pod."""
    if match := _MUST_SPECIFY.search(message):
        options = _options(match[1])
        return Problem(
            f"the namespace's quota requires {' and '.join(sorted(options))} to be named",
            "add " + " ".join(sorted(options.values(), reverse=False)),
            lasting=True,
        )
    if match := _EXCEEDED.search(message.strip()):
        name, requested, used, limited = match.groups()
        return Problem(
            f"quota {name} exceeded: requested {requested}, used {used} of {limited}",
            _SMALLER,
            lasting=_more_than_all(requested, limited),
        )
    if match := _SECURITY.search(message):
        return Problem(
            f"the namespace's pod security ({match[1]}) refuses the pod: {match[2][:300]}",
            "use a base image that runs without root, or another namespace",
            lasting=True,
        )
    if match := _LIMIT_RANGE.search(message):
        return Problem(f"the namespace's limit range refuses the pod: {match[1]}", _SMALLER, lasting=True)
    return None


def _options(resources: str) -> dict[str, str]:
    """Return what to add for every resource that a quota requires: ``cpu,memory`` becomes the options."""
    examples = {"cpu": "--cpu 0.5", "memory": "--memory 1G", "nvidia.com/gpu": "--gpus 1"}
    options = {}
    for name in resources.split(","):
        plain = name.strip().removeprefix("limits.").removeprefix("requests.")
        if plain:
            options[plain] = examples.get(plain, f"a limit range with a default for {plain}")
    return options


def _more_than_all(requested: str, limited: str) -> bool:
    """Whether more is asked for than the quota has when nothing else runs."""
    from kaptain_magics.core.resources import quantity
    from kaptain_magics.errors import ConfigError

    limits = dict(part.split("=", 1) for part in limited.split(",") if "=" in part)
    for part in requested.split(","):
        name, _, text = part.partition("=")
        try:
            if name in limits and quantity(text, name) > quantity(limits[name], name):
                return True
        except ConfigError:
            continue
    return False


def event_problem(event: Manifest) -> Problem | None:
    """Explain an event of a job, replica set or pod; ``None`` for those that need no attention."""
    reason, message = str(event.get("reason", "")), " ".join(str(event.get("message", "")).split())
    if event.get("type") != "Warning":
        return None
    if reason in ("FailedCreate", "FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume"):
        problem = _admission(message)
        if problem is not None:
            return problem
        if reason == "FailedCreate":
            sentence, hint = refusal(403, message.removeprefix("Error creating: "))
            return Problem(f"the pod cannot be created: {sentence}", hint)
        return Problem(f"the pod cannot start ({reason}): {message[:300]}")
    if reason == "FailedScheduling":
        return _unschedulable(message)
    if reason in ("Evicted", "NodeNotReady", "ExceededGracePeriod", "Preempted"):
        return Problem(f"the pod was taken off its node ({reason}): {message[:300]}")
    return None


def _unschedulable(message: str) -> Problem:
    hint = _SMALLER
    if "taint" in message or "affinity" in message or "selector" in message:
        hint = "no node takes such pods: ask the cluster's administrator"
    elif "nvidia.com/gpu" in message:
        hint = "no node has that many free GPUs: ask for fewer with --gpus"
    elif "persistentvolumeclaim" in message or "volume" in message:
        hint = "the pod's volume is not there yet: kubectl get pvc"
    return Problem(f"no node has room for the pod: {message[:300]}", hint)


def pod_problem(pod: Manifest) -> Problem | None:
    """Explain why a pod does not run; ``None`` for one that runs, or needs nothing but time."""
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return Problem(
            f"the pod was evicted from its node: {status.get('message', '').strip()}",
            "name what it needs with --memory, so that the scheduler keeps room for it",
            lasting=True,
        )
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return _unschedulable(str(condition.get("message", "")))
    for container in _statuses(status):
        waiting = (container.get("state") or {}).get("waiting")
        problem = _waiting(container, waiting) if waiting else None
        if problem is not None:
            return problem
    return None


def _statuses(status: Manifest) -> Iterator[Manifest]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _waiting(container: Manifest, waiting: Manifest) -> Problem | None:
    reason, message = str(waiting.get("reason", "")), " ".join(str(waiting.get("message", "")).split())
    image = container.get("image", "")
    if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"):
        return image_problem(image, f"{reason} {message}")
    if reason == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        why = _memory(last, container["name"]) or f"it ends with exit code {last.get('exitCode', '?')}"
        return Problem(f"container {container['name']} crashes again and again: {why}", "see its log")
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"):
        hint = ""
        if "non-root" in message or "runAsNonRoot" in message:
            hint = "use an image that runs without root"
        return Problem(f"container {container['name']} cannot start: {message[:300]}", hint)
    return None


def image_problem(image: str, message: str) -> Problem:
    """Explain why an image cannot be pulled; back-off repeats the cause only in the pod's events."""
    if _NO_CONNECTION.search(message) and not _NO_IMAGE.search(message):
        return Problem(f"image {image} cannot be pulled: its registry does not answer", "check the registry's address")
    if _NO_ACCESS.search(message):
        return Problem(
            f"image {image} cannot be pulled: access denied, or there is no such image",
            "check its name, and log in to its registry: docker login",
            lasting=True,
        )
    if "InvalidImageName" in message:
        return Problem(f"{image!r} is not a valid image name", "write repository:tag", lasting=True)
    if _NO_IMAGE.search(message):
        return Problem(
            f"image {image} cannot be pulled: there is no such image", "check its name and tag", lasting=True
        )
    return Problem(f"image {image} cannot be pulled", "check its name, and log in to its registry: docker login")


def terminated(pod: Manifest, container: str) -> Manifest | None:
    """Return the terminated state of a container (init containers too), if it has one."""
    for status in _statuses(pod.get("status", {})):
        if status.get("name") == container:
            state: Manifest | None = (status.get("state") or {}).get("terminated")
            return state
    return None


def last_end(pod: Manifest, container: str) -> Manifest | None:
    """Return how a container that runs again has ended before."""
    for status in _statuses(pod.get("status", {})):
        if status.get("name") == container:
            state: Manifest | None = (status.get("lastState") or {}).get("terminated")
            return state
    return None


def started(pod: Manifest, container: str) -> bool:
    """Whether a container runs or has run, so that it has a log."""
    for status in _statuses(pod.get("status", {})):
        if status.get("name") == container:
            state = status.get("state") or {}
            return "running" in state or "terminated" in state
    return False


def out_of_memory(pod: Manifest, container: str) -> str:
    """Return the sentence for a container that was killed because it ran out of memory; empty where it was not."""
    state = terminated(pod, container)
    return memory_sentence(state, pod, container) if state else ""


def memory_sentence(state: Manifest, pod: Manifest, container: str) -> str:
    """Return the sentence for a terminated state that means out of memory; empty for others."""
    return _memory(state, container, _memory_limit(pod, container))


def _memory(state: Manifest, container: str, limit: str = "") -> str:
    if state.get("reason") != "OOMKilled":
        return ""
    return f"container {container} ran out of memory" + (f" (limit {limit})" if limit else "")


def _memory_limit(pod: Manifest, container: str) -> str:
    for spec in pod.get("spec", {}).get("containers", ()):
        if spec.get("name") == container:
            return str((spec.get("resources") or {}).get("limits", {}).get("memory", ""))
    return ""


def condition(resource: Manifest, kind: str) -> Manifest | None:
    """Return the condition of a kind that is true now, if there is one."""
    for one in resource.get("status", {}).get("conditions") or ():
        if one.get("type") == kind and one.get("status") == "True":
            true_one: Manifest = one
            return true_one
    return None
