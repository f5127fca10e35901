"""Lines that ask an endpoint from elsewhere, ready to be pasted. They name the token's file, never the token."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kaptain_magics.runtime.fitted import FittedOn
from kaptain_magics.serving.signature import TensorSpec

TOKEN = "KAPTAIN_TOKEN"  # a variable of the environment that comes before the file: for other machines
_LONGEST = 1500  # characters of an example that is written out: it fills a screen


def curl(url: str, body: str | Path, token: Path | None) -> str:
    """Return a command that asks the model from a terminal.

    Args:
        url: Where to send it.
        body: The request's JSON, or the file that holds it.
        token: The file that holds the token, where one is due.
    """
    bearer = ""
    if token is not None:
        bearer = f' -H "Authorization: Bearer ${{{TOKEN}:-$(cat {shlex.quote(str(token))})}}"'
    data = shlex.quote(f"@{body}" if isinstance(body, Path) else body)
    return f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json'{bearer} -d {data}"


def python(url: str, body: str | Path, token: Path | None) -> str:
    """Return Python code that asks the model with the standard library; takes what ``curl`` takes."""
    bearer = ""
    if token is not None:
        held = f"open({str(token)!r}).read().strip()"
        bearer = f', "Authorization": "Bearer " + (os.environ.get("{TOKEN}") or {held})'
    loaded = f"json.load(open({str(body)!r}))" if isinstance(body, Path) else repr(json.loads(body))
    return "\n".join(
        [
            f"import json, {'os, ' if bearer else ''}urllib.request",
            f"body = {loaded}",
            f'headers = {{"Content-Type": "application/json"{bearer}}}',
            f"request = urllib.request.Request({url!r}, json.dumps(body).encode(), headers)",
            "print(json.load(urllib.request.urlopen(request)))",
        ]
    )


def opened_url(cluster_url: str) -> str:
    """Return where an endpoint of a cluster is on this machine once its command has opened port 8080."""
    return f"http://127.0.0.1:8080{urlsplit(cluster_url).path}"


def is_short(body: str) -> bool:
    """Whether a request may stand in a line."""
    return len(body) <= _LONGEST


def example(url: str, fitted: FittedOn | None, inputs: Sequence[TensorSpec]) -> str:
    """Return a request with one sample, as JSON.

    Args:
        url: Where it is sent, which tells its protocol.
        fitted: What the model was fitted on, which has a sample; without it, zeros and empty texts are sent.
        inputs: What the model takes; empty where that is not known.
    """
    if fitted is not None and fitted.columns:
        tensors = [_tensor(c.name, c.datatype, [1], [c.example]) for c in fitted.columns]
    elif fitted is not None and fitted.example is not None:
        data, shape = _flat(fitted.example)
        first = next(iter(inputs), None)
        kind = "BYTES" if isinstance(data[0], str) else first.datatype if first is not None else "FP64"
        tensors = [_tensor(first.name if first is not None else "predict", kind, [1, *shape], data)]
    else:
        tensors = [_zeros(spec) for spec in inputs] or [_tensor("rows", "FP64", [1, 1], [0.0])]
    body = {"inputs": tensors} if not urlsplit(url).path.endswith(":predict") else {"instances": [_instance(tensors)]}
    return json.dumps(body, ensure_ascii=False)


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _flat(value: Any) -> tuple[list[Any], list[int]]:
    """Return the values of nested lists, and the shape of these."""
    if not isinstance(value, list):
        return [value], []
    parts = [_flat(item) for item in value]
    return [leaf for leaves, _ in parts for leaf in leaves], [len(value), *(parts[0][1] if parts else [])]


def _zeros(spec: TensorSpec) -> dict[str, Any]:
    shape = [max(size, 1) for size in spec.shape]
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0.0 if spec.datatype.startswith("FP") else 0)
    return _tensor(spec.name, spec.datatype, shape, [zero] * math.prod(shape))


def _instance(tensors: Sequence[Mapping[str, Any]]) -> Any:
    """Return the sample as V1 has it: a value for every input, nested as its shape is."""
    values = {tensor["name"]: _nested(tensor["data"], tensor["shape"][1:]) for tensor in tensors}
    return values if len(values) > 1 or tensors[0]["shape"] == [1] else next(iter(values.values()))


def _nested(data: list[Any], shape: Sequence[int]) -> Any:
    if not shape:
        return data[0]
    step = len(data) // shape[0]
    return [_nested(data[at : at + step], shape[1:]) for at in range(0, len(data), step)]
