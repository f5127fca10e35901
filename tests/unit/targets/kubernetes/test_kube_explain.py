"""What a cluster says becomes one sentence with the next step."""

from __future__ import annotations

from typing import Any

import pytest

from kaptain_magics.targets.kubernetes.api import explain

QUOTA = 'pods "x" is forbidden: failed quota: kf-resource-quota: must specify cpu,memory'
EXCEEDED = (
    'pods "x" is forbidden: exceeded quota: small, requested: requests.cpu={}, used: requests.cpu=3, '
    "limited: requests.cpu=4"
)
SECURITY = (
    'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod must not set '
    "runAsUser=0)"
)


@pytest.mark.parametrize(
    ("code", "message", "sentence", "hint"),
    [
        (403, QUOTA, "cpu and memory to be named", "--cpu 0.5 --memory 1G"),
        (
            403,
            "failed quota: q: must specify limits.cpu,requests.memory,nvidia.com/gpu",
            "cpu and memory and nvidia.com/gpu",
            "--gpus 1",
        ),
        (403, EXCEEDED.format(2), "quota small exceeded: requested requests.cpu=2", "--cpu"),
        (403, SECURITY, "pod security (restricted:latest)", "without root"),
        (
            403,
            'secrets is forbidden: User "jane" cannot create resource "secrets" in API group "" in the namespace "ml"',
            "jane may not create secrets in namespace ml",
            "role",
        ),
        (403, "pods is forbidden: maximum cpu usage per Container is 1, but limit is 2", "limit range", "--cpu"),
        (404, 'namespaces "ml" not found', "there is no namespace ml", "create namespace ml"),
        (401, "Unauthorized", "credentials", "log in"),
        (422, "Job.batch is  invalid:\n spec", "the API server refused: Job.batch is invalid: spec", ""),
        (500, "", "HTTP status 500", ""),
    ],
)
def test_refusals(code: int, message: str, sentence: str, hint: str) -> None:
    said, next_step = explain.refusal(code, message)
    assert sentence in said
    assert "\n" not in said
    assert hint in next_step


@pytest.mark.parametrize(("asked", "lasting"), [("2", False), ("5", True), ("4500m", True), ("what", False)])
def test_a_quota_that_can_never_do_is_lasting(asked: str, lasting: bool) -> None:
    event = {"type": "Warning", "reason": "FailedCreate", "message": f"Error creating: {EXCEEDED.format(asked)}"}
    problem = explain.event_problem(event)
    assert problem is not None
    assert problem.lasting is lasting


@pytest.mark.parametrize(
    ("reason", "message", "sentence", "hint"),
    [
        ("FailedCreate", f"Error creating: {QUOTA}", "cpu and memory", "--cpu 0.5 --memory 1G"),
        ("FailedCreate", 'Error creating: serviceaccount "x" not found', "the pod cannot be created", ""),
        ("FailedMount", 'MountVolume.SetUp failed for volume "payload"', "FailedMount", ""),
        ("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.", "Insufficient cpu", "--cpu"),
        ("FailedScheduling", "1 Insufficient nvidia.com/gpu.", "gpu", "--gpus"),
        ("FailedScheduling", "1 node(s) had taint {a: b}", "taint", "administrator"),
        ("FailedScheduling", 'persistentvolumeclaim "x" not found', "persistentvolumeclaim", "pvc"),
        ("Evicted", "The node was low on resource: memory.", "taken off its node", ""),
    ],
)
def test_events(reason: str, message: str, sentence: str, hint: str) -> None:
    problem = explain.event_problem({"type": "Warning", "reason": reason, "message": message})
    assert problem is not None
    assert sentence in problem.sentence
    assert hint in problem.hint


def test_events_that_need_no_attention() -> None:
    assert explain.event_problem({"type": "Normal", "reason": "Scheduled", "message": "x"}) is None
    assert explain.event_problem({"type": "Warning", "reason": "Unhealthy", "message": "x"}) is None


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"name": "sklearn", "image": "r/i:1", "state": {"waiting": {"reason": reason, "message": message}}, **more}
    return {"status": {"phase": "Pending", "containerStatuses": [state]}, "spec": {"containers": []}}


@pytest.mark.parametrize(
    ("pod", "sentence", "lasting"),
    [
        (waiting("ImagePullBackOff"), "r/i:1 cannot be pulled", False),
        (waiting("ErrImagePull", "manifest unknown: manifest unknown"), "no such image", True),
        (waiting("ErrImagePull", "unauthorized: authentication required"), "access denied", True),
        (waiting("ErrImagePull", "dial tcp 127.0.0.1:5000: connect: connection refused"), "does not answer", False),
        (waiting("InvalidImageName", "couldn't parse"), "is not a valid image name", True),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), 'secret "x" not found', False),
        (waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"), "root", False),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 1}}),
            "crashes again and again: it ends with exit code 1",
            False,
        ),
        (waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "OOMKilled"}}), "ran out of memory", False),
        ({"status": {"reason": "Evicted", "message": "low on resource: memory"}}, "evicted", True),
        (
            {"status": {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}]}},
            "no node has room",
            False,
        ),
    ],
)
def test_pods(pod: dict[str, Any], sentence: str, lasting: bool) -> None:
    problem = explain.pod_problem(pod)
    assert problem is not None
    assert sentence in problem.sentence
    assert problem.lasting is lasting


def test_a_pod_that_only_starts_has_no_problem() -> None:
    assert explain.pod_problem(waiting("ContainerCreating")) is None
    assert explain.pod_problem({"status": {"phase": "Pending"}}) is None


def test_memory_names_the_limit() -> None:
    pod = {
        "spec": {"containers": [{"name": "sklearn", "resources": {"limits": {"memory": "64M"}}}]},
        "status": {"containerStatuses": [{"name": "sklearn", "state": {"terminated": {"reason": "OOMKilled"}}}]},
    }
    assert explain.out_of_memory(pod, "sklearn") == "container sklearn ran out of memory (limit 64M)"
    assert explain.out_of_memory(pod, "other") == ""
    assert explain.started(pod, "sklearn")
    assert not explain.started(pod, "other")
