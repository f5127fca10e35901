"""The record of an endpoint of this machine: ``endpoint.json``."""

from __future__ import annotations

import msgspec

from kaptain_magics.core.specs import EndpointSpec


class ServedRevision(msgspec.Struct, frozen=True):
    """A revision and the server that has it."""

    spec: EndpointSpec
    instance: str


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is written down.

    Attributes:
        host: Address that it listens on.
        port: Port that it listens on.
        stable: The revision that gets the requests.
        canary: The revision that gets ``percent`` of them.
        router: The router's instance, while there is a canary.
        percent: Percent of requests for the canary.
    """

    host: str
    port: int
    stable: ServedRevision
    canary: ServedRevision | None = None
    router: str = ""
    percent: int = 0

    @property
    def instances(self) -> list[str]:
        """All its instances, the one that accepts its requests first."""
        canary = self.canary.instance if self.canary is not None else ""
        return [name for name in (self.router, self.stable.instance, canary) if name]
