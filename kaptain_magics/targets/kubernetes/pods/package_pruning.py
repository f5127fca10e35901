"""Bundles of packages in the object store that nothing uses any more.

A bundle is shared by everybody who uses the store, from any cluster and namespace, and a pod that starts late (a
replica, a trial) needs it still. So one goes only when it is old (each use makes it young again), no payload in this
namespace names it, and no endpoint anywhere: an endpoint leaves a record in the store, beside the bundles. Such a
record goes when its payload is gone, which only the state folder that made it can say.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.pods.package_bundles import LISTED, Bundles

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore

UNUSED = 30 * 86400.0  # seconds since its last use after which a bundle may go
_RECORDS = "used-by"
_SETTLED = 86400.0  # seconds after which the payload of a record must be there: it is created after the record


class UseRecord(msgspec.Struct, frozen=True):
    """That an endpoint uses bundles.

    Attributes:
        owner: The owner's label value.
        cluster_digest: The cluster and the namespace, as a digest.
        payload: The secret by which the endpoint's pods know of the bundles.
        bundles: Their URIs.
    """

    owner: str
    cluster_digest: str = msgspec.field(name="place")  # its name in the store
    payload: str
    bundles: tuple[str, ...]


class UnusedObject(NamedTuple):
    """An object of the store that nothing uses.

    Attributes:
        uri: Where it is.
        line: What it is, for the reader.
    """

    uri: str
    line: str


class PackagePruner:
    """Records which endpoints use bundles, and finds what nothing uses.

    Args:
        cluster: The cluster.
        owner: The owner's label value.
        store: Opens the object store of a URI.
    """

    def __init__(self, cluster: Cluster, owner: str, store: Callable[[str], ObjectStore]) -> None:
        self._cluster, self._owner, self._store = cluster, owner, store
        self._cluster_digest = hashlib.sha256(f"{cluster.host} {cluster.namespace}".encode()).hexdigest()[:16]

    def record(self, folder: str, payload: str, bundles: Bundles) -> None:
        """Note that the endpoint with this payload uses bundles.

        Args:
            folder: The folder of the object store with the bundles.
            payload: Name of the secret.
            bundles: The bundles.
        """
        uris = _uris(bundles)
        if uris:
            used = UseRecord(self._owner, self._cluster_digest, payload, tuple(sorted(uris)))
            uri = f"{folder}/{_RECORDS}/{self._owner}-{self._cluster_digest}-{payload}.json"
            self._store(uri).write(uri, msgspec.json.encode(used))

    def unused(self, folder: str) -> Iterator[UnusedObject]:
        """Yield the bundles and records of a folder that nothing uses."""
        store = self._store(folder)
        now, entries = time.time(), store.list(folder)
        bundles = [f"{folder}/{e.path}" for e in entries if "/" not in e.path and now - e.modified > UNUSED]
        records = {f"{folder}/{e.path}": now - e.modified for e in entries if e.path.startswith(f"{_RECORDS}/")}
        if not bundles and not records:
            return
        payloads = self._payloads()
        used = {uri for payload in payloads.values() for uri in _listed_in(payload)}
        for uri, age in records.items():
            record = msgspec.json.decode(store.read(uri), type=UseRecord)
            ours = (record.owner, record.cluster_digest) == (self._owner, self._cluster_digest)
            if ours and record.payload not in payloads and age > _SETTLED:
                yield UnusedObject(uri, f"the record that {record.payload}, which is gone, uses packages")
            else:
                used.update(record.bundles)
        for uri in bundles:
            if uri not in used:
                yield UnusedObject(uri, f"packages {uri}, which nothing has used for {UNUSED / 86400:g} days")

    def remove(self, folder: str, unused: UnusedObject) -> bool:
        """Remove an object of the folder, unless it has come into use since; returns whether it was removed."""
        store = self._store(folder)
        if unused.uri not in {again.uri for again in self.unused(folder)}:
            return False
        store.delete(unused.uri)
        return True

    def _payloads(self) -> dict[str, Manifest]:
        """Return the secrets of this namespace that may name bundles, of any owner."""
        secrets = self._cluster.list("Secret", labels.EVERYTHING)
        return {s["metadata"]["name"]: s for s in secrets if labels.part_of(s) is labels.Part.PAYLOAD}


def _listed_in(payload: Manifest) -> set[str]:
    listed = (payload.get("data") or {}).get(LISTED)
    return _uris(json.loads(base64.b64decode(listed))["bundles"]) if listed else set()


def _uris(bundles: Bundles) -> set[str]:
    return {uri for by_python in bundles.values() for uri, _ in by_python.values()}
