"""A thin client of one namespace: plain dicts in and out, short outages of the API server ridden out.

Configuration and credentials come from the ``kubernetes`` package (kubeconfig, context, in-cluster, exec plugins). Its
typed classes are not used: they know only the newest API versions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kaptain_magics.errors import TargetError
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.kinds import KINDS, Manifest, path

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_RETRY_SECONDS = 60.0  # seconds that an API server which has answered before may be away
_FIRST_RETRY_SECONDS = 3.0  # of one that has not: its address is wrong rather than it away
_PASSING = (429, 502, 503, 504)  # statuses of an API server that may answer when it is asked again
MERGE = "application/merge-patch+json"


class ApiError(TargetError):
    """The API server refused a request.

    Attributes:
        code: The HTTP status.
        reason: Kubernetes' reason, such as ``AlreadyExists``.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(*explain.refusal(code, message))
        self.code = code
        self.reason = reason


class UnreachableError(TargetError):
    """The API server does not answer."""


class Cluster:
    """One namespace of a cluster.

    Args:
        configuration: Configuration of the ``kubernetes`` package.
        namespace: The namespace.
        inside: Whether this process itself runs in this very cluster, where services have addresses.
    """

    def __init__(self, configuration: Any, namespace: str, inside: bool = False) -> None:
        from kubernetes.client.rest import RESTClientObject

        self.configuration = configuration
        self.namespace = namespace
        self.inside = inside
        self.host = str(configuration.host).rstrip("/")
        self._pool = RESTClientObject(configuration).pool_manager
        self._met = False

    @classmethod
    def connect(cls, settings: Mapping[str, str]) -> Cluster:
        """Read the configuration; nothing is asked of the server yet.

        Args:
            settings: ``kubeconfig``, ``context`` and ``namespace``; empty or absent ones mean the usual places.

        Raises:
            TargetError: There is no usable configuration.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        kubeconfig, context = settings.get("kubeconfig") or None, settings.get("context") or None
        try:
            if not kubeconfig and not context and not _has_kubeconfig() and IN_CLUSTER.exists():
                config.load_incluster_config(client_configuration=configuration)
                return cls(configuration, settings.get("namespace") or _own_namespace(), inside=True)
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
            namespace = settings.get("namespace") or _namespace_of_context(kubeconfig, context)
            return cls(configuration, namespace)  # of any cluster, also where this process runs in a pod
        except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise TargetError(
                f"there is no usable Kubernetes configuration: {str(error).splitlines()[0]}",
                "name one with KUBECONFIG or %config KaptainMagics.kubeconfig, and its context with "
                "%config KaptainMagics.context",
            ) from error

    # ---- requests ------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url_path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        retry_seconds: float | None = None,
    ) -> Any:
        """Send a request and return the decoded answer.

        Args:
            method: HTTP method.
            url_path: URL path.
            query: URL parameters.
            body: What to send as JSON.
            content: Its media type.
            retry_seconds: Seconds to ride out an outage; the usual ones by default.

        Raises:
            ApiError: The server refused.
            UnreachableError: It does not answer.
        """
        if retry_seconds is None:
            retry_seconds = _RETRY_SECONDS if self._met else _FIRST_RETRY_SECONDS
        until = time.monotonic() + retry_seconds
        pause, again = 0.1, False
        while True:
            try:
                status, data = self._ask(method, url_path, query, body, content)
            except UnreachableError:
                if time.monotonic() > until:
                    raise
            else:
                if status < 300:
                    self._met = True
                    return json.loads(data) if data else {}
                if status == 409 and again and method == "POST" and isinstance(body, dict):
                    # created by an attempt whose answer was lost
                    return self.request("GET", f"{url_path}/{body['metadata']['name']}")
                passing = status in _PASSING or (status == 500 and b"etcd" in data)
                if not passing or time.monotonic() > until:
                    raise api_error(status, data)
            again = True
            time.sleep(pause)
            pause = min(pause * 1.6, 2.0)

    def _ask(
        self, method: str, url_path: str, query: Mapping[str, str] | None, body: Any, content: str
    ) -> tuple[int, bytes]:
        from urllib3.exceptions import HTTPError

        sent = json.dumps(body).encode() if body is not None else None
        response = self.open(method, url_path, query, sent, content)
        try:
            return response.status, response.data
        except (HTTPError, OSError) as error:
            raise UnreachableError(
                f"the Kubernetes API server at {self.host} broke off: {type(error).__name__}"
            ) from error

    def open(
        self,
        method: str,
        url_path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content: str = "application/json",
        timeout: float = 30.0,
        accept: str = "application/json",
    ) -> BaseHTTPResponse:
        """Send one request and return the answer with its body unread.

        Raises:
            UnreachableError: There was no answer.
        """
        import urllib3
        from urllib3.exceptions import HTTPError

        url = self.host + url_path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "User-Agent": "kaptain-magics", **({"Content-Type": content} if body else {})}
        headers |= self.credentials()
        limit = urllib3.Timeout(connect=5.0, read=timeout)
        try:
            answer = self._pool.request(
                method, url, body=body, headers=headers, preload_content=False, timeout=limit, retries=False
            )
        except (HTTPError, OSError) as error:
            cause = str(error).rpartition("] ")[2] or type(error).__name__
            raise UnreachableError(
                f"the Kubernetes API server at {self.host} does not answer: {cause}",
                "check that the cluster runs, the VPN, and the context: kubectl cluster-info",
            ) from error
        return answer

    def credentials(self) -> dict[str, str]:
        """Return the headers that say who asks; a token that has run out is renewed."""
        settings = self.configuration.auth_settings().values()
        return {s["key"]: s["value"] for s in settings if s["in"] == "header" and s["value"]}

    # ---- objects -------------------------------------------------------------------------------------------------

    def path(self, kind: str, name: str = "", api_version: str = "") -> str:
        """Return the URL path of a collection or object of this namespace."""
        return path(kind, self.namespace, name, api_version)

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return an object, or ``None`` when it is not there."""
        try:
            resource: Manifest = self.request("GET", self.path(kind, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return resource

    def list(self, kind: str, labels: str = "", fields: str = "") -> list[Manifest]:
        """Return the objects of a kind that the selectors choose; none where the kind itself is not there."""
        query = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        try:
            items = self.request("GET", self.path(kind), query).get("items") or []
        except ApiError as error:
            if error.code == 404:
                return []
            raise
        return [{"apiVersion": KINDS[kind].api_version, "kind": kind, **item} for item in items]

    def create(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Create an object and return it as the server keeps it."""
        url_path = self.path(manifest["kind"], api_version=manifest["apiVersion"])
        created: Manifest = self.request("POST", url_path, {"dryRun": "All"} if dry_run else None, manifest)
        return created

    def put(self, manifest: Manifest) -> Manifest:
        """Create an object, or merge the manifest into the one that is there."""
        try:
            return self.create(manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return self.patch(manifest["kind"], manifest["metadata"]["name"], manifest)

    def rewrite(self, kind: str, name: str, change: Callable[[Manifest], None]) -> Manifest | None:
        """Read an object, change it in place and replace it, again where a controller was faster.

        Args:
            kind: Its kind.
            name: Its name.
            change: Changes the object that it is given; may be called several times.

        Returns:
            The object as the server keeps it, or ``None`` when it is not there.
        """
        while True:
            resource = self.get(kind, name)
            if resource is None:
                return None
            change(resource)
            try:
                changed: Manifest = self.request("PUT", self.path(kind, name), None, resource)
            except ApiError as error:
                if error.reason != "Conflict":
                    raise
            else:
                return changed

    def patch(self, kind: str, name: str, change: Mapping[str, Any], subresource: str = "") -> Manifest:
        """Merge a change into an object; ``None`` as a value removes a field."""
        url_path = self.path(kind, name, str(change.get("apiVersion", ""))) + (f"/{subresource}" if subresource else "")
        changed: Manifest = self.request("PATCH", url_path, None, dict(change), MERGE)
        return changed

    def delete(self, kind: str, name: str, propagation: str = "Background", grace: int | None = None) -> bool:
        """Delete an object and what belongs to it; returns whether it was there."""
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.request("DELETE", self.path(kind, name), None, options)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def allowed(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Ask the server whether this user may do something in this namespace."""
        resource = KINDS[kind]
        group = resource.api_version.rpartition("/")[0]
        attributes = {"verb": verb, "group": group, "resource": resource.plural, "namespace": self.namespace}
        if subresource:
            attributes["subresource"] = subresource
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return bool(self.create(review).get("status", {}).get("allowed"))

    def lines(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        """Yield the lines of a streamed answer as they come."""
        rest = b""
        for piece in response.stream(1 << 16, decode_content=True):
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole


def api_error(code: int, data: bytes) -> ApiError:
    """Return the error of a refused request."""
    try:
        status = json.loads(data)
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(code, "", data[:200].decode("utf-8", "replace").strip())


def _has_kubeconfig() -> bool:
    return bool(os.environ.get("KUBECONFIG")) or (Path.home() / ".kube" / "config").exists()


def _own_namespace() -> str:
    return (IN_CLUSTER / "namespace").read_text("utf-8").strip() or "default"


def _namespace_of_context(kubeconfig: str | None, context: str | None) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
    for one in contexts:
        if context and one["name"] == context:
            active = one
    return str(active["context"].get("namespace") or "default")
