"""Everything of ours on the cluster: listed, removed, and what a killed run has left found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import KaptainError, NotFoundError
from kaptain_magics.files import Lock
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import KINDS, Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.endpoints.endpoint_parts import DEPLOYED
from kaptain_magics.targets.kubernetes.jobs.job_kinds import JOB_KINDS
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.pods.package_bundles import folder_below

WORKLOADS = (*JOB_KINDS, "Experiment", "InferenceService", "Deployment")
PARTS = ("HorizontalPodAutoscaler", "Service", "ServiceAccount", "Secret", "ConfigMap")
PODS = ("Pod",)
ALL = (*WORKLOADS, *PARTS, *PODS)


class Item(NamedTuple):
    """One object of ours.

    Attributes:
        kind: Its kind.
        resource: The object.
    """

    kind: str
    resource: Manifest

    @property
    def name(self) -> str:
        """Its name in its namespace."""
        return str(self.resource["metadata"]["name"])

    def label(self, name: str) -> str:
        """Return a label, empty when it has none."""
        return str((self.resource["metadata"].get("labels") or {}).get(name, ""))

    @property
    def noted(self) -> dict[str, str]:
        """Its annotations; empty where it has none."""
        return dict(self.resource["metadata"].get("annotations") or {})

    @property
    def state(self) -> str:
        """What it is at, in a word; empty for things that only are."""
        return _state(self.kind, self.resource)

    def line(self) -> str:
        """Return its line in a list: kind and name, state, model, age."""
        created = datetime.fromisoformat(self.resource["metadata"]["creationTimestamp"]).timestamp()
        model = self.noted.get(labels.MODEL_ID) or self.label(labels.MODEL)
        parts = [f"{self.kind.lower()}/{self.name}", self.state, f"model {model}" if model else "", _age(created)]
        return "  ".join(part for part in parts if part)


class Inventory:
    """Lists and removes the objects that Kaptain made on a cluster.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session

    def items(self, *kinds: str, ours_only: bool = False) -> Iterator[Item]:
        """Yield what Kaptain made, of these kinds or of all; with ``ours_only`` what this state folder made."""
        chosen = labels.EVERYTHING + (f",{labels.OWNER}={self._session.owner}" if ours_only else "")
        for kind in kinds or ALL:
            if kind in KINDS and self._session.discovery.has(kind):
                try:
                    resources = self._session.cluster.list(kind, chosen)
                except ApiError as error:
                    if error.code != 403:
                        raise
                    continue  # what may not be listed was not made by this user either
                yield from (Item(kind, resource) for resource in resources)

    def list_resources(self, *kinds: str) -> list[str]:
        """Return a line for every object that was made by Kaptain, of these kinds or of all."""
        return [item.line() for item in self.items(*kinds)]

    def delete_resource(self, kind: str, name: str) -> list[str]:
        """Remove one object of ours; returns a line for what was removed.

        Raises:
            NotFoundError: There is none.
        """
        kinds = {k.lower(): k for k in ALL}
        proper = kinds.get(kind.lower())
        if proper is None:
            raise NotFoundError(f"unknown kind {kind!r}", did_you_mean(kind, kinds.values()) or ", ".join(ALL))
        names = []
        for item in self.items(proper):
            names.append(item.name)
            if item.name == name:
                return [self._remove(item)]
        hint = did_you_mean(name, names) or "kaptain.utils.list_all_resources() lists them"
        raise NotFoundError(
            f"there is no {proper} {name!r} created by Kaptain in namespace {self._session.cluster.namespace}", hint
        )

    def delete_all(self, kinds: Sequence[str], force: bool = False) -> list[str]:
        """Remove the ended (for endpoints: the not ready) objects of these kinds, with ``force`` all."""
        return [
            self._remove(item) for item in self.items(*kinds) if force or item.state in ("ended", "failed", "not ready")
        ]

    def clean(self, force: bool = False) -> list[str]:
        """Find what runs of this state folder left behind and, with ``force``, remove it; returns a line for each."""
        lines = []
        for item in self._leftovers():
            try:
                lines.append(self._remove(item) if force else item.line())
            except KaptainError as error:  # the others go on
                lines.append(f"{item.line()}: cannot be removed now: {error.message}")
        return lines + self._unused_packages(force)

    def _unused_packages(self, force: bool) -> list[str]:
        models = self._session.config.settings.get("storage_uri", "")
        if not models.startswith("s3://"):
            return []
        folder, pruner = folder_below(models), self._session.pruner
        try:
            return [each.line for each in pruner.unused(folder) if not force or pruner.remove(folder, each)]
        except KaptainError as error:
            return [f"packages in {folder} cannot be looked at now: {error.message}"]

    def _leftovers(self) -> list[Item]:
        items = list(self.items(*WORKLOADS, *PARTS, ours_only=True))
        endpoints = {i.label(labels.ENDPOINT) for i in items if DEPLOYED in i.noted} - {""}
        alive: dict[str, bool] = {}
        leftovers = []
        for item in items:
            run = item.label(labels.RUN)
            if run not in alive:
                alive[run] = bool(run) and self._alive(run)
            if alive[run] or (item.label(labels.ENDPOINT) in endpoints and self._belongs(item, items)):
                continue
            leftovers.append(item)
        return leftovers

    def _belongs(self, item: Item, items: list[Item]) -> bool:
        """Whether something with an endpoint's label is part of what is deployed now."""
        if item.kind in ("Service", "ServiceAccount") or DEPLOYED in item.noted:
            return True
        run, name = item.label(labels.RUN), item.label(labels.ENDPOINT)
        runs = {i.label(labels.RUN) for i in items if DEPLOYED in i.noted and i.label(labels.ENDPOINT) == name}
        by_kserve = any(i.kind == "InferenceService" and i.label(labels.ENDPOINT) == name for i in items)
        shared = item.kind == "Secret" and labels.part_of(item.resource) is not labels.Part.PAYLOAD
        return run in runs or shared or by_kserve

    def _alive(self, run: str) -> bool:
        """Whether a process of this machine still looks after a run."""
        return Lock(self._session.config.home / "runs" / run / "lock").held_by_other()

    def _remove(self, item: Item) -> str:
        self._session.cluster.delete(item.kind, item.name)
        return item.line()


def _state(kind: str, resource: Manifest) -> str:
    status = resource.get("status") or {}
    if kind == "Pod":
        return str(status.get("phase", "")).lower()
    if kind == "Deployment":
        return "ready" if status.get("availableReplicas") else "not ready"
    if kind == "InferenceService":
        return "ready" if explain.condition(resource, "Ready") else "not ready"
    if kind in (*JOB_KINDS, "Experiment"):
        if explain.condition(resource, "Failed"):
            return "failed"
        return (
            "ended"
            if explain.condition(resource, "Complete") or explain.condition(resource, "Succeeded")
            else "running"
        )
    return ""


def _age(created: float) -> str:
    seconds = max(0, int(time.time() - created))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} old"
    return f"{seconds} s old"
