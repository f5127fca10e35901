"""A request that an endpoint answers, with a row of the training data where that was seen, and its token in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import KaptainError
from kaptain_magics.runtime.fitted import INPUTS_FILE, FittedOn
from kaptain_magics.serving.client.snippets import example, is_short
from kaptain_magics.serving.signature import TensorSpec
from kaptain_magics.state import Registry
from kaptain_magics.storage.base import ObjectStore


class ExampleRequest(NamedTuple):
    """What ``snippets`` makes a line of.

    Attributes:
        body: The request's JSON, or the file that holds it.
        token: The file that holds the token, where one is due.
    """

    body: str | Path
    token: Path | None


def example_request(
    registry: Registry,
    name: str,
    url: str,
    headers: Mapping[str, str],
    fitted: FittedOn | None,
    inputs: Sequence[TensorSpec] = (),
) -> ExampleRequest:
    """Return a request for an endpoint, and write down beside its record what does not belong into a line.

    Args:
        registry: Has the endpoint's record.
        name: The endpoint's name.
        url: Where the request is sent.
        headers: What requests need: the token.
        fitted: What the model was fitted on, where that is known.
        inputs: What the model takes, where it was asked for that.
    """
    body: str | Path = example(url, fitted, inputs)
    if isinstance(body, str) and not is_short(body):
        body = registry.write_beside(name, "example.json", body)
    bearer = headers.get("Authorization", "").removeprefix("Bearer ")
    return ExampleRequest(body, registry.write_beside(name, "token", bearer) if bearer else None)


def fitted_on(store: ObjectStore, spec: EndpointSpec) -> FittedOn | None:
    """Return what an endpoint's model was fitted on; ``None`` where that was not seen."""
    with suppress(KaptainError, ValueError, OSError):
        return FittedOn.decode(store.read(f"{spec.artifact_uri}/{INPUTS_FILE}"))
    return None
