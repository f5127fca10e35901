"""Handlers as TorchServe has them: what turns a request into tensors, and the module's answer into the response.

``image_classifier`` is built in: it takes encoded images (``BYTES``) or tensors, and answers the best class as
``predict`` and the probabilities as ``predict_proba``. Every other handler is a Python file of the model's author, with
a class that has ``preprocess``, ``inference`` or ``postprocess``, or ``handle(data, context)``; and, if it likes,
``initialize(context)``. ``data`` is a list with ``{"data": row}`` for every row; so many entries has the result.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.loaders.base import require
from kaptain_magics.serving.loaders.described import import_file
from kaptain_magics.serving.loaders.torch_model import TorchModel
from kaptain_magics.serving.protocol.shapes import advice, fits, mismatch
from kaptain_magics.serving.signature import Array, LoadedModel, Signature, TensorSpec

_STEPS = ("handle", "preprocess", "inference", "postprocess")
_LARGE, _CROP = 256, 224  # pixels: what TorchServe gives to a model without a signature
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel


def handled(model: TorchModel, folder: Path, weights: Path, handler: str) -> LoadedModel:
    """Put a handler before and behind a model.

    Raises:
        ServingError: There is no such handler.
    """
    if handler == "image_classifier":
        return ImageClassifier(model, _class_names(folder))
    if not handler.endswith(".py"):
        raise ServingError(f"there is no built-in handler {handler!r}", "image_classifier, or a Python file")
    file = folder / Path(handler).name
    module = import_file(file)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and any(hasattr(value, s) for s in _STEPS)
    ]
    if not classes and not hasattr(module, "handle"):
        raise ServingError(f"{file.name} has no handler", f"define a class with one of {', '.join(_STEPS)}")
    context = SimpleNamespace(
        system_properties={"model_dir": str(folder), "gpu_id": None},
        manifest={"model": {"serializedFile": weights.name, "handler": file.name}},
        model_yaml_config={},
    )
    return HandlerModel(model, classes[0]() if classes else module, context)


def _class_names(folder: Path) -> list[str]:
    """Return the names in ``index_to_name.json``, which TorchServe takes from the model's folder too."""
    file = folder / "index_to_name.json"
    if not file.is_file():
        return []
    names = json.loads(file.read_text("utf-8"))
    return [_last(names[str(index)]) for index in range(len(names))]


def _last(name: Any) -> str:
    return str(name[-1] if isinstance(name, list) else name)


class HandlerModel:
    """A model behind a handler of a file."""

    batchable = False

    def __init__(self, model: TorchModel, handler: Any, context: Any) -> None:
        self.platform = model.platform
        self.signature = Signature()
        self._model = model
        self._handler = handler
        self._context = context
        if hasattr(handler, "initialize"):
            handler.initialize(context)
        elif not hasattr(handler, "handle"):
            handler.model, handler.device = model.module, model.device

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Give the rows to the handler; its entries become the output ``predict``."""
        if any(name != "predict" for name in outputs):
            raise InferenceError("a handler answers one output, predict")
        names = ["data"] if len(inputs) == 1 else list(inputs)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
        return {"predict": _entries(self._handle(rows))}

    def _handle(self, rows: list[dict[str, Any]]) -> Any:
        if hasattr(self._handler, "handle"):
            return self._handler.handle(rows, self._context)
        import torch

        with torch.inference_mode():
            if hasattr(self._handler, "preprocess"):
                given = self._handler.preprocess(rows)
            else:
                given = self._model.tensor(np.stack([np.asarray(row["data"]) for row in rows]))
            infer = self._handler.inference if hasattr(self._handler, "inference") else self._model.module
            answer = infer(given)
            return self._handler.postprocess(answer) if hasattr(self._handler, "postprocess") else answer


def _entries(result: Any) -> Array:
    """Return a handler's list as an array; entries that are dicts as JSON."""
    if hasattr(result, "detach"):
        return np.asarray(result.detach().cpu().numpy())
    entries = list(result)
    if any(isinstance(entry, dict) for entry in entries):
        entries = [json.dumps(entry) for entry in entries]
    return np.asarray(entries)


class ImageClassifier:
    """A classifier of images: ``predict`` is the best class, by name where the folder has ``index_to_name.json``."""

    def __init__(self, model: TorchModel, names: Sequence[str]) -> None:
        self.platform = model.platform
        self.batchable = model.batchable
        self._model = model
        self._names = np.asarray(names)
        specs = model.signature.inputs
        self._shape = specs[0].shape[1:] if specs and len(specs[0].shape) == 4 else (3, -1, -1)
        label = TensorSpec("predict", "BYTES" if names else "INT64", (-1,))
        self.signature = Signature((), (label, TensorSpec("predict_proba", "FP32", (-1, len(names) or -1), True)))

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> Mapping[str, Array]:
        """Classify encoded images, or tensors as the module takes them."""
        if len(inputs) != 1:
            raise InferenceError("send the images as one tensor")
        (images,) = inputs.values()
        if images.dtype == object:
            images = np.stack([self._decode(image) for image in images.ravel()])
        specs = self._model.signature.inputs
        if specs and not fits(images.shape, specs[0].shape):  # a module that flattens would take any order of axes
            hint = advice(images.shape, specs[0].shape)
            raise InferenceError(mismatch(specs[0].name, images.shape, specs[0].shape) + (f" ({hint})" if hint else ""))
        name = specs[0].name if specs else "data"
        (scores,) = self._model.predict({name: images}, (), parameters).values()
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        best = scores.argmax(axis=1)
        answers = {
            "predict": self._names[best] if len(self._names) else best,
            "predict_proba": powers / powers.sum(axis=1, keepdims=True),
        }
        return {name: answers[name] for name in outputs or ("predict",)}

    def _decode(self, data: bytes | str) -> Array:
        """Return an encoded image as the module takes it: ``[channels, height, width]`` from 0 to 1, float32."""
        image_module = require("PIL.Image", "pillow")
        channels, height, width = self._shape
        try:
            raw = data if isinstance(data, bytes) and not data.isascii() else base64.b64decode(data, validate=True)
            image = image_module.open(io.BytesIO(raw)).convert("L" if channels == 1 else "RGB")
        except (OSError, binascii.Error, ValueError) as error:
            raise InferenceError(
                "the tensor holds no image: send the bytes of a PNG or JPEG, or their base64"
            ) from error
        if height > 0 and width > 0:
            image = image.resize((width, height))
        else:
            image = _crop(image)
        values = np.asarray(image, dtype=np.float32) / 255
        if channels == 1:
            return values[None]
        normal = (values - np.asarray(_MEAN, np.float32)) / np.asarray(_DEVIATION, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _crop(image: Any) -> Any:
    """Scale the shorter side to 256 pixels and cut out the middle 224 x 224."""
    factor = _LARGE / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)))
    left, top = (image.width - _CROP) // 2, (image.height - _CROP) // 2
    return image.crop((left, top, left + _CROP, top + _CROP))
