"""Jobs on a real cluster, and what their events say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaptain_magics.core.events import Event, LogWritten, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.parts.cluster.rig import eventually, ours

SLOW = "import time\nfor i in range({}):\n    print('line', i, flush=True)\n    time.sleep(0.05)\n"


def job(source: str, **changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": new_job_name("Fault", "job"),
        "run_id": new_run_id(),
        "model_id": "dev/fault",
        "script": Script(name="training.py", source=source),
        "framework": ModelFramework.SKLEARN,
    }
    return JobSpec(**{**given, **changes})


def run(target: KubernetesTarget, spec: JobSpec) -> list[Event]:
    return list(target.follow(target.submit(spec)))


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged)
    return events[-1]


def log(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, LogWritten))


def warnings(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted) and event.warning]


def disturbed(target: KubernetesTarget, ref: JobRef, lines: int, disturb: Callable[[], Any]) -> list[Event]:
    """Follow a job to its end, and do something to it once its log has more than so many lines."""
    events: list[Event] = []
    done = False
    for event in target.follow(ref):
        events.append(event)
        if not done and log(events).count("\n") > lines:
            disturb()
            done = True
    assert done
    return events


def gone(cluster: Cluster) -> None:
    eventually(lambda: [name for name in ours(cluster) if not name.startswith(("Pod/", "Job/"))] == [])
