"""Lines that ask an endpoint from elsewhere. They name the token's variable, never the token."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kaptain_magics.targets.base import EndpointStatus

if TYPE_CHECKING:
    from kaptain_magics.serving.signature import TensorSpec

TOKEN = "KAPTAIN_TOKEN"  # the variable of the environment that holds the token, here and for the server
_SMALL = 1000  # values of an example that is written out


def curl(status: EndpointStatus, inputs: Sequence[TensorSpec]) -> str:
    """Return a command that asks the model from a terminal."""
    bearer = f' -H "Authorization: Bearer ${TOKEN}"' if status.headers else ""
    body = shlex.quote(json.dumps(_example(status, inputs))) if _size(inputs) <= _SMALL else "@input.json"
    return f"curl -s {shlex.quote(status.url)} -H 'Content-Type: application/json'{bearer} -d {body}"


def python(status: EndpointStatus, inputs: Sequence[TensorSpec]) -> str:
    """Return Python code that asks the model with nothing but the standard library."""
    bearer = f', "Authorization": "Bearer " + os.environ["{TOKEN}"]' if status.headers else ""
    body = repr(_example(status, inputs)) if _size(inputs) <= _SMALL else 'json.load(open("input.json"))'
    return "\n".join(
        [
            f"import json, {'os, ' if bearer else ''}urllib.request",
            f"body = {body}",
            f'headers = {{"Content-Type": "application/json"{bearer}}}',
            f"request = urllib.request.Request({status.url!r}, json.dumps(body).encode(), headers)",
            "print(json.load(urllib.request.urlopen(request)))",
        ]
    )


def _size(inputs: Sequence[TensorSpec]) -> int:
    return sum(math.prod(_shape(spec)) for spec in inputs)


def _shape(spec: TensorSpec) -> list[int]:
    return [max(size, 1) for size in spec.shape]


def _example(status: EndpointStatus, inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return a request with one sample of nothing but zeros, or empty texts."""
    if status.protocol == "v1":
        samples = {spec.name: _sample(spec) for spec in inputs}
        return {"instances": [next(iter(samples.values())) if len(samples) == 1 else samples or [0.0]]}
    if not inputs:
        return {"inputs": [{"name": "rows", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}]}
    tensors = []
    for spec in inputs:
        shape = _shape(spec)
        data = [_zero(spec)] * math.prod(shape)
        tensors.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data})
    return {"inputs": tensors}


def _zero(spec: TensorSpec) -> object:
    return {"BYTES": "", "BOOL": False}.get(spec.datatype, 0.0 if spec.datatype.startswith("FP") else 0)


def _sample(spec: TensorSpec) -> Any:
    """Return one instance of an input, nested as its shape is."""
    nested: Any = _zero(spec)
    for size in reversed(_shape(spec)[1:]):
        nested = [nested] * size
    return nested
