"""What is written down of the docker target's endpoints."""

from __future__ import annotations

import msgspec

from kaptain_magics.core.specs import EndpointSpec


class Revision(msgspec.Struct, frozen=True):
    """A revision and the container that serves it."""

    spec: EndpointSpec
    server: str


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is written down.

    Attributes:
        host: Address of this machine that it is published on.
        port: Port that it is published on.
        gate: The container that holds the port.
        stable: The revision that gets the requests.
        canary: The revision that gets ``percent`` of them.
        percent: Percent of requests for the canary.
    """

    host: str
    port: int
    gate: str
    stable: Revision
    canary: Revision | None = None
    percent: int = 0

    @property
    def revisions(self) -> list[Revision]:
        """The stable revision, and the canary where there is one."""
        return [self.stable, *([self.canary] if self.canary is not None else [])]

    @property
    def containers(self) -> list[str]:
        """Names of the gate's and the servers' containers."""
        return [self.gate, *(revision.server for revision in self.revisions)]

    @property
    def traffic(self) -> dict[str, int]:
        """Percent of requests by revision, 100 in all."""
        if self.canary is None:
            return {self.stable.spec.revision: 100}
        return {self.stable.spec.revision: 100 - self.percent, self.canary.spec.revision: self.percent}
