"""The ASGI application: routes to the model, and what every answer has in common."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from kaptain_magics import __version__
from kaptain_magics.serving.auth import Gate
from kaptain_magics.serving.errors import RequestError, error_body, refusal
from kaptain_magics.serving.limits import Limits, decompress, too_large
from kaptain_magics.serving.openapi import describe_api
from kaptain_magics.serving.origin import HEADERS, from_browser
from kaptain_magics.serving.served import Served
from kaptain_magics.serving.v1 import read_instances, write_predictions
from kaptain_magics.serving.v2 import read_request, write_answer, write_json

logger = logging.getLogger("kaptain.serving")

Headers = tuple[tuple[bytes, bytes], ...]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON: Headers = ((b"content-type", b"application/json"),)
_TEXT: Headers = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)
_TYPES = (b"", b"application/json", b"application/octet-stream")
_WANTED = (
    *HEADERS,
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"inference-header-content-length",
)
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(?:infer|ready))?|/v1/models/([^/:]+)(?::predict)?")


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


class Route(NamedTuple):
    """What a path does.

    Attributes:
        method: ``GET`` or ``POST``.
        answer: Makes the answer from the request's headers and body.
        protocol: The protocol whose requests are counted; empty for a route that is no inference.
        free: Whether it needs no token.
    """

    method: str
    answer: Callable[[Mapping[bytes, bytes], bytes], Awaitable[Answer]]
    protocol: str = ""
    free: bool = False


class Application:
    """The server's HTTP side.

    Args:
        served: The model.
        gate: Who may ask.
        limits: Bounds of requests.
    """

    def __init__(self, served: Served, gate: Gate, limits: Limits) -> None:
        self._served = served
        self._gate = gate
        self._limits = limits
        self._routes = self._make_routes()

    def _make_routes(self) -> dict[str, Route]:
        name, version = self._served.name, self._served.version
        v2, v1 = f"/v2/models/{name}", f"/v1/models/{name}"
        routes = {
            "/v2/health/live": Route("GET", self._live, free=True),
            "/v2/health/ready": Route("GET", self._ready, free=True),
            "/v2": Route("GET", self._server),
            "/metrics": Route("GET", self._metrics),
            "/openapi.json": Route("GET", self._openapi),
            v1: Route("GET", self._status_v1),
            f"{v1}:predict": Route("POST", self._predict_v1, "v1"),
        }
        for base, answer in ((v2, self._infer), (f"{v2}/versions/{version}", self._infer_version)):
            routes[base] = Route("GET", self._model)
            routes[f"{base}/ready"] = Route("GET", self._model_ready, free=True)
            routes[f"{base}/infer"] = Route("POST", answer, "v2")
        return routes

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get(scope["path"])
        if route is None or not route.protocol:
            answer = await self._answer(route, scope, receive)
        else:
            answer = await self._counted(route, scope, receive)
        if answer is None:  # the client went away
            return
        status, headers, body = answer
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": (*headers, length)})
        await send({"type": "http.response.body", "body": body})

    async def _counted(self, route: Route, scope: dict[str, Any], receive: Receive) -> Answer | None:
        metrics, started, code = self._served.metrics, perf_counter(), 499
        metrics.started()
        try:
            answer = await self._answer(route, scope, receive)
            code = answer.status if answer is not None else 499
        finally:
            metrics.ended(route.protocol, code, perf_counter() - started)
        return answer

    async def _answer(self, route: Route | None, scope: dict[str, Any], receive: Receive) -> Answer | None:
        try:
            headers = {name: value for name, value in scope["headers"] if name in _WANTED}
            self._gate.admit(scope["method"], headers)
            if route is None:
                self._gate.check(headers.get(b"authorization", b""))
                raise self._unknown(scope["path"])
            if not route.free:
                self._gate.check(headers.get(b"authorization", b""))
            if scope["method"] != route.method and (scope["method"], route.method) != ("HEAD", "GET"):
                allowed = ((b"allow", route.method.encode()),)
                raise RequestError(405, f"use {route.method} here, not {scope['method']}", allowed)
            body = b""
            if route.method == "POST":
                read = await self._read_body(headers, receive)
                if read is None:
                    return None
                body = read
            return await route.answer(headers, body)
        except Exception as error:
            refused = refusal(error)
            return Answer(refused.status, (*_JSON, *refused.headers), error_body(refused.message))

    async def _read_body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in _TYPES or (not kind and from_browser(headers)):  # without a type a page may send to any site
            raise RequestError(415, "Content-Type: use application/json", ((b"connection", b"close"),))
        limit = self._limits.body
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            parts = [body]
            size = len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise too_large(limit)
            body = b"".join(parts)
        if message["type"] != "http.request":
            return None
        encoding = headers.get(b"content-encoding")
        return decompress(body, encoding.strip().lower(), limit) if encoding else body

    def _unknown(self, path: str) -> RequestError:
        match = _MODEL.fullmatch(path)
        if match is not None:
            self._served.demand(match[1] or match[3], match[2] or "")
        return RequestError(404, f"there is nothing at {path[:200]}")

    # ---- routes ------------------------------------------------------------------------------------------------

    async def _live(self, *_: Any) -> Answer:
        return Answer(200, _JSON, b'{"live":true}')

    async def _ready(self, *_: Any) -> Answer:
        if not self._served.ready:
            raise RequestError(503, "the model is being loaded", ((b"retry-after", b"1"),))
        return Answer(200, _JSON, b'{"ready":true}')

    async def _server(self, *_: Any) -> Answer:
        told = {"name": "kaptain-magics", "version": __version__, "extensions": ["binary_tensor_data"]}
        return Answer(200, _JSON, write_json(told))

    async def _model(self, *_: Any) -> Answer:
        return Answer(200, _JSON, write_json(self._served.describe()))

    async def _model_ready(self, *_: Any) -> Answer:
        await self._ready()
        return Answer(200, _JSON, write_json({"name": self._served.name, "ready": True}))

    async def _metrics(self, *_: Any) -> Answer:
        return Answer(200, _TEXT, self._served.metrics.text(self._served.name, self._served.version).encode())

    async def _openapi(self, *_: Any) -> Answer:
        return Answer(200, _JSON, write_json(describe_api(self._served)))

    async def _infer(self, headers: Mapping[bytes, bytes], body: bytes, version: str | None = None) -> Answer:
        request = read_request(body, headers.get(b"inference-header-content-length"))
        outputs = await self._served.infer(request.inputs, request.outputs, request.parameters)
        return Answer(200, *write_answer(request, outputs, self._served.name, version))

    async def _infer_version(self, headers: Mapping[bytes, bytes], body: bytes) -> Answer:
        return await self._infer(headers, body, self._served.version)

    async def _status_v1(self, *_: Any) -> Answer:
        return Answer(200, _JSON, write_json({"name": self._served.name, "ready": self._served.ready}))

    async def _predict_v1(self, _: Mapping[bytes, bytes], body: bytes) -> Answer:
        inputs = read_instances(body, self._served.first_input)
        return Answer(200, _JSON, write_json(write_predictions(await self._served.infer(inputs, (), {}))))
