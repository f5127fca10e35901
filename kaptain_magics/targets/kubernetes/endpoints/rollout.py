"""A new revision of an endpoint comes up: watched until it is ready, or until it is known why it cannot be."""

from __future__ import annotations

import time
from collections.abc import Generator

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.api.explain import Problem
from kaptain_magics.targets.kubernetes.api.feed import TICK, Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stream import last_log
from kaptain_magics.targets.kubernetes.manifests.server_manifests import CONTAINER, FETCH


class Rollout:
    """Watches one revision.

    Args:
        cluster: The cluster.
        endpoint: The endpoint.
    """

    def __init__(self, cluster: Cluster, endpoint: EndpointSpec) -> None:
        self._cluster, self._endpoint = cluster, endpoint
        self._until = time.monotonic() + endpoint.timeout
        self._problems: dict[str, Problem] = {}
        self._reported: set[str] = set()

    def watch(self, feed: Feed) -> Generator[Event, None, StateChanged | None]:
        """Yield what happens until the revision is ready (``None``) or cannot be (its last state)."""
        watched: set[str] = set()
        yield EndpointChanged(name=self._endpoint.name, state=EndpointState.PENDING)
        while True:
            item = feed.next(TICK)
            if isinstance(item, Change) and not item.gone:
                if item.source == "deployments":
                    ready = settled(item.resource, max(1, self._endpoint.min_replicas))
                    if ready:
                        return None
                    for condition in item.resource.get("status", {}).get("conditions") or ():
                        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                            text = str(condition.get("message", ""))
                            event = {"type": "Warning", "reason": "FailedCreate", "message": text}
                            problem = explain.event_problem(event)
                            failed = yield from self._note("replicas", problem)
                            if failed is not None:
                                return failed
                elif item.source == "pods":
                    name = str(item.resource["metadata"]["name"])
                    if name not in watched:
                        watched.add(name)
                        feed.watch(f"events {name}", "Event", fields=f"involvedObject.name={name}")
                    failed = self._crashed(item.resource)
                    if failed is None:
                        failed = yield from self._note(name, explain.pod_problem(item.resource))
                    if failed is not None:
                        return failed
                elif item.source.startswith("events"):
                    failed = yield from self._note(item.source, explain.event_problem(item.resource))
                    if failed is not None:
                        return failed
            if time.monotonic() > self._until:
                return self._on_deadline()

    def _note(self, source: str, problem: Problem | None) -> Generator[Event, None, StateChanged | None]:
        if problem is None:
            return None
        if problem.lasting:
            return StateChanged(state=RunState.FAILED, reason=problem.sentence, hint=problem.hint)
        self._problems[source] = problem
        if problem.sentence not in self._reported:
            self._reported.add(problem.sentence)
            yield Noted(text=problem.sentence, warning=True, hint=problem.hint)
        return None

    def _crashed(self, pod: Manifest) -> StateChanged | None:
        """Return the end where a server or its initializer has ended by itself: it would do so again."""
        for container in (FETCH, CONTAINER):
            state = explain.terminated(pod, container) or explain.last_end(pod, container)
            if not state or not state.get("exitCode"):
                continue
            memory = explain.memory_sentence(state, pod, container)
            if memory:
                return StateChanged(state=RunState.FAILED, reason=memory, hint="give it more with --memory")
            code = int(state["exitCode"])
            log = "" if state.get("message") else last_log(self._cluster, pod, container)
            reason, hint = exit_reason(state, log, "the server")
            return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)
        return None

    def _on_deadline(self) -> StateChanged:
        why = "; ".join(dict.fromkeys(p.sentence for p in self._problems.values()))
        hint = next((p.hint for p in self._problems.values() if p.hint), "give it more time with --timeout")
        reason = f"the endpoint was not ready after {self._endpoint.timeout:g} s" + (f": {why}" if why else "")
        return StateChanged(state=RunState.FAILED, reason=reason, hint=hint)


def settled(deployment: Manifest, replicas: int) -> bool:
    """Whether a Deployment has so many replicas and all of them are ready."""
    status = deployment.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 1))
    has_spec = int(deployment["spec"].get("replicas", 1)) == replicas
    return seen and has_spec and int(status.get("availableReplicas", 0)) >= replicas
