"""Serving on a cluster: by KServe where it is there, else by plain objects."""

from __future__ import annotations

from collections.abc import Iterator

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.specs import EndpointOptions, EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import ConfigError, KaptainError
from kaptain_magics.targets.base import EndpointStatus
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.endpoints.kserve import KServeServing
from kaptain_magics.targets.kubernetes.endpoints.plain import PlainServing
from kaptain_magics.targets.server_options import GRPC_PORT


class KubernetesServing:
    """Serves models on a cluster.

    The setting ``cluster_serving`` is ``auto``, ``kserve`` or ``plain``. An endpoint stays with what deployed it.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session
        self._kserve, self._plain = KServeServing(session), PlainServing(session)

    def _for_new(self) -> KServeServing | PlainServing:
        setting = self._session.config.settings.get("cluster_serving") or "auto"
        if setting not in ("auto", "kserve", "plain"):
            raise ConfigError(f"cluster_serving {setting!r} is unknown", "write auto, kserve or plain")
        return self._kserve if setting == "kserve" or (setting == "auto" and self._has_kserve) else self._plain

    @property
    def _has_kserve(self) -> bool:
        return self._session.discovery.has("InferenceService")

    def _for(self, name: str) -> KServeServing | PlainServing:
        try:
            by_kserve = self._has_kserve and self._session.cluster.get("InferenceService", name) is not None
        except ApiError as error:
            if error.code != 403:
                raise
            by_kserve = False  # what may not be read was not made by this user
        return self._kserve if by_kserve else self._plain

    def objects(self, endpoint: EndpointSpec) -> list[Manifest]:
        """Return everything that an endpoint is made of."""
        return self._for_new().objects(endpoint)

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Deploy or replace an endpoint; what is refused is a failed end."""
        if GRPC_PORT in endpoint.serving_config:
            yield Noted(text=f"the kubernetes target serves over HTTP only: {GRPC_PORT} is ignored", warning=True)
        plain = EndpointOptions()
        if (endpoint.host, endpoint.port) != (plain.host, plain.port):
            yield Noted(text="the cluster gives an endpoint its address: host and port are ignored", warning=True)
        try:
            if endpoint.autoscale != plain.autoscale and not self._scales_by_requests(endpoint):
                text = "without Knative, replicas scale by their use of CPU: --autoscale is ignored"
                yield Noted(text=text, warning=True)
            yield from self._for_new().deploy(endpoint)
        except KaptainError as error:
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)

    def _scales_by_requests(self, endpoint: EndpointSpec) -> bool:
        services = [resource for resource in self.objects(endpoint) if resource["kind"] == "InferenceService"]
        return any(service["spec"]["predictor"].get("scaleMetric") == "concurrency" for service in services)

    def endpoint(self, name: str) -> EndpointStatus:
        """Return an endpoint as it is now, asked of what deployed it."""
        return self._for(name).endpoint(name)

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints of the namespace, KServe's first."""
        return (self._kserve.endpoints() if self._has_kserve else []) + self._plain.endpoints()

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary a share; 100 promotes it, 0 rolls it back."""
        self._for(name).set_traffic(name, canary_percent)

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary."""
        self._for(name).undeploy(name)
