"""ONNX: ``model.onnx``, with its external data beside it. The format is data, not code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, versions

FORMATS = ("onnx",)
_LARGEST = 2**31 - 2**20  # bytes of one protobuf message, less room for the graph


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a ``ModelProto`` or copy an ``.onnx`` file. The loader takes inputs and outputs from the file itself."""
    import onnx

    file = folder / "model.onnx"
    options.choose("ONNX", FORMATS)
    if isinstance(model, (str, Path)):
        path = Path(model)
        model = onnx.load(str(path), load_external_data=False)
        shutil.copy2(path, file)
        for name in _external(model):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path.parent / name, folder / name)
    else:
        onnx.save_model(model, str(file), save_as_external_data=model.ByteSize() > _LARGEST, location="model.onnx.data")
    details = {"opset": max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)}
    return Description("onnx", "onnx", file.name, kind="ModelProto", versions=versions("onnx"), details=details)


def _external(model: Any) -> set[str]:
    """Return the relative paths of the files that hold the model's large tensors."""
    paths = set()
    for initializer in model.graph.initializer:
        for entry in initializer.external_data:
            if entry.key == "location":
                if Path(entry.value).is_absolute() or ".." in Path(entry.value).parts:
                    raise ExportError(
                        f"the model's data lies outside its folder: {entry.value}", "save it in one folder"
                    )
                paths.add(entry.value)
    return paths
