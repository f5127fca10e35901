"""Gives the requests of an endpoint of this machine to one server, or shares them between two by a router."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from pathlib import Path

import msgspec

from kaptain_magics.errors import ServingError
from kaptain_magics.targets.endpoint_store import EndpointStore, reachable
from kaptain_magics.targets.local.deployed import Deployed, ServedRevision
from kaptain_magics.targets.local.instances import ROUTER, Instance, launch_process, release, retire, wait_ready
from kaptain_magics.targets.local.server_environment import base_environment

DRAIN = 30.0  # seconds for requests in flight when a server leaves


class LocalTraffic:
    """Moves requests between servers; the caller holds the endpoint's lock.

    Args:
        folder: The endpoints' folder.
        store: What is written down of them.
        cancelled: Set when the deployment is to end.
    """

    def __init__(self, folder: Path, store: EndpointStore[Deployed], cancelled: threading.Event) -> None:
        self._folder, self._store, self._cancelled = folder, store, cancelled

    def instance(self, name: str, instance: str) -> Instance:
        """Return a server, or the router, of an endpoint."""
        return Instance(self._folder / name / instance)

    def settle(self, name: str, deployed: Deployed, winner: ServedRevision) -> None:
        """Give one revision all requests; when this returns, no other one answers any more."""
        self.accept(name, winner)
        follower = self.instance(name, winner.instance)
        self._store.write(name, Deployed(host=winner.spec.host, port=port_of(follower), stable=winner))
        if deployed.router:
            backends = [str(follower.private)]
            self.instance(name, deployed.router).ask({"do": "route", "backends": backends, "percent": 0})
        retire([self.instance(name, loser) for loser in deployed.instances if loser != winner.instance], follower)

    def accept(self, name: str, placed: ServedRevision) -> None:
        """Let a server take requests from the endpoint's port, and look that it answers there."""
        instance = self.instance(name, placed.instance)
        answer = instance.ask({"do": "accept"})
        if "error" in answer:
            raise ServingError(str(answer["error"]), "name another port, or 0 for a free one")
        if not answer.get("accepting"):
            raise ServingError("the server ended before it took its first request", instance.log_end())
        port = port_of(instance)
        connection = http.client.HTTPConnection(reachable(placed.spec.host), port, timeout=10)
        try:
            connection.request("GET", f"/v2/models/{name}/ready")
            connection.getresponse().read()
        except OSError as error:
            raise ServingError(f"the server does not answer on port {port}: {error}", "deploy it again") from error
        finally:
            connection.close()

    def route(self, name: str, deployed: Deployed, canary: ServedRevision, percent: int) -> None:
        """Share the requests between the stable revision and a canary."""
        stable = self.instance(name, deployed.stable.instance)
        backends = [str(stable.private), str(self.instance(name, canary.instance).private)]
        router = self.instance(name, deployed.router) if deployed.router else None
        if router is None or not router.ask({"do": "route", "backends": backends, "percent": percent}):
            router = self._start_router(name, stable, backends, percent)
        after = msgspec.structs.replace(deployed, canary=canary, router=router.folder.name, percent=percent)
        self._store.write(name, after)
        release(stable, router)
        if deployed.canary is not None and deployed.canary.instance != canary.instance:
            retire([self.instance(name, deployed.canary.instance)], self.instance(name, canary.instance))

    def _start_router(self, name: str, stable: Instance, backends: list[str], percent: int) -> Instance:
        router = Instance.make(self._folder / name)
        options = {
            "handover": str(stable.control),
            "control": str(router.control),
            "state": str(router.state),
            "failure": str(router.failure_file),
            "backends": backends,
            "percent": percent,
            "drain_seconds": DRAIN,
        }
        started = router.start(launch_process, ROUTER, options, base_environment(), sys.executable)
        try:
            wait_ready(router, started, time.monotonic() + 60.0, self._cancelled.is_set)
            if not router.ask({"do": "accept"}).get("accepting"):
                raise ServingError("it does not accept requests")
        except ServingError as error:
            router.end()
            router.remove()
            why = f"cannot start the canary's router: {error.message}"
            raise ServingError(why, "deploy the canary again") from error
        return router


def port_of(instance: Instance) -> int:
    """Return the port on which a server listens.

    Raises:
        ServingError: It has not written it down.
    """
    info = instance.info
    if info is None:
        raise ServingError("the server has not reported its port", instance.log_end())
    return info.port
