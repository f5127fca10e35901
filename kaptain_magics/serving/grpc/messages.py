"""The messages of the gRPC service, built from a table when they are needed.

The table restates the public specification (kserve/open-inference-protocol, ``open_inference_grpc.proto``). Building
the classes at run time spares generated code, which is bound to one version of protobuf; a pool of our own keeps them
apart from those of other packages.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_MODEL = "name:string version:string"
_TENSOR = "name:string datatype:string shape:int64*"
_MESSAGES = {  # fields in the order of their numbers, from 1; * is repeated, % a map from strings
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": (
        "name:string versions:string* platform:string "
        "inputs:ModelMetadataResponse.TensorMetadata* outputs:ModelMetadataResponse.TensorMetadata*"
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": "bool_param:bool int64_param:int64 string_param:string double_param:double uint64_param:uint64",
    "InferTensorContents": (
        "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* uint64_contents:uint64* "
        "fp32_contents:float* fp64_contents:double* bytes_contents:bytes*"
    ),
    "ModelInferRequest": (
        "model_name:string model_version:string id:string parameters:InferParameter% "
        "inputs:ModelInferRequest.InferInputTensor* outputs:ModelInferRequest.InferRequestedOutputTensor* "
        "raw_input_contents:bytes*"
    ),
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} parameters:InferParameter% contents:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name:string parameters:InferParameter%",
    "ModelInferResponse": (
        "model_name:string model_version:string id:string parameters:InferParameter% "
        "outputs:ModelInferResponse.InferOutputTensor* raw_output_contents:bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} parameters:InferParameter% contents:InferTensorContents",
}
_ONEOF = {"InferParameter": "parameter_choice"}
_FIELD = descriptor_pb2.FieldDescriptorProto


@cache
def messages() -> dict[str, Any]:
    """Return the message classes by name."""
    file = descriptor_pb2.FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    classes: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.partition(".")
        message = classes[outer].nested_type.add(name=inner) if inner else file.message_type.add(name=outer)
        classes[name] = message
        if name in _ONEOF:
            message.oneof_decl.add(name=_ONEOF[name])
        for number, field in enumerate(fields.split(), start=1):
            _add_field(message, name, field, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{n}")) for n in _MESSAGES}


def _add_field(message: Any, owner: str, text: str, number: int) -> None:
    name, _, kind = text.partition(":")
    label = _FIELD.LABEL_REPEATED if kind[-1] in "*%" else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if owner in _ONEOF:
        field.oneof_index = 0
    if kind.endswith("%"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        for index, (part, of) in enumerate((("key", "string"), ("value", kind[:-1])), start=1):
            _set_type(entry.field.add(name=part, number=index, label=_FIELD.LABEL_OPTIONAL), of)
        _set_type(field, f"{owner}.{entry.name}")
    else:
        _set_type(field, kind.rstrip("*"))


def _set_type(field: Any, kind: str) -> None:
    if kind[0].isupper():
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = _FIELD.Type.Value(f"TYPE_{kind.upper()}")
