"""Endpoints on a cluster with KServe: an InferenceService each, with canaries where Knative is there."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from typing import Any

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError
from kaptain_magics.targets.base import EndpointStatus
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.api.explain import Problem
from kaptain_magics.targets.kubernetes.api.feed import TICK, Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change, SourceFailure
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stream import last_log
from kaptain_magics.targets.kubernetes.api.pod_stream import PodConnection
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.endpoints import portforward
from kaptain_magics.targets.kubernetes.endpoints.endpoint_parts import (
    EndpointParts,
    address,
    deployed_already,
    no_canary_yet,
)
from kaptain_magics.targets.kubernetes.manifests import inferenceservice as manifests
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.inferenceservice import RAW, SERVERLESS
from kaptain_magics.targets.kubernetes.manifests.server_manifests import FRAMEWORK, PORT, PROTOCOL

BASELINE = "kaptain-magics/baseline"  # annotation while there is a canary: the predictor before it
BASELINE_REVISION = "kaptain-magics/baseline-revision"
_REVISION = "serving.knative.dev/revision"  # label of Knative's pods
_PODS = "serving.kserve.io/inferenceservice"  # label of KServe's pods
_KIND = "InferenceService"


class KServeServing:
    """Serves models with InferenceServices.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session
        self._parts = EndpointParts(session)

    @property
    def mode(self) -> str:
        """KServe's deployment mode: serverless where Knative is there (setting ``kserve_mode`` decides otherwise)."""
        setting = self._session.config.settings.get("kserve_mode", "").lower()
        if setting in ("raw", RAW.lower()):
            return RAW
        return SERVERLESS if setting == SERVERLESS.lower() or self._session.discovery.knative else RAW

    # ---- deploying -----------------------------------------------------------------------------------------------

    def objects(self, endpoint: EndpointSpec) -> list[Manifest]:
        """Return everything that an endpoint is made of."""
        env, authorities = self._session.storage
        annotations = manifests.storage_annotations(env)
        trusted: list[Manifest] = []
        if authorities:  # for KServe's own initializer
            metadata = self._parts.metadata(endpoint, f"{endpoint.name}-authorities")
            trusted = [manifests.authorities(metadata, authorities)]
            annotations[manifests.AUTHORITIES] = metadata["name"]
        common = [*trusted, *self._parts.common(endpoint, annotations)]
        mode = endpoint.serving_config.get("deployment_mode", "") or self.mode
        own = manifests.own_server(endpoint)
        setup = self._parts.setup(endpoint, needs_image=own)
        payload = [self._parts.server_payload(endpoint, setup, manifests.FOLDER)] if own else []
        if setup.variables and not own:
            payload = [self._parts.variables_payload(endpoint, setup)]
        service = manifests.inference_service(endpoint, setup, RAW if mode.lower().startswith("raw") else SERVERLESS)
        service["metadata"]["annotations"] |= {FRAMEWORK: endpoint.framework.value, PROTOCOL: endpoint.protocol}
        return [*common, *payload, service]

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Create or change the InferenceService and watch it until it is ready."""
        before = self._session.cluster.get(_KIND, endpoint.name)
        if before is not None and not endpoint.replace and endpoint.canary_percent is None:
            raise deployed_already(endpoint.name)
        if before is None and endpoint.canary_percent is not None:
            raise no_canary_yet(endpoint.name)
        if manifests.own_server(endpoint):
            yield from self._parts.prepare(endpoint)
        *parts, service = self.objects(endpoint)
        if endpoint.requirements and not manifests.own_server(endpoint):
            text = f"runtime {endpoint.serving_config['runtime']} has its own libraries: the requirements are ignored"
            hint = f"leave the runtime out, or name {manifests.OWN_RUNTIME}: Kaptain's server installs them"
            yield Noted(text=text, warning=True, hint=hint)
        try:
            yield from self._parts.create(parts)
            kept = self._session.cluster.rewrite(_KIND, endpoint.name, lambda now: _change(now, service))
            end = yield from self._wait(endpoint, kept or self._session.cluster.create(service), before)
        except BaseException:
            self._undo(endpoint, before)
            raise
        if end is not None:
            self._undo(endpoint, before)
            yield end
            return
        self._parts.mark_deployed(_KIND, endpoint.name)
        status = self.endpoint(endpoint.name)
        yield EndpointChanged(
            name=endpoint.name,
            state=EndpointState.READY,
            url="" if status.open_with else status.url,
            cluster_url=status.cluster_url,
            open_with=status.open_with,
            traffic=status.traffic,
        )
        yield StateChanged(state=RunState.SUCCEEDED)

    def _undo(self, endpoint: EndpointSpec, before: Manifest | None) -> None:
        """Take a failed deployment back: the endpoint is as it was before."""
        cluster = self._session.cluster
        with suppress(KaptainError):
            if before is None:
                cluster.delete(_KIND, endpoint.name)
                self._parts.remove_common(endpoint.name)
                return
            cluster.rewrite(_KIND, endpoint.name, lambda now: _restore(now, before))

    def _wait(
        self, endpoint: EndpointSpec, kept: Manifest, before: Manifest | None
    ) -> Generator[Event, None, StateChanged | None]:
        """Watch the InferenceService until it is ready; returns the last state when it cannot be."""
        generation = int(kept["metadata"].get("generation", 1))
        earlier = _component(before or {}).get("latestCreatedRevision", "") if before else ""
        until = time.monotonic() + endpoint.timeout
        problems: dict[str, Problem] = {}
        seen: EndpointChanged | None = None
        with Feed(self._session.cluster) as feed:
            feed.watch("service", _KIND, fields=f"metadata.name={endpoint.name}")
            feed.watch("pods", "Pod", labels=f"{_PODS}={endpoint.name}")
            feed.watch("events", "Event", fields=f"involvedObject.name={endpoint.name}")
            # pending -> ready (it answers) | failed (what is lasting) | stopped (deleted) | failed after ``timeout``
            while True:
                item = feed.next(TICK)
                problem: Problem | None = None
                if isinstance(item, SourceFailure) and not item.passing and item.source == "service":
                    raise item.error
                if isinstance(item, Change) and item.source == "service":
                    if item.gone:
                        return StateChanged(
                            state=RunState.STOPPED, reason=f"{endpoint.name} was deleted on the cluster"
                        )
                    pending = EndpointChanged(
                        name=endpoint.name, state=EndpointState.PENDING, traffic=_shares(item.resource)
                    )
                    if pending != seen:
                        seen = pending
                        yield pending
                    if _is_ready(item.resource, generation, earlier):
                        if self._answers(endpoint, until):
                            return None
                        return self._on_deadline(endpoint, problems)
                    problem = _failure(item.resource, generation)
                elif isinstance(item, Change) and item.source == "pods" and not item.gone:
                    problem = self._pod_problem(item.resource, endpoint)
                elif isinstance(item, Change) and item.source == "events":
                    problem = explain.event_problem(item.resource)
                if problem is not None and problem.lasting:
                    return StateChanged(state=RunState.FAILED, reason=problem.sentence, hint=problem.hint)
                if problem is not None and problem.sentence not in problems:
                    problems[problem.sentence] = problem
                    yield Noted(text=problem.sentence, warning=True, hint=problem.hint)
                if time.monotonic() > until:
                    return self._on_deadline(endpoint, problems)

    def _pod_problem(self, pod: Manifest, endpoint: EndpointSpec) -> Problem | None:
        if pod["metadata"].get("labels", {}).get(labels.RUN, "") not in ("", labels.value(endpoint.run_id)):
            return None  # of the revision before
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            name = container["name"]
            state = explain.terminated(pod, name) or explain.last_end(pod, name)
            if state and state.get("exitCode"):
                memory = explain.memory_sentence(state, pod, name)
                if memory:
                    return Problem(memory, "give it more with --memory", lasting=True)
                log = "" if state.get("message") else last_log(self._session.cluster, pod, name)
                return Problem(*exit_reason(state, log, f"container {name} of the server"), lasting=True)
        return explain.pod_problem(pod)

    def _answers(self, endpoint: EndpointSpec, until: float) -> bool:
        """Wait until the model itself answers ready; KServe's Ready means the server."""
        cluster = self._session.cluster
        path = f"/v1/models/{endpoint.name}" if endpoint.protocol == "v1" else f"/v2/models/{endpoint.name}/ready"
        while True:
            pods = self._ready_pods(endpoint.name)
            if not pods:  # scaled to zero, or not to be seen by this user
                return True
            with (
                suppress(HTTPException, OSError),
                closing(PodConnection(cluster, pods[0]["metadata"]["name"], PORT, 5.0)) as to,
            ):
                to.request("GET", path)
                if to.getresponse().status == 200:
                    return True
            if time.monotonic() > until:
                return False
            time.sleep(0.2)

    def _on_deadline(self, endpoint: EndpointSpec, problems: dict[str, Problem]) -> StateChanged:
        why = f": {'; '.join(problems)}" if problems else ""
        hint = next((p.hint for p in problems.values() if p.hint), f"kubectl describe inferenceservice {endpoint.name}")
        reason = f"the endpoint was not ready after {endpoint.timeout:g} s{why}"
        return StateChanged(state=RunState.FAILED, reason=reason, hint=hint)

    # ---- looking -------------------------------------------------------------------------------------------------

    def endpoint(self, name: str) -> EndpointStatus:
        """Return an endpoint as it is now."""
        service = self._session.cluster.get(_KIND, name)
        if service is None:
            raise NotFoundError(
                f"there is no endpoint {name!r} on the cluster", f"deploy it first: %kaptain_deploy {name}"
            )
        return self._status(service)

    def endpoints(self) -> list[EndpointStatus]:
        """Return the endpoints of all owners that are an InferenceService of ours."""
        return [self._status(service) for service in self._session.cluster.list(_KIND, labels.EVERYTHING)]

    def _status(self, service: Manifest) -> EndpointStatus:
        metadata = service["metadata"]
        name, noted = metadata["name"], metadata.get("annotations", {})
        protocol = noted.get(PROTOCOL, "v2")
        ready = explain.condition(service, "Ready") is not None
        problem = None if ready else _failure(service, 0)
        inside = service.get("status", {}).get("address", {}).get("url", "")
        raw = noted.get(manifests.MODE) == RAW
        base = inside.rstrip("/") or f"http://{name}.{self._session.cluster.namespace}.svc.cluster.local"
        return EndpointStatus(
            name=name,
            state=EndpointState.READY if ready else EndpointState.FAILED if problem else EndpointState.PENDING,
            url=self._url(name, base, protocol) if ready else "",
            cluster_url=address(base, name, protocol),
            open_with=self._session.port_forward(f"{name}-predictor" if raw else "", f"{_PODS}={name}"),
            model_id=noted.get(labels.MODEL_ID, ""),
            framework=noted.get(FRAMEWORK, ""),
            protocol=protocol,
            traffic=_shares(service),
            replicas=len(self._ready_pods(name)) if ready else 0,
            reason=problem.sentence if problem else "",
        )

    def _url(self, name: str, base: str, protocol: str) -> str:
        cluster = self._session.cluster
        if cluster.inside:
            return address(base, name, protocol)
        share: dict[str, float] = {}

        def pods() -> list[str]:
            share.clear()
            share.update(self._pod_shares(name))
            return list(share)

        def choose(names: list[str]) -> list[str]:
            """Draw by the shares of the traffic."""
            return sorted(names, key=lambda pod: random.random() ** (1 / max(share.get(pod, 0.0), 1e-9)), reverse=True)

        watched = {"Pod": {"labels": f"{_PODS}={name}"}, _KIND: {"fields": f"metadata.name={name}"}}
        listener = portforward.forward(cluster, name, pods, choose, PORT, watched)
        return address(listener.address, name, protocol)

    def _ready_pods(self, name: str) -> list[Manifest]:
        pods = self._session.cluster.list("Pod", f"{_PODS}={name}", "status.phase=Running")
        return [p for p in pods if "deletionTimestamp" not in p["metadata"] and explain.condition(p, "Ready")]

    def _pod_shares(self, name: str) -> dict[str, float]:
        """Return the pods that can answer, with the share of the traffic that is each one's."""
        ready = self._ready_pods(name)
        entry = [p for p in ready if p["metadata"]["labels"].get("component") == "transformer"] or ready
        service = self._session.cluster.get(_KIND, name) or {}
        traffic_of = _component(service).get("traffic") or ()
        percent = {part.get("revisionName", ""): int(part.get("percent") or 0) for part in traffic_of}
        revisions = {p["metadata"]["name"]: p["metadata"]["labels"].get(_REVISION, "") for p in entry}
        counts = Counter(revisions.values())
        shares = {pod: percent.get(revision, 100) / counts[revision] for pod, revision in revisions.items()}
        return {pod: share for pod, share in shares.items() if share}

    # ---- changing ------------------------------------------------------------------------------------------------

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary a share; 100 makes it the only revision, 0 brings the one before back."""
        if self._session.cluster.rewrite(_KIND, name, lambda service: _move_traffic(service, canary_percent)) is None:
            raise NotFoundError(f"there is no endpoint {name!r} on the cluster", "%kaptain endpoints lists them")

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and what belongs to it."""
        if not self._session.cluster.delete(_KIND, name):
            raise NotFoundError(f"there is no endpoint {name!r} on the cluster", "%kaptain endpoints lists them")
        self._parts.remove_common(name)
        portforward.forget(self._session.cluster, name)


def _change(now: Manifest, service: Manifest) -> None:
    """Give an InferenceService a new specification, with the one before a canary written down."""
    metadata = now["metadata"]
    noted, given = metadata.setdefault("annotations", {}), dict(service["metadata"]["annotations"])
    if "canaryTrafficPercent" not in service["spec"]["predictor"]:
        for name in (BASELINE, BASELINE_REVISION):
            noted.pop(name, None)
    elif BASELINE not in noted:
        given[BASELINE] = json.dumps(now["spec"]["predictor"])
        given[BASELINE_REVISION] = metadata["labels"].get(labels.REVISION, "1")
    metadata["annotations"] = noted | given
    metadata["labels"] = metadata.get("labels", {}) | service["metadata"]["labels"]
    now["spec"] = service["spec"]


def _restore(now: Manifest, before: Manifest) -> None:
    """Make an InferenceService what it was."""
    now["spec"] = before["spec"]
    for part in ("labels", "annotations"):
        now["metadata"][part] = before["metadata"].get(part, {})


def _move_traffic(service: Manifest, percent: int) -> None:
    """Give the canary a share; 100 makes it the only revision, 0 brings the one before back.

    Raises:
        ServingError: There is no canary.
    """
    predictor, noted = service["spec"]["predictor"], service["metadata"].get("annotations", {})
    if BASELINE not in noted:
        name = service["metadata"]["name"]
        raise ServingError(f"endpoint {name} has no canary", "deploy one: %kaptain_deploy --canary 30")
    if 0 < percent < 100:
        predictor["canaryTrafficPercent"] = percent
        return
    if percent:
        predictor.pop("canaryTrafficPercent", None)
    else:
        service["spec"]["predictor"] = json.loads(noted[BASELINE])
        service["metadata"]["labels"][labels.REVISION] = noted[BASELINE_REVISION]
    for annotation in (BASELINE, BASELINE_REVISION):
        noted.pop(annotation)


def _component(service: Manifest) -> dict[str, Any]:
    predictor: dict[str, Any] = service.get("status", {}).get("components", {}).get("predictor", {})
    return predictor


def _shares(service: Manifest) -> dict[str, int]:
    """Return the percentages by our revisions, the newest last."""
    metadata = service["metadata"]
    newest = metadata.get("labels", {}).get(labels.REVISION, "1")
    before = metadata.get("annotations", {}).get(BASELINE_REVISION, "")
    shares: dict[str, int] = {}
    for part in sorted(_component(service).get("traffic") or (), key=lambda part: bool(part.get("latestRevision"))):
        revision = newest if part.get("latestRevision") else before
        if revision and part.get("percent"):
            shares[revision] = shares.get(revision, 0) + int(part["percent"])
    return shares


def _is_ready(service: Manifest, generation: int, earlier: str) -> bool:
    """Whether KServe is ready with this generation of the specification, and not still with the one before."""
    status = service.get("status", {})
    if explain.condition(service, "Ready") is None:
        return False
    if "observedGeneration" in status:
        if int(status["observedGeneration"]) < generation:
            return False
    elif earlier and _component(service).get("latestCreatedRevision", "") == earlier:
        return False
    component = _component(service)
    created, ready = component.get("latestCreatedRevision"), component.get("latestReadyRevision")
    return created == ready


def _failure(service: Manifest, generation: int) -> Problem | None:
    """Return why KServe says that the service cannot be ready."""
    status = service.get("status", {})
    if int(status.get("observedGeneration", generation)) < generation:
        return None
    model = status.get("modelStatus", {})
    if model.get("transitionStatus") in ("BlockedByFailedLoad", "InvalidSpec"):
        failure = model.get("lastFailureInfo", {})
        text = " ".join(str(failure.get("message") or failure.get("reason") or "no reason given").split())
        return Problem(f"KServe cannot load the model: {text[:300]}", "see the server's log", lasting=True)
    for one in status.get("conditions") or ():
        if one.get("status") == "False" and one.get("message") and one.get("severity") != "Info":
            text = " ".join(str(one["message"]).split())
            return Problem(f"KServe: {one.get('type')} is not ready: {text[:300]}")
    return None
