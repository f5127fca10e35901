"""An endpoint as an object: ask it, move its traffic, take it down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.targets.base import EndpointStatus, ServingTarget

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.serving.loaders.base import TensorSpec


class Endpoint:
    """A served model.

    Args:
        name: The endpoint's name.
        target: The target that serves it.
        workspace: What it belongs to.
    """

    def __init__(self, name: str, target: ServingTarget, workspace: Context) -> None:
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
            data: Rows: an array, a list, a DataFrame, or a dict of named inputs; samples of the model's own shape.
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

    @property
    def token(self) -> str:
        """The bearer token that requests need; empty where none is due. It is shown nowhere else."""
        return self.status().headers.get("Authorization", "").removeprefix("Bearer ")

    def curl(self) -> str:
        """Return a command that asks the model from a terminal.

        Where a token is due, the command takes it from the variable ``KAPTAIN_TOKEN``: ``export`` what ``token`` holds.
        """
        from kaptain_magics.model.snippets import curl

        return curl(self.status(), self._inputs())

    def snippet(self) -> str:
        """Return Python code that asks the model with the standard library; the token's place is as in ``curl``."""
        from kaptain_magics.model.snippets import python

        return python(self.status(), self._inputs())

    def _inputs(self) -> tuple[TensorSpec, ...]:
        """Return what the model takes; nothing where it does not tell, or does not answer now."""
        from kaptain_magics.serving.client import describe

        try:
            return describe(*self._address()).inputs
        except ServingError:
            return ()

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
        self._workspace.registry.remove_endpoint(self.name)
        return there

    def __repr__(self) -> str:
        status = self.status()
        address = status.cluster_url if status.open_with else status.url
        return f"Endpoint {self.name}: {status.state} {address}".rstrip()


def open_endpoint(workspace: Context, name: str) -> Endpoint:
    """Return an endpoint by its name or its model's id.

    Raises:
        NotFoundError: There is none of that name.
    """
    record = workspace.registry.endpoint(name)
    return Endpoint(record.name, workspace.serving(record.target), workspace)
