"""Endpoints on a cluster without KServe: a Deployment for every revision, one Service in front of them.

A revision that replaces another comes up beside it and takes over when it is ready; one that fails is removed, and the
one before has never been touched. Two revisions that stay side by side are a canary: each gets the share of requests
that its replicas have of all.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from http.client import HTTPException

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError
from kaptain_magics.targets.base import EndpointStatus
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.explain import Problem
from kaptain_magics.targets.kubernetes.api.feed import TICK, Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.pod_stream import PodConnection
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.endpoints import portforward, traffic
from kaptain_magics.targets.kubernetes.endpoints.endpoint_parts import (
    EndpointParts,
    address,
    deployed_already,
    no_canary_yet,
)
from kaptain_magics.targets.kubernetes.endpoints.rollout import Rollout, settled
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests import server_manifests as serving
from kaptain_magics.targets.kubernetes.manifests.labels import Part, part_of
from kaptain_magics.targets.kubernetes.manifests.server_manifests import CANARY, PORT, STABLE

_LEAVING = 20.0  # seconds until the cluster has taken pods of a removed revision out of its services
_COUNTER = "kaptain_requests_total"


class PlainServing:
    """Serves models with Deployments.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session
        self._parts = EndpointParts(session)

    # ---- deploying -----------------------------------------------------------------------------------------------

    def objects(self, endpoint: EndpointSpec) -> list[Manifest]:
        """Return everything that an endpoint is made of."""
        common = self._parts.common(endpoint)
        setup = self._parts.setup(endpoint)
        server = self._parts.server_payload(endpoint, setup, serving.FOLDER)
        role = STABLE if endpoint.canary_percent is None else CANARY
        deployment = serving.deployment(endpoint, setup, f"{endpoint.name}-{_suffix(endpoint)}", role)
        manifests = [*common, server, serving.service(endpoint, setup), deployment]
        scaler = serving.autoscaler(deployment, self._session.discovery.autoscaling) if role == STABLE else None
        return manifests + ([scaler] if scaler else [])

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Bring a revision up, then take the one before away (or keep it beside a canary)."""
        # Who removes what after which failure (an interrupt is one too):
        #   preparing   nothing is on the cluster yet
        #   creating    ``EndpointParts.create`` removes what is new of this deployment; what it patched stays (secrets
        #               and account, which all revisions share): the revision before works with it too
        #   waiting     the new revision goes, and what is shared if there was none before; that one still has
        #               all the requests, as the service sends none to pods that are not ready
        #   sharing     ``_share`` sets the replicas back; then as for waiting
        #   retiring    the new revision stays and is marked as deployed, the old ones no longer are
        # ``clean`` removes what is not marked as deployed once its run is not alive any more: that is what a killed
        # process leaves in any of these states.
        before = self._deployments(endpoint.name)
        stable = [d for d in before if _role(d) == STABLE]
        if stable and not endpoint.replace and endpoint.canary_percent is None:
            raise deployed_already(endpoint.name)
        if endpoint.canary_percent is not None and not stable:
            raise no_canary_yet(endpoint.name)
        yield from self._parts.prepare(endpoint)
        objects = self.objects(endpoint)
        old = stable if endpoint.canary_percent is None else []
        old += [d for d in before if _role(d) == CANARY]
        if endpoint.transformer:
            yield Noted(
                text="transformers need KServe, which does not serve this endpoint: the transformer is ignored",
                warning=True,
            )
        yield from self._parts.create(objects)
        try:
            end = yield from self._wait(endpoint)
            if end is None and endpoint.canary_percent is not None:
                replaced = {_name(deployment) for deployment in old}
                beside = [d for d in self._deployments(endpoint.name) if _name(d) not in replaced]
                self._share(beside, endpoint.canary_percent)
        except BaseException:
            self._remove_revision(endpoint.name, labels.value(endpoint.run_id), last=not before)
            raise
        if end is not None:
            self._remove_revision(endpoint.name, labels.value(endpoint.run_id), last=not before)
            yield end
            return
        self._parts.mark_deployed("Deployment", f"{endpoint.name}-{_suffix(endpoint)}")
        for deployment in old:
            self._parts.mark_deployed("Deployment", _name(deployment), deployed=False)
        self._retire(endpoint.name, old)
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

    def _wait(self, endpoint: EndpointSpec) -> Generator[Event, None, StateChanged | None]:
        """Watch the new revision until it is ready; returns the last state when it cannot be."""
        watcher = Rollout(self._session.cluster, endpoint)
        with Feed(self._session.cluster) as feed:
            run = labels.selector({labels.ENDPOINT: endpoint.name, labels.RUN: labels.value(endpoint.run_id)})
            feed.watch("deployments", "Deployment", labels=run)
            feed.watch("pods", "Pod", labels=run)
            return (yield from watcher.watch(feed))

    # ---- looking -------------------------------------------------------------------------------------------------

    def endpoint(self, name: str) -> EndpointStatus:
        """Return an endpoint as it is now."""
        deployments = self._deployments(name)
        if not deployments:
            raise NotFoundError(
                f"there is no endpoint {name!r} on the cluster", f"deploy it first: %kaptain_deploy {name}"
            )
        return self._status(name, deployments)

    def endpoints(self) -> list[EndpointStatus]:
        """Return the endpoints of all owners that have a Deployment of ours."""
        by_name: dict[str, list[Manifest]] = {}
        for deployment in self._session.cluster.list("Deployment", labels.EVERYTHING):
            name = deployment["metadata"]["labels"].get(labels.ENDPOINT)
            if name:
                by_name.setdefault(name, []).append(deployment)
        return [self._status(name, deployments) for name, deployments in sorted(by_name.items())]

    def _status(self, name: str, deployments: list[Manifest]) -> EndpointStatus:
        main = next((d for d in deployments if _role(d) == STABLE), deployments[0])["metadata"]
        stable_first = sorted(deployments, key=lambda d: _role(d) == CANARY)
        ready = {d["metadata"]["labels"][labels.REVISION]: _ready(d) for d in stable_first}
        running = sum(ready.values())
        protocol = main["annotations"].get(serving.PROTOCOL, "v2")
        cluster_url = address(f"http://{name}.{self._session.cluster.namespace}.svc.cluster.local", name, protocol)
        problem = None if running else self._problem(name)
        return EndpointStatus(
            name=name,
            state=EndpointState.READY if running else EndpointState.FAILED if problem else EndpointState.PENDING,
            url=self._url(name, protocol) if running else "",
            cluster_url=cluster_url,
            open_with=self._session.port_forward(name),
            model_id=main["annotations"].get(labels.MODEL_ID, ""),
            framework=main["annotations"].get(serving.FRAMEWORK, ""),
            protocol=protocol,
            traffic=traffic.shares(ready),
            requests=self._requests(name) if running else {},
            replicas=running,
            reason=problem.sentence if problem else "",
        )

    def _url(self, name: str, protocol: str) -> str:
        cluster = self._session.cluster
        if cluster.inside:
            return address(f"http://{name}.{cluster.namespace}.svc.cluster.local", name, protocol)

        def pods() -> list[str]:
            return sorted(_name(pod) for pod in self._ready_pods(name))

        watched = {"Pod": {"labels": labels.selector({labels.ENDPOINT: name})}}
        listener = portforward.forward(cluster, name, pods, portforward.take_turns(), PORT, watched)
        return address(listener.address, name, protocol)

    def _ready_pods(self, name: str) -> list[Manifest]:
        pods = self._session.cluster.list("Pod", labels.selector({labels.ENDPOINT: name}), "status.phase=Running")
        return [p for p in pods if "deletionTimestamp" not in p["metadata"] and explain.condition(p, "Ready")]

    def _requests(self, name: str) -> dict[str, int]:
        """Return what the running replicas have answered so far, by revision."""
        counts: dict[str, int] = {}
        for pod in self._ready_pods(name):
            revision = pod["metadata"]["labels"][labels.REVISION]
            with (
                suppress(HTTPException, OSError),
                closing(PodConnection(self._session.cluster, _name(pod), PORT, 5.0)) as to,
            ):
                to.request("GET", "/metrics")
                counts[revision] = counts.get(revision, 0) + _counted(
                    to.getresponse().read().decode("utf-8", "replace")
                )
        return counts

    def _problem(self, name: str) -> Problem | None:
        for pod in self._session.cluster.list("Pod", labels.selector({labels.ENDPOINT: name})):
            problem = explain.pod_problem(pod)
            if problem is not None:
                return problem
        return None

    def _deployments(self, name: str) -> list[Manifest]:
        return self._session.cluster.list("Deployment", labels.selector({labels.ENDPOINT: name}))

    # ---- changing ------------------------------------------------------------------------------------------------

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary a share; 100 makes it the stable revision, 0 removes it."""
        deployments = self._deployments(name)
        if not deployments:
            raise NotFoundError(f"there is no endpoint {name!r} on the cluster", "%kaptain endpoints lists them")
        if not any(_role(deployment) == CANARY for deployment in deployments):
            raise ServingError(f"endpoint {name} has no canary", "deploy one: %kaptain_deploy --canary 30")
        if 0 < canary_percent < 100:
            self._share(deployments, canary_percent)
            return
        winner, loser = (CANARY, STABLE) if canary_percent else (STABLE, CANARY)
        for deployment in deployments:
            if _role(deployment) == winner:
                self._make_stable(deployment)
        self._retire(name, [deployment for deployment in deployments if _role(deployment) == loser])

    def _make_stable(self, deployment: Manifest) -> None:
        at_least = deployment["metadata"]["annotations"][serving.REPLICAS].partition("-")[0]
        self._scale(deployment, max(1, int(at_least)), _progress_deadline(deployment))
        self._session.cluster.patch("Deployment", _name(deployment), {"metadata": {"labels": {labels.ROLE: STABLE}}})
        self._scale_by_load(deployment)

    def _share(self, deployments: list[Manifest], percent: int) -> None:
        """Set the replicas so that the canary gets about that share; where that fails, all stays as it was.

        Args:
            deployments: The stable revision and the canary.
            percent: The canary's share.

        Raises:
            ServingError: The replicas did not become ready.
        """
        both = [_one(deployments, role) for role in (STABLE, CANARY)]
        at_least, _, most = both[0]["metadata"]["annotations"][serving.REPLICAS].partition("-")
        replicas = traffic.split(percent, int(at_least), max(int(most), traffic.MOST))
        timeout = _progress_deadline(both[1])
        scaled_by_load: list[Manifest] = []
        try:
            for deployment, count in zip(both, replicas, strict=True):
                # an autoscaler would move the share
                if self._session.cluster.delete("HorizontalPodAutoscaler", _name(deployment)):
                    scaled_by_load.append(deployment)
                self._scale(deployment, count, timeout)
        except BaseException:
            for deployment in both:
                with suppress(KaptainError):
                    now = {"spec": {"replicas": deployment["spec"]["replicas"]}}
                    self._session.cluster.patch("Deployment", _name(deployment), now)
            for deployment in scaled_by_load:
                self._scale_by_load(deployment)
            raise

    def _scale_by_load(self, deployment: Manifest) -> None:
        """Give a Deployment its autoscaler, where it is to have one."""
        scaler = serving.autoscaler(deployment, self._session.discovery.autoscaling)
        if scaler is not None:
            self._session.cluster.put(scaler)

    def _scale(self, deployment: Manifest, replicas: int, timeout: float) -> None:
        """Set a Deployment's replicas and wait until they are ready, for so many seconds at most."""
        cluster, name = self._session.cluster, _name(deployment)
        cluster.patch("Deployment", name, {"spec": {"replicas": replicas}})
        until = time.monotonic() + timeout
        with Feed(cluster) as feed:
            feed.watch("deployment", "Deployment", fields=f"metadata.name={name}")
            while time.monotonic() < until:
                item = feed.next(TICK)
                if isinstance(item, Change) and (item.gone or settled(item.resource, replicas)):
                    return
        raise ServingError(f"{replicas} replicas of {name} did not become ready", "%kaptain doctor")

    def undeploy(self, name: str) -> None:
        """Remove the endpoint; its servers answer the requests that they have."""
        deployments = self._deployments(name)
        deployed = bool(deployments) or self._session.cluster.get("Service", name) is not None
        for deployment in deployments:
            self._remove_revision(name, deployment["metadata"]["labels"][labels.RUN])
        for scaler in self._session.cluster.list("HorizontalPodAutoscaler", labels.selector({labels.ENDPOINT: name})):
            self._session.cluster.delete("HorizontalPodAutoscaler", _name(scaler))
        self._parts.remove_common(name)
        portforward.forget(self._session.cluster, name)
        if not deployed:  # what another's deletion has left is removed all the same
            raise NotFoundError(f"there is no endpoint {name!r} on the cluster", "%kaptain endpoints lists them")

    def _retire(self, name: str, deployments: list[Manifest]) -> None:
        """Remove revisions and wait until their pods get no requests any more."""
        runs = [str(deployment["metadata"]["labels"][labels.RUN]) for deployment in deployments]
        for run in runs:
            self._remove_revision(name, run)
        until = time.monotonic() + _LEAVING
        while runs and time.monotonic() < until:
            serving_now = {pod["metadata"]["labels"].get(labels.RUN) for pod in self._ready_pods(name)}
            runs = [run for run in runs if run in serving_now]
            if runs:
                time.sleep(0.1)
        portforward.refresh(self._session.cluster, name)

    def _remove_revision(self, name: str, run: str, last: bool = False) -> None:
        """Remove what one deployment of the endpoint made; with ``last`` what all of them share too."""
        chosen = labels.selector({labels.ENDPOINT: name, labels.RUN: run})
        cluster = self._session.cluster
        for kind in ("HorizontalPodAutoscaler", "Deployment"):
            for resource in cluster.list(kind, chosen):
                cluster.delete(kind, _name(resource))
        for resource in cluster.list("Secret", chosen):
            if part_of(resource) is Part.PAYLOAD:
                cluster.delete("Secret", _name(resource))
        if last:
            self._parts.remove_common(name)


def _ready(deployment: Manifest) -> int:
    return int(deployment.get("status", {}).get("readyReplicas") or 0)


def _progress_deadline(deployment: Manifest) -> float:
    """Return the seconds that the replicas of a revision may take to become ready."""
    return float(deployment["spec"].get("progressDeadlineSeconds", 300))


def _role(deployment: Manifest) -> str:
    return str(deployment["metadata"]["labels"].get(labels.ROLE, STABLE))


def _one(deployments: list[Manifest], role: str) -> Manifest:
    for deployment in deployments:
        if _role(deployment) == role:
            return deployment
    raise ServingError(f"the endpoint has no {role} revision", "deploy it again with --replace")


def _name(resource: Manifest) -> str:
    return str(resource["metadata"]["name"])


def _suffix(endpoint: EndpointSpec) -> str:
    return labels.short(endpoint.run_id)


def _counted(metrics: str) -> int:
    return sum(int(float(line.rpartition(" ")[2])) for line in metrics.splitlines() if line.startswith(_COUNTER + "{"))
