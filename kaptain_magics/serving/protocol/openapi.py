"""The server's description of itself: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from kaptain_magics import __version__
from kaptain_magics.serving.protocol.datatypes import DTYPES

_PARAMETERS = {"type": ["object", "null"], "additionalProperties": True}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 32}
_DATATYPE = {"type": "string", "enum": list(DTYPES)}
_SIGNATURE = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": _DATATYPE,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
            "parameters": _PARAMETERS,
        },
    },
}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_SCHEMAS = {
    "Error": _object(("error",), error={"type": "string"}),
    "Live": _object(("live",), live={"const": True}),
    "Ready": _object(("ready",), name={"type": "string"}, ready={"type": "boolean"}),
    "Server": _object(
        ("name", "version", "extensions"),
        name={"type": "string"},
        version={"type": "string"},
        extensions={"type": "array", "items": {"type": "string"}},
    ),
    "Model": _object(
        ("name", "versions", "platform", "inputs", "outputs"),
        name={"type": "string"},
        versions={"type": "array", "items": {"type": "string"}},
        platform={"type": "string"},
        inputs=_SIGNATURE,
        outputs=_SIGNATURE,
    ),
    "Input": _object(
        ("name", "shape", "datatype", "data"),
        name={"type": "string", "minLength": 1},
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_PARAMETERS,
        data={"type": "array"},
    ),
    "Output": _object(
        ("name", "shape", "datatype"),
        name={"type": "string"},
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_PARAMETERS,
        data={"type": "array"},
    ),
    "InferRequest": _object(
        ("inputs",),
        id={"type": ["string", "null"]},
        parameters=_PARAMETERS,
        inputs={"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Input"}},
        outputs={
            "type": ["array", "null"],
            "items": _object(("name",), name={"type": "string"}, parameters=_PARAMETERS),
        },
    ),
    "InferAnswer": _object(
        ("model_name", "model_version", "id", "parameters", "outputs"),
        model_name={"type": "string"},
        model_version={"type": ["string", "null"]},
        id={"type": "string"},
        parameters=_PARAMETERS,
        outputs={"type": "array", "items": {"$ref": "#/components/schemas/Output"}},
    ),
    "PredictRequest": _object(("instances",), instances={"type": "array", "minItems": 1}),
    "PredictAnswer": _object(("predictions",), predictions={"type": "array"}),
}
_CODES = {
    "400": "The request is malformed, or does not fit the model",
    "401": "The bearer token is missing or wrong",
    "404": "There is no such model or version",
    "405": "The path does not have this method",
    "408": "The request did not arrive in time",
    "413": "The body is too large",
    "415": "The body has another type or encoding",
    "431": "The request's line and headers are too large",
    "500": "The model failed",
    "503": "The model is not ready, or too many requests wait",
}


def describe_api(model: str, version: str) -> dict[str, Any]:
    """Return the description of a server, with the paths of its model."""
    v2, v1 = f"/v2/models/{model}", f"/v1/models/{model}"
    paths = {
        "/v2/health/live": {"get": _operation("Whether the server is alive", "Live")},
        "/v2/health/ready": {"get": _operation("Whether the server can answer", "Ready")},
        "/v2": {"get": _operation("The server's metadata", "Server")},
        "/metrics": {"get": _operation("Counters for Prometheus", "")},
        v1: {"get": _operation("Whether the model is ready (V1)", "Ready")},
        f"{v1}:predict": {"post": _operation("Predict (V1)", "PredictAnswer", "PredictRequest")},
    }
    for base in (v2, f"{v2}/versions/{version}"):
        paths[base] = {"get": _operation("The model's metadata", "Model")}
        paths[f"{base}/ready"] = {"get": _operation("Whether the model is ready", "Ready")}
        paths[f"{base}/infer"] = {"post": _operation("Infer", "InferAnswer", "InferRequest")}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{model} (Open Inference Protocol)", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(summary: str, answer: str, request: str = "") -> dict[str, Any]:
    content = {"application/json": _schema(answer)} if answer else {"text/plain": {"schema": {"type": "string"}}}
    codes = _CODES if request else {code: _CODES[code] for code in ("401", "405", "408", "431", "503")}
    failures = {
        code: {"description": meaning, "content": {"application/json": _schema("Error")}}
        for code, meaning in codes.items()
    }
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "The answer", "content": content}, **failures},
    }
    if request:
        operation["requestBody"] = {"required": True, "content": {"application/json": _schema(request)}}
    return operation


def _schema(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}
