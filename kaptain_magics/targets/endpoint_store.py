"""What targets share that publish their endpoints on ports of this machine: their records, addresses, refusals."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from kaptain_magics.core.events import EndpointChanged
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError, StateError
from kaptain_magics.files import write_whole
from kaptain_magics.targets.base import EndpointStatus

_D = TypeVar("_D", bound=msgspec.Struct)
_OWN = ("127.", "localhost", "::1")  # beginnings of addresses that only this machine reaches


class EndpointStore(Generic[_D]):
    """The endpoints that are written down, and the tokens that they ask for.

    Args:
        folder: A folder with one for every endpoint.
        kind: What is written down of each.
    """

    def __init__(self, folder: Path, kind: type[_D]) -> None:
        self._folder, self._kind = folder, kind

    def names(self) -> list[str]:
        """Return the names of the endpoints that have a record, sorted."""
        return sorted(path.parent.name for path in self._folder.glob("*/endpoint.json"))

    def read(self, name: str) -> _D:
        """Return an endpoint.

        Raises:
            NotFoundError: There is none of that name.
            StateError: It cannot be read.
        """
        deployed = self.find(name)
        if deployed is None:
            hint = did_you_mean(name, self.names()) or f"deploy it first: %kaptain_deploy {name}"
            raise NotFoundError(f"there is no endpoint {name!r}", hint)
        return deployed

    def find(self, name: str) -> _D | None:
        """Return an endpoint, if there is one of that name.

        Raises:
            StateError: It cannot be read.
        """
        path = self._folder / name / "endpoint.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=self._kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StateError(f"{path} cannot be read: {error}", "remove the file, then deploy again") from error

    def write(self, name: str, deployed: _D) -> None:
        """Write an endpoint's record, whole or not at all."""
        write_whole(self._folder / name / "endpoint.json", msgspec.json.encode(deployed))

    def remove(self, name: str) -> None:
        """Remove an endpoint's record: it is none from then on."""
        (self._folder / name / "endpoint.json").unlink(missing_ok=True)

    def token(self, spec: EndpointSpec) -> str:
        """Return the endpoint's token; one is made where other machines reach it, and where it was asked for."""
        path = self._folder / spec.name / "token"
        if path.exists():
            return path.read_text()
        if spec.host.startswith(_OWN) and not spec.token:
            return ""
        token = secrets.token_urlsafe(24)
        write_whole(path, token.encode())
        return token

    def headers(self, name: str) -> dict[str, str]:
        """Return the headers that a request to the endpoint needs."""
        path = self._folder / name / "token"
        return {"Authorization": f"Bearer {path.read_text()}"} if path.exists() else {}


def changed(status: EndpointStatus) -> EndpointChanged:
    """Return the event that says how an endpoint is now."""
    token = bool(status.headers)
    return EndpointChanged(
        name=status.name, state=status.state, url=status.url, traffic=status.traffic, needs_token=token
    )


def check_deployment(spec: EndpointSpec, alive: bool) -> None:
    """Look whether a revision may be deployed.

    Args:
        spec: The deployment.
        alive: Whether an endpoint of its name answers.

    Raises:
        ServingError: It may not.
    """
    if spec.canary_percent is not None:
        check_canary(spec.canary_percent)
        if not alive:
            raise ServingError(
                f"{spec.name} is not deployed: a canary needs a running revision", "deploy it without --canary first"
            )
    elif alive and not spec.replace:
        raise ServingError(f"{spec.name} is deployed already", "add --replace to swap it without a refused request")


def check_canary(percent: int) -> None:
    """Look whether a canary can be deployed with so many percent of the requests.

    Raises:
        ServingError: It would get none of them or all.
    """
    if not 0 < percent < 100:
        raise ServingError(f"a canary gets 1 to 99 percent, not {percent}", "write for example --canary 30")


def check_percentage(percent: int) -> None:
    """Look whether a canary can be given so many percent.

    Raises:
        ServingError: It is not a percentage.
    """
    if not 0 <= percent <= 100:
        raise ServingError(f"{percent} is not a percentage", "write a whole number from 0 to 100")


def no_canary(name: str) -> ServingError:
    """Return the refusal to move the requests of an endpoint without a canary."""
    return ServingError(f"{name} has no canary", "deploy one: %kaptain_deploy ... --canary 30")


def reachable(host: str) -> str:
    """Return the address at which a listening address is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def url_of(host: str, port: int, spec: EndpointSpec) -> str:
    """Return where to send requests from here.

    Args:
        host: Address that the endpoint listens on.
        port: Its port.
        spec: The revision that gets the requests.
    """
    host = reachable(host)
    base = f"http://[{host}]" if ":" in host else f"http://{host}"
    path = f"/v1/models/{spec.name}:predict" if spec.protocol == "v1" else f"/v2/models/{spec.name}/infer"
    return f"{base}:{port}{path}"


def after_failure(endpoint: Callable[[str], EndpointStatus], name: str, error: KaptainError) -> EndpointChanged:
    """Return how an endpoint is after a deployment that failed: as before, if it was there.

    Args:
        endpoint: Asks for an endpoint as it is now.
        name: Its name.
        error: Why the deployment failed.
    """
    with suppress(KaptainError):
        return changed(endpoint(name))
    return EndpointChanged(name=name, state=EndpointState.FAILED, reason=error.message)
