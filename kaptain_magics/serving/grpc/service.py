"""The Open Inference Protocol V2 on gRPC: ``inference.GRPCInferenceService``."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from kaptain_magics import __version__
from kaptain_magics.errors import ServingError
from kaptain_magics.serving.grpc.listeners import clients_of, close_listeners
from kaptain_magics.serving.grpc.messages import SERVICE, messages
from kaptain_magics.serving.grpc.wire import demand_sizes
from kaptain_magics.serving.http.auth import Authorizer
from kaptain_magics.serving.http.budget import Share
from kaptain_magics.serving.http.http_server import HttpServer
from kaptain_magics.serving.http.successor import LOOPBACK
from kaptain_magics.serving.inference.served import Served
from kaptain_magics.serving.protocol.binary import read_raw, write_raw
from kaptain_magics.serving.protocol.datatypes import dtype_of
from kaptain_magics.serving.protocol.large import LARGE
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.protocol.protocol_errors import RequestError, refusal
from kaptain_magics.serving.protocol.tensors import as_tensor
from kaptain_magics.serving.signature import Array, Outputs

logger = logging.getLogger("kaptain.serving")

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_PIECE = 100_000  # values that become numbers of Python at a time
_TEXT = 64  # bytes of memory that a text takes besides its letters
_FREE = ("ServerLive", "ServerReady", "ModelReady")
_AGE = 5.0  # seconds after which a client is asked to connect again; to do so costs it about 1 ms
_POLL = 0.1  # seconds between two looks whether the clients have left


class GrpcServer:
    """The gRPC side of a server.

    gRPC cancels calls that reach a stopping server before its client knows of that. So a server that is replaced does
    not stop: it passes later calls on to the one that listens on the port now, until all its clients have connected
    again. They do so within ``_AGE``, because connections are never older, and lose no call by it.

    Args:
        served: The model.
        authorizer: Who may ask.
        limits: Bounds of requests.
        http: The HTTP side, with whose large requests those of this side share a budget.
        replaceable: Whether another server may follow this one; else connections may be of any age.
    """

    def __init__(
        self, served: Served, authorizer: Authorizer, limits: Limits, http: HttpServer, replaceable: bool
    ) -> None:
        self._served = served
        self._http = http
        self._authorizer = authorizer
        self._messages = messages()
        self._host, self._port = "", 0
        self._working = 0
        self._successor: Any = None
        self._stop_waiting = asyncio.Event()
        sizes = [("grpc.max_receive_message_length", limits.body), ("grpc.max_send_message_length", limits.body)]
        self._sizes = sizes
        age = [("grpc.max_connection_age_ms", int(_AGE * 1000))] if replaceable else []
        self._server = grpc.aio.server(options=[*sizes, *age])
        calls = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._guarded(name, call)) for name, call in calls.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ServingError: The port is taken.
        """
        host = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise ServingError(f"cannot listen on {host}:{port} for gRPC", "name another port, or 0 for a free one")
        self._host, self._port = host, bound
        await self._server.start()
        logger.info("gRPC on %s:%d", host, bound)

    @property
    def finishing(self) -> int:
        """How many calls are in work that came before this server was released."""
        return self._working if self._successor is not None else 0

    async def release(self) -> None:
        """Listen no more, and pass calls that begin from now on to the server that listens on the same port."""
        await close_listeners(self._port)
        host = LOOPBACK.get(self._host, self._host)
        own = ("grpc.use_local_subchannel_pool", 1)
        self._successor = grpc.aio.insecure_channel(f"{host}:{self._port}", [*self._sizes, own])

    async def leave(self, seconds: float) -> None:
        """End when no client is left, or after so many seconds, or when ``stop`` is called."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (seconds if sys.platform == "linux" else min(seconds, 1.2 * _AGE))
        # It ends at the first of: the last client and call are gone; ``seconds``; ``stop_waiting``. Where connections
        # cannot be counted (not Linux) the last client is gone when connections of before reach their ``_AGE``.
        while (clients_of(self._port) or self._working) and loop.time() < until and not self._stop_waiting.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_waiting.wait(), _POLL)
        await self._server.stop(0)
        await self._successor.close()

    def stop_waiting(self) -> None:
        """Wait for clients no longer."""
        self._stop_waiting.set()

    async def stop(self, seconds: float) -> None:
        """Take no more calls and answer those in flight. Calls that come at this moment end as ``CANCELLED``."""
        await close_listeners(self._port)
        await self._server.stop(seconds)

    def _guarded(self, name: str, call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(message: bytes, context: Any) -> bytes:
            if self._successor is not None:
                return await self._pass_on(name, message, context)
            self._working += 1
            try:
                if name not in _FREE:
                    authorization = dict(context.invocation_metadata() or ()).get("authorization", "")
                    self._authorizer.check(authorization.encode() if isinstance(authorization, str) else authorization)
                request = message if name == "ModelInfer" else self._parse(name, message)
                return bytes((await call(request)).SerializeToString())
            except Exception as error:
                refused = refusal(error)
                code, details = _CODES.get(refused.status, grpc.StatusCode.INTERNAL), refused.message
                del refused  # with its traceback it would keep this frame and the request, and be kept by it
            finally:
                self._working -= 1
            message = request = b""  # grpc keeps the error, which keeps this frame
            return bytes(await context.abort(code, details))

        return answer

    def _parse(self, name: str, message: bytes) -> Any:
        try:
            return self._messages[f"{name}Request"].FromString(message)
        except DecodeError:
            raise RequestError(400, "malformed message") from None

    async def _pass_on(self, name: str, message: bytes, context: Any) -> bytes:
        kept = [(key, value) for key, value in context.invocation_metadata() or () if key == "authorization"]
        call = self._successor.unary_unary(f"/{SERVICE}/{name}")
        try:
            return bytes(await call(message, timeout=context.time_remaining(), metadata=kept))
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
        del message
        return bytes(await context.abort(code, details))

    async def _live(self, _: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._served.ready)

    async def _model_ready(self, request: Any) -> Any:
        self._served.demand(request.name, request.version)
        return self._messages["ModelReadyResponse"](ready=self._served.ready)

    async def _metadata(self, _: Any) -> Any:
        return self._messages["ServerMetadataResponse"](name="kaptain-magics", version=__version__)

    async def _model(self, request: Any) -> Any:
        self._served.demand(request.name, request.version)
        metadata = self._served.describe()
        for tensor in (*metadata["inputs"], *metadata["outputs"]):
            tensor.pop("parameters", None)
        return self._messages["ModelMetadataResponse"](**metadata)

    async def _infer(self, message: bytes) -> Any:
        metrics, started, code = self._served.metrics, perf_counter(), 499
        metrics.started()
        try:
            answer = await self._infer_counted(message)
            code = 200
        except Exception as error:
            refused = refusal(error)
            code = refused.status
            try:
                raise refused from None
            finally:
                del refused  # see ``_guarded``
        finally:
            metrics.ended("grpc", code, perf_counter() - started)
        return answer

    async def _infer_counted(self, message: bytes) -> Any:
        share = Share(self._http.budget)
        try:
            if len(message) > LARGE:
                share.take(3 * len(message))  # as bytes, as a message, as arrays
            demand_sizes(message)
            return await self._infer_read(message, share)
        finally:
            if share.give_back():
                self._http.trim_soon()

    async def _infer_read(self, message: bytes, share: Share) -> Any:
        request = self._parse("ModelInfer", message)
        self._served.demand(request.model_name, request.model_version)
        names = [output.name for output in request.outputs]
        if len(message) <= LARGE:
            inputs = _read_inputs(request)
        else:
            inputs = await asyncio.to_thread(_read_inputs, request, share.take)
        outputs = await self._served.infer(inputs, names, _read_parameters(request.parameters))
        return self._write(request, outputs)

    def _write(self, request: Any, outputs: Outputs) -> Any:
        answer = self._messages["ModelInferResponse"](
            model_name=self._served.name,
            model_version=request.model_version,
            id=request.id or str(uuid.uuid4()),
        )
        arrays = {name: as_tensor(value) for name, value in outputs.items()}
        raw = bool(request.raw_input_contents) or any(datatype not in _CONTENTS for datatype, _ in arrays.values())
        for name, (datatype, array) in arrays.items():
            tensor = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
            if raw:
                answer.raw_output_contents.append(write_raw(datatype, array))
            else:
                values = array.ravel().tolist()
                if datatype == "BYTES":
                    values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
                getattr(tensor.contents, _CONTENTS[datatype]).extend(values)
        return answer


def _take_all(_: int) -> None:
    """Refuse nothing."""


def _read_inputs(request: Any, take: Callable[[int], None] = _take_all) -> dict[str, Array]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(400, f"{len(raw)} raw contents do not fit {len(request.inputs)} inputs")
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        shape = tuple(tensor.shape)
        if not tensor.name or tensor.name in inputs or any(size < 0 for size in shape):
            raise RequestError(400, "an input has no name, is a duplicate, or has a negative shape")
        if tensor.datatype == "BYTES" and math.prod(shape) <= request.ByteSize():
            take(_TEXT * math.prod(shape))
        if raw:
            inputs[tensor.name] = read_raw(memoryview(raw[index]), tensor.datatype, shape, tensor.name)
        else:
            inputs[tensor.name] = _read_contents(tensor, shape)
    return inputs


def _read_contents(tensor: Any, shape: tuple[int, ...]) -> Array:
    dtype = dtype_of(tensor.datatype)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise RequestError(400, f"tensor {tensor.name!r}: send {tensor.datatype} as raw contents")
    values = getattr(tensor.contents, field)
    count = int(np.prod(shape, dtype=object))
    if len(values) != count:
        raise RequestError(400, f"tensor {tensor.name!r}: shape {list(shape)} needs {count} values, not {len(values)}")
    try:
        array: Array = np.empty(count, dtype=dtype)
        for start in range(0, count, _PIECE):
            array[start : start + _PIECE] = values[start : start + _PIECE]
    except OverflowError:
        raise RequestError(400, f"tensor {tensor.name!r}: a value does not fit into {tensor.datatype}") from None
    return array.reshape(shape)


def _read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    read = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            read[name] = getattr(parameter, choice)
    return read
