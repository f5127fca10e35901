"""What the server has: it is asked, nothing is assumed from its version."""

from __future__ import annotations

import functools
from typing import Any

from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.api.kinds import KINDS, Manifest

AUTOSCALING = ("autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1")  # the best first


class Discovery:
    """The features of one cluster, asked once for each.

    Args:
        cluster: The cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @functools.cached_property
    def version(self) -> str:
        """The server's version, such as ``v1.20.2``."""
        return str(self._cluster.request("GET", "/version").get("gitVersion", "unknown"))

    @functools.cached_property
    def minor(self) -> int:
        """The number behind ``1.`` in the version; 0 when it cannot be read."""
        part = self.version.split(".")[1:2]
        return int(part[0]) if part and part[0].isdigit() else 0

    @functools.cached_property
    def _group_versions(self) -> frozenset[str]:
        groups = self._cluster.request("GET", "/apis").get("groups") or ()
        return frozenset(version["groupVersion"] for group in groups for version in group["versions"])

    @functools.cache  # noqa: B019 - lives as long as the target
    def _resources(self, group_version: str) -> frozenset[str]:
        if group_version not in self._group_versions:
            return frozenset()
        try:
            listed = self._cluster.request("GET", f"/apis/{group_version}")
        except ApiError as error:
            if error.code == 404:  # removed since the groups were asked for
                return frozenset()
            raise
        return frozenset(resource["name"] for resource in listed.get("resources") or ())

    def has(self, kind: str) -> bool:
        """Whether the server knows a kind in the version used here."""
        entry = KINDS[kind]
        return "/" not in entry.api_version or entry.plural in self._resources(entry.api_version)

    @property
    def knative(self) -> bool:
        """Whether Knative Serving is there, which KServe needs for its serverless mode."""
        return "services" in self._resources("serving.knative.dev/v1")

    @property
    def autoscaling(self) -> str:
        """The newest version of the HorizontalPodAutoscaler that the server has."""
        return next((version for version in AUTOSCALING if version in self._group_versions), AUTOSCALING[-1])

    @property
    def ignores_disruption(self) -> bool:
        """Whether a Job can leave evictions out of its failures (``podFailurePolicy``, from 1.26 on)."""
        return self.minor >= 26

    def keeps(self, manifest: Manifest, *field_path: str) -> bool:
        """Whether the server keeps a field of a manifest; older ones drop in silence what they do not know.

        Args:
            manifest: What would be created; nothing is.
            *field_path: Keys down to the field.
        """
        kept: Any = self._cluster.create(manifest, dry_run=True)
        for key in field_path:
            kept = (kept or {}).get(key) if isinstance(kept, dict) else None
        return kept is not None
