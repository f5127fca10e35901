"""A watch of one kind of object: its newest states, over dropped connections and ``410 Gone``."""

from __future__ import annotations

import json
from http.client import HTTPException

from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster, api_error
from kaptain_magics.targets.kubernetes.api.feed_items import Change, Sink
from kaptain_magics.targets.kubernetes.api.kinds import Manifest

_WATCH_SECONDS = 240  # after which the server ends a watch and it is asked for again


class Watch:
    """Lists the objects that selectors choose, and then follows their changes.

    Args:
        cluster: The cluster.
        kind: Their kind.
        selectors: ``labelSelector`` and ``fieldSelector``.
    """

    REFUSALS = (400, 401, 403, 404, 405)  # statuses that do not pass

    def __init__(self, cluster: Cluster, kind: str, selectors: dict[str, str]) -> None:
        self._cluster, self._kind, self._selectors = cluster, kind, selectors
        self._seen: dict[str, Manifest] = {}
        self._version = ""  # behind which the watch goes on; empty where everything has to be listed again

    def attempt(self, sink: Sink) -> bool:
        """Deliver what has changed, until the connection ends; returns ``False``: a watch never ends by itself."""
        try:
            if not self._version:
                self._version = self._list(sink)
            self._follow(sink)
        except ApiError as error:
            if error.code != 410:
                raise
            self._version = ""  # the server has forgotten that version: compare all with what was seen
        return False

    def _list(self, sink: Sink) -> str:
        answer = self._cluster.request("GET", self._cluster.path(self._kind), self._selectors, retry_seconds=0.0)
        items = {item["metadata"]["uid"]: item for item in answer.get("items") or ()}
        for uid, item in items.items():
            if uid not in self._seen or _version(self._seen[uid]) != _version(item):
                sink.put(Change(sink.source, False, item))
        for uid in set(self._seen) - set(items):
            sink.put(Change(sink.source, True, self._seen[uid]))
        self._seen = items
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, sink: Sink) -> None:
        from urllib3.exceptions import HTTPError

        query = self._selectors | {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = self._cluster.open("GET", self._cluster.path(self._kind), query, timeout=_WATCH_SECONDS + 30.0)
        with sink.holding(response):
            try:
                if response.status >= 300:
                    raise api_error(response.status, response.data)
                for line in self._cluster.lines(response):
                    if line.strip():
                        self._take(sink, json.loads(line))
            except (OSError, HTTPException, HTTPError):
                if not self._version:
                    raise
                sink.wait(0.1)  # what came is delivered: the next watch goes on behind it

    def _take(self, sink: Sink, change: Manifest) -> None:
        resource = change["object"]
        if change["type"] == "ERROR":
            raise api_error(int(resource.get("code", 500)), json.dumps(resource).encode())
        self._version = _version(resource)
        if change["type"] == "BOOKMARK":
            return
        gone = change["type"] == "DELETED"
        uid = resource["metadata"]["uid"]
        if gone:
            self._seen.pop(uid, None)
        else:
            self._seen[uid] = resource
        sink.put(Change(sink.source, gone, resource))


def _version(resource: Manifest) -> str:
    return str(resource["metadata"].get("resourceVersion", ""))
