"""The server's HTTP side: routes to the model, and what every answer has in common."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from kaptain_magics import __version__
from kaptain_magics.serving.http.answers import Answer, Headers
from kaptain_magics.serving.http.auth import Authorizer
from kaptain_magics.serving.http.http_requests import Request
from kaptain_magics.serving.http.origin import from_browser
from kaptain_magics.serving.inference.served import Served
from kaptain_magics.serving.protocol.binary import HEADER
from kaptain_magics.serving.protocol.large import LARGE
from kaptain_magics.serving.protocol.limits import Body, Limits, decompress, too_large
from kaptain_magics.serving.protocol.openapi import describe_api
from kaptain_magics.serving.protocol.protocol_errors import JSON, RequestError, refusal
from kaptain_magics.serving.protocol.v1 import read_instances, write_predictions
from kaptain_magics.serving.protocol.v2 import read_request, write_answer, write_json

logger = logging.getLogger("kaptain.serving")

_PACKED = 4096  # bytes that may become a thousand times as many, which takes a few ms
_T = TypeVar("_T")
_TEXT: Headers = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)
_TYPES = (b"application/json", b"application/octet-stream")
_UNSAID = (b"", b"application/x-www-form-urlencoded")  # what a client sends that was given no type; curl the second one
_V1_BODY = re.compile(rb'\s*\{\s*"instances"')
_V2_BODY = re.compile(rb'\s*\{\s*"(?:inputs|outputs|parameters|id)"')
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(?:infer|ready))?|/v1/models/([^/:]+)(?::predict)?")


class Route(NamedTuple):
    """What a path does.

    Attributes:
        method: ``GET`` or ``POST``.
        answer: Makes the answer from the request and its body.
        protocol: The protocol whose requests are counted; empty for a route that is no inference.
        free: Whether it needs no token.
    """

    method: str
    answer: Callable[[Request, Body], Awaitable[Answer]]
    protocol: str = ""
    free: bool = False


class Application:
    """Answers HTTP requests by their path; another class reads them from the wire.

    Args:
        served: The model.
        authorizer: Who may ask.
        limits: Bounds of requests.
    """

    def __init__(self, served: Served, authorizer: Authorizer, limits: Limits) -> None:
        self._served = served
        self._authorizer = authorizer
        self._limits = limits
        self._routes = self._make_routes()
        self._thread: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """End the thread that reads large requests."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

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

    async def __call__(self, request: Request) -> Answer:
        """Answer one request; whatever is raised becomes an answer, and inference is counted."""
        route = self._routes.get(request.path)
        if route is None or not route.protocol:
            return await self._answer(route, request)
        metrics, started, code = self._served.metrics, perf_counter(), 499
        metrics.started()
        try:
            answer = await self._answer(route, request)
            code = answer.status
        finally:  # also where the client went away and the request was cancelled
            metrics.ended(route.protocol, code, perf_counter() - started)
        return answer

    async def _answer(self, route: Route | None, request: Request) -> Answer:
        try:
            headers = request.headers
            self._authorizer.admit(request.method, headers)
            if route is None:
                self._authorizer.check(headers.get(b"authorization", b""))
                raise self._unknown(request.path)
            if not route.free:
                self._authorizer.check(headers.get(b"authorization", b""))
            if request.method != route.method and (request.method, route.method) != ("HEAD", "GET"):
                allowed = ((b"allow", route.method.encode()),)
                raise RequestError(405, f"use {route.method} here, not {request.method}", allowed)
            if route.method != "POST":
                return await route.answer(request, b"")
            return await route.answer(request, await self._read_body(request))
        except Exception as error:
            refused = refusal(error)
            answer = Answer.of(refused)
            del refused  # with its traceback it would keep this frame and the request, and be kept by it
            return answer

    async def _read_body(self, request: Request) -> Body:
        headers, limit = request.headers, self._limits.body
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        unsaid = kind in _UNSAID and not from_browser(headers)  # with these types a page may send to any site
        if kind not in _TYPES and not unsaid:
            raise RequestError(415, "Content-Type: use application/json", ((b"connection", b"close"),))
        if int(headers.get(b"content-length", b"0")) > limit:
            raise too_large(limit)
        body = await request.read()
        encoding = headers.get(b"content-encoding")
        if encoding:
            unpack = partial(decompress, body, encoding.strip().lower(), limit, request.take)
            body = await self._in_thread(unpack) if len(body) > _PACKED else unpack()
        return body

    async def _in_thread(self, read: Callable[[], _T]) -> _T:
        """Read something large in a thread, one after another, so that others are answered meanwhile."""
        self._thread = self._thread or ThreadPoolExecutor(1, "reader")
        work = asyncio.get_running_loop().run_in_executor(self._thread, read)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:  # the client went away: what it sent is in memory until it is read
            await asyncio.wait((work,))
            raise
        finally:
            del work  # its error would keep this frame, and be kept by it

    def _unknown(self, path: str) -> RequestError:
        match = _MODEL.fullmatch(path)
        if match is not None:
            self._served.demand(match[1] or match[3], match[2] or "")
        return RequestError(404, f"no such path: {path[:200]}")

    # ---- routes ------------------------------------------------------------------------------------------------

    async def _live(self, *_: Any) -> Answer:
        return Answer(200, JSON, b'{"live":true}')

    async def _ready(self, *_: Any) -> Answer:
        if not self._served.ready:
            raise RequestError(503, "the model is being loaded", ((b"retry-after", b"1"),))
        return Answer(200, JSON, b'{"ready":true}')

    async def _server(self, *_: Any) -> Answer:
        metadata = {"name": "kaptain-magics", "version": __version__, "extensions": ["binary_tensor_data"]}
        return Answer(200, JSON, write_json(metadata))

    async def _model(self, *_: Any) -> Answer:
        return Answer(200, JSON, write_json(self._served.describe()))

    async def _model_ready(self, *_: Any) -> Answer:
        await self._ready()
        return Answer(200, JSON, write_json({"name": self._served.name, "ready": True}))

    async def _metrics(self, *_: Any) -> Answer:
        return Answer(200, _TEXT, self._served.metrics.text(self._served.name, self._served.version).encode())

    async def _openapi(self, *_: Any) -> Answer:
        return Answer(200, JSON, write_json(describe_api(self._served.name, self._served.version)))

    async def _infer(self, request: Request, body: Body, version: str | None = None) -> Answer:
        length = request.headers.get(HEADER)
        if length is None and _V1_BODY.match(body):  # as some clients do
            return await self._predict_v1(request, body)
        json = int(length) if length and length.isdigit() and len(length) < 18 else len(body)
        self._demand_json(json)
        read = partial(read_request, body, length, request.take)
        inference = await self._in_thread(read) if len(body) > LARGE else read()
        del body, read
        outputs = await self._served.infer(inference.inputs, inference.outputs, inference.parameters)
        return Answer(200, *write_answer(inference, outputs, self._served.name, version))

    def _demand_json(self, size: int) -> None:
        if size > self._limits.json:
            message = f"the JSON is larger than {self._limits.json} bytes: send fewer rows, or binary tensors"
            raise RequestError(413, message)

    async def _infer_version(self, request: Request, body: Body) -> Answer:
        return await self._infer(request, body, self._served.version)

    async def _status_v1(self, *_: Any) -> Answer:
        return Answer(200, JSON, write_json({"name": self._served.name, "ready": self._served.ready}))

    async def _predict_v1(self, request: Request, body: Body) -> Answer:
        self._demand_json(len(body))
        if _V2_BODY.match(body):
            raise RequestError(400, f"this is a V2 request: send it to /v2/models/{self._served.name}/infer")
        read = partial(read_instances, body, self._served.input_names, request.take)
        inputs = await self._in_thread(read) if len(body) > LARGE else read()
        del body, read
        return Answer(200, JSON, write_json(write_predictions(await self._served.infer(inputs, (), {}))))
