"""What is written down of the docker target's endpoints, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import NotFoundError, StateError
from kaptain_magics.files import write_whole


class Placed(msgspec.Struct, frozen=True):
    """A revision and the container that serves it."""

    spec: EndpointSpec
    server: str


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
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
    stable: Placed
    canary: Placed | None = None
    percent: int = 0

    @property
    def placed(self) -> list[Placed]:
        """The stable revision, and the canary where there is one."""
        return [self.stable, *([self.canary] if self.canary is not None else [])]

    @property
    def traffic(self) -> dict[str, int]:
        """Percent of requests by revision."""
        if self.canary is None:
            return {self.stable.spec.revision: 100}
        return {self.stable.spec.revision: 100 - self.percent, self.canary.spec.revision: self.percent}


class Book:
    """The endpoints that are written down.

    Args:
        folder: A folder with one for every endpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all endpoints."""
        return sorted(path.parent.name for path in self._folder.glob("*/endpoint.json"))

    def read(self, name: str) -> Deployed:
        """Return an endpoint.

        Raises:
            NotFoundError: There is none of that name.
        """
        deployed = self.find(name)
        if deployed is None:
            hint = did_you_mean(name, self.names()) or f"deploy it first: %kaptain_deploy {name}"
            raise NotFoundError(f"there is no endpoint {name!r}", hint)
        return deployed

    def find(self, name: str) -> Deployed | None:
        """Return an endpoint, if there is one of that name."""
        path = self._folder / name / "endpoint.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Deployed)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StateError(f"{path} cannot be read: {error}", "remove the file, then deploy again") from error

    def write(self, name: str, deployed: Deployed) -> None:
        """Write an endpoint down."""
        write_whole(self._folder / name / "endpoint.json", msgspec.json.encode(deployed))

    def remove(self, name: str) -> None:
        """Forget an endpoint."""
        (self._folder / name / "endpoint.json").unlink(missing_ok=True)


def reachable(host: str) -> str:
    """Return the address at which a published address is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def url_of(deployed: Deployed) -> str:
    """Return where to send requests from here."""
    host = reachable(deployed.host)
    base = f"http://[{host}]" if ":" in host else f"http://{host}"
    spec = deployed.stable.spec
    path = f"/v1/models/{spec.name}:predict" if spec.protocol == "v1" else f"/v2/models/{spec.name}/infer"
    return f"{base}:{deployed.port}{path}"
