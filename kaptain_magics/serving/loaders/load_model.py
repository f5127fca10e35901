"""Which loader serves which framework. A new framework is one module and one row here, or an entry point elsewhere.

A loader is a function ``load(folder, config) -> LoadedModel``. The folder is verified before (``serving.artifact``);
``config`` holds the model server's options (``serving_config``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from kaptain_magics.core import plugins
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import FrameworkError, ServingError
from kaptain_magics.runtime.framework_aliases import FRAMEWORKS_GROUP
from kaptain_magics.serving.loaders.described import check_loadable, read_description, use_modules, warn_of_versions
from kaptain_magics.serving.protocol.datatypes import dtype_of
from kaptain_magics.serving.signature import LoadedModel, Signature

LOADERS: dict[str, str] = {
    ModelFramework.SKLEARN: "kaptain_magics.serving.loaders.sklearn",
    ModelFramework.XGBOOST: "kaptain_magics.serving.loaders.xgboost",
    ModelFramework.LIGHTGBM: "kaptain_magics.serving.loaders.lightgbm",
    ModelFramework.ONNX: "kaptain_magics.serving.loaders.onnx",
    ModelFramework.PYTORCH: "kaptain_magics.serving.loaders.pytorch",
    ModelFramework.TENSORFLOW: "kaptain_magics.serving.loaders.tensorflow",
    ModelFramework.MLFLOW: "kaptain_magics.serving.loaders.mlflow",
    ModelFramework.PYTHON: "kaptain_magics.serving.loaders.python",
}


def load_model(framework: ModelFramework, folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Load a verified folder with its framework's loader. A declared signature replaces the model's own.

    Raises:
        FrameworkError: The framework cannot be served, or its library is missing.
        ServingError: The folder holds no model of the framework.
    """
    if framework not in LOADERS and framework not in (servable := plugins.names(FRAMEWORKS_GROUP, LOADERS)):
        raise FrameworkError(f"{framework} models cannot be served", "one of " + ", ".join(servable))
    declared = read_signature(folder, config)
    description = read_description(folder)
    check_loadable(description)
    use_modules(folder)
    model: LoadedModel = plugins.load(FRAMEWORKS_GROUP, LOADERS, framework, "framework").load(folder, config)
    if declared is not None:
        model.signature = declared
    warn_of_versions(description)
    return model


def read_signature(folder: Path, config: Mapping[str, str]) -> Signature | None:
    """Return the signature that ``config["signature"]`` declares: JSON, or a JSON file of the folder.

    Its form is that of the protocol's metadata: ``{"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}``.

    Raises:
        ServingError: It is not of that form.
    """
    text = config.get("signature", "")
    if not text:
        return None
    try:
        data = text.encode() if text.lstrip().startswith("{") else (folder / text).read_bytes()
        signature = msgspec.json.decode(data, type=Signature)
        for tensor in (*signature.inputs, *signature.outputs):
            dtype_of(tensor.datatype)
    except OSError as error:
        raise ServingError(f"signature file {text!r} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ServingError) as error:
        raise ServingError(
            f"invalid signature: {error}",
            'write {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "outputs": [...]}',
        ) from error
    return signature
