"""An endpoint as an object: ask it, move its traffic, take it down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kaptain_magics.config import Settings
from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import InferenceError, KaptainError, NotFoundError, ServingError
from kaptain_magics.targets.base import EndpointStatus, ServingTarget
from kaptain_magics.targets.endpoint_store import check_percentage

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.serving.signature import TensorSpec

_T = TypeVar("_T")
_ELSEWHERE = (401, 403, 404, 502, 503, 504)  # statuses of an address whose endpoint moved, has a new token or is gone


class _CachedStatus(NamedTuple):
    """An endpoint when it was ready last.

    Attributes:
        version: The registry's version of it at that time; another one after every deployment.
        settings: The settings that it was asked under: they name the cluster or the engine.
        status: Where it was and what requests needed.
    """

    version: tuple[int, int]
    settings: Settings
    status: EndpointStatus


# By state folder, target and name, for all objects: ``model.predict`` and ``%kaptain predict`` make one each time.
_cache: dict[tuple[str, str, str], _CachedStatus] = {}


class Endpoint:
    """A served model.

    Its address is looked up for the first request, and again after a deployment or when a request does not reach it.

    Args:
        name: The endpoint's name.
        target: The target that serves it.
        context: What it belongs to.
    """

    def __init__(self, name: str, target: ServingTarget, context: Context) -> None:
        self.name = name
        self._target, self._context = target, context
        self._key = (str(context.settings.home), target.name, name)

    def status(self) -> EndpointStatus:
        """Return the endpoint as it is now."""
        return self._target.endpoint(self.name)

    @property
    def url(self) -> str:
        """Where to send requests from here; on a cluster seen from outside for as long as this process lives."""
        return self.status().url

    def predict(self, data: Any, *, timeout: float = 30.0, proba: bool = False, output: str = "") -> Any:
        """Ask the model.

        Args:
            data: Rows: an array, a list, a DataFrame, or a dict of named inputs; samples of the model's own shape.
            timeout: Seconds to wait for the answer.
            proba: Ask for probabilities instead of classes; ``classes`` has what their columns stand for.
            output: Ask for this one of the model's outputs, such as ``decision_function``.

        Returns:
            A NumPy array with one row for every row of ``data``.

        Raises:
            ServingError: The endpoint is not ready.
            InferenceError: It answered with an error.
        """
        from kaptain_magics.serving.client.predict import predict

        return self._ask(lambda url, headers: predict(url, headers, data, timeout=timeout, proba=proba, output=output))

    async def predict_async(self, data: Any, *, timeout: float = 30.0, proba: bool = False, output: str = "") -> Any:
        """Ask the model without blocking the event loop; see ``predict``."""
        return await asyncio.to_thread(self.predict, data, timeout=timeout, proba=proba, output=output)

    @property
    def classes(self) -> list[Any]:
        """A classifier's labels, in the order of the columns of its probabilities; empty for other models."""
        from kaptain_magics.serving.client.predict import labels

        return list(self._ask(labels))

    def _ask(self, send: Callable[[str, dict[str, str]], _T]) -> _T:
        """Send a request to the address that is known; where that fails, once more to the one that holds now."""
        cached = self._cached_address()
        if cached is None:
            return send(*self._address())
        try:
            return send(*cached)
        except ServingError as error:
            if isinstance(error, InferenceError) and error.status not in _ELSEWHERE:
                raise
            now = self._address()  # an endpoint that is gone or failed says here why
            reached = isinstance(error, InferenceError) or isinstance(error.__cause__, TimeoutError)
            if now == cached and reached:  # it refuses, or it is slow: the same again would not help
                raise
            return send(*now)

    def _cached_address(self) -> tuple[str, dict[str, str]] | None:
        """Return the address that was looked up last, if the endpoint was not deployed again since."""
        cached = _cache.get(self._key)
        version = self._context.registry.endpoint_version(self.name)
        if cached is None or cached.version != version or cached.settings != self._context.settings:
            return None
        return cached.status.url, cached.status.headers

    def _address(self) -> tuple[str, dict[str, str]]:
        """Look the address up, and forget what was learned of the model that was there."""
        from kaptain_magics.serving.client.predict import forget

        _cache.pop(self._key, None)
        version = self._context.registry.endpoint_version(self.name)  # before the status, which may be newer
        status = self.status()
        if status.state is not EndpointState.READY:
            why = f": {status.reason}" if status.reason else ""
            hint = status.hint or f"deploy it again: %kaptain_deploy {status.model_id} --replace"
            raise ServingError(f"endpoint {self.name} is {status.state}{why}", hint)
        forget(status.url)
        _cache[self._key] = _CachedStatus(version, self._context.settings, status)
        return status.url, status.headers

    @property
    def token(self) -> str:
        """The bearer token that requests need; empty where none is due. It is shown nowhere else."""
        return self.status().headers.get("Authorization", "").removeprefix("Bearer ")

    def curl(self) -> str:
        """Return a command that asks the model from a terminal.

        It runs as it is: with a row of the training data where that was seen, and the token out of a file of this user,
        where one is due; on another machine ``export KAPTAIN_TOKEN``, which comes first, with what ``token`` holds.
        """
        from kaptain_magics.serving.client.snippets import curl

        return curl(*self._example())

    def snippet(self) -> str:
        """Return Python code that asks the model with the standard library; it runs as ``curl`` does."""
        from kaptain_magics.serving.client.snippets import python

        return python(*self._example())

    def _example(self) -> tuple[str, str | Path, Path | None]:
        """Return the address, a request for it and the file of the token."""
        from kaptain_magics.serving.client.snippets import opened_url
        from kaptain_magics.supervisor.example_requests import example_request, fitted_on

        status, registry = self.status(), self._context.registry
        url = status.url or opened_url(status.cluster_url)
        fitted = None
        with suppress(KaptainError):  # the store may be out of reach
            fitted = fitted_on(self._context.objects(), registry.endpoint(self.name).spec)
        return url, *example_request(registry, self.name, url, status.headers, fitted, self._inputs())

    def _inputs(self) -> tuple[TensorSpec, ...]:
        """Return what the model takes; nothing where it does not say so, or does not answer now."""
        from kaptain_magics.serving.client.predict import describe

        try:
            return self._ask(describe).inputs
        except ServingError:
            return ()

    def set_canary(self, percent: int) -> None:
        """Give the canary so many percent of the requests."""
        check_percentage(percent)
        self._set_traffic(percent)

    def promote(self) -> None:
        """Give the canary all requests and remove the revision before it."""
        self._set_traffic(100)

    def rollback(self) -> None:
        """Remove the canary; the revision before it gets all requests again."""
        self._set_traffic(0)

    def _set_traffic(self, percent: int) -> None:
        self._target.set_traffic(self.name, percent)
        _cache.pop(self._key, None)  # another model may answer

    def undeploy(self) -> bool:
        """Remove the endpoint and its canary; one that was removed by other means is forgotten, with what it left.

        Returns:
            Whether it was still there.
        """
        existed = True
        try:
            self._target.undeploy(self.name)
        except NotFoundError:
            existed = False
        self._context.registry.remove_endpoint(self.name)
        return existed

    def __repr__(self) -> str:
        status = self.status()
        address = status.cluster_url if status.open_with else status.url
        return f"Endpoint {self.name}: {status.state} {address}".rstrip()


def open_endpoint(context: Context, name: str) -> Endpoint:
    """Return an endpoint by its name or its model's id.

    Raises:
        NotFoundError: There is none of that name.
    """
    record = context.registry.endpoint(name)
    return Endpoint(record.name, context.serving(record.target), context)
