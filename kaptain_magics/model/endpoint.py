"""An endpoint as an object: ask it, move its traffic, take it down."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.targets.base import EndpointStatus, ServingTarget

if TYPE_CHECKING:
    from kaptain_magics.model.workspace import Workspace


class Endpoint:
    """A served model.

    Args:
        name: The endpoint's name.
        target: The target that serves it.
        workspace: What it belongs to.
    """

    def __init__(self, name: str, target: ServingTarget, workspace: Workspace) -> None:
        self.name = name
        self._target, self._workspace = target, workspace

    def status(self) -> EndpointStatus:
        """Return the endpoint as it is now."""
        return self._target.endpoint(self.name)

    @property
    def url(self) -> str:
        """Where to send requests from here; on a cluster seen from outside for as long as this process lives."""
        return self.status().url

    def predict(self, data: Any, *, timeout: float = 30.0, proba: bool = False) -> Any:
        """Ask the model.

        Args:
            data: Rows: an array, a list, a DataFrame, an image, or a dict of named inputs.
            timeout: Seconds to wait for the answer.
            proba: Ask for probabilities instead of classes.

        Returns:
            A NumPy array with one row for every row of ``data``.

        Raises:
            ServingError: The endpoint is not ready.
            InferenceError: It answered with an error.
        """
        from kaptain_magics.serving.client import predict

        return predict(*self._address(), data, timeout=timeout, proba=proba)

    async def predict_async(self, data: Any, *, timeout: float = 30.0, proba: bool = False) -> Any:
        """Ask the model without blocking the event loop; see ``predict``."""
        from kaptain_magics.serving.client import predict_async

        return await predict_async(*self._address(), data, timeout=timeout, proba=proba)

    def _address(self) -> tuple[str, dict[str, str]]:
        status = self.status()
        if status.state is not EndpointState.READY:
            why = f": {status.reason}" if status.reason else ""
            raise ServingError(
                f"endpoint {self.name} is {status.state}{why}", f"deploy it again: %kaptain_deploy {status.model_id}"
            )
        return status.url, status.headers

    def curl(self) -> str:
        """Return a command that asks the model from a terminal."""
        status = self.status()
        headers = "".join(f" -H '{name}: $KAPTAIN_TOKEN'" for name in status.headers)
        return f"curl -s {shlex.quote(status.url)} -H 'Content-Type: application/json'{headers} -d @input.json"

    def snippet(self) -> str:
        """Return Python code that asks the model with nothing but the standard library."""
        body = {"inputs": [{"name": "predict", "shape": [1, 4], "datatype": "FP32", "data": [0.0, 0.0, 0.0, 0.0]}]}
        return "\n".join(
            [
                "import json, urllib.request",
                f"body = {json.dumps(body)}",
                f"request = urllib.request.Request({self.url!r}, json.dumps(body).encode(),",
                '                                 {"Content-Type": "application/json"})',
                "print(json.load(urllib.request.urlopen(request)))",
            ]
        )

    def set_canary(self, percent: int) -> None:
        """Give the canary so many percent of the requests."""
        if not 0 <= percent <= 100:
            raise ServingError(f"{percent} is not a percentage", "write a whole number from 0 to 100")
        self._target.set_traffic(self.name, percent)

    def promote(self) -> None:
        """Give the canary all requests and remove the revision before it."""
        self._target.set_traffic(self.name, 100)

    def rollback(self) -> None:
        """Remove the canary."""
        self._target.set_traffic(self.name, 0)

    def undeploy(self) -> bool:
        """Remove the endpoint and its canary; one that was removed by other means is forgotten, with what it left.

        Returns:
            Whether it was still there.
        """
        there = True
        try:
            self._target.undeploy(self.name)
        except NotFoundError:
            there = False
        self._workspace.forget_endpoint(self.name)
        return there

    def __repr__(self) -> str:
        status = self.status()
        address = status.cluster_url if status.open_with else status.url
        return f"Endpoint {self.name}: {status.state} {address}".rstrip()
