"""Models of PyTorch: exported programs (``.pt2``), TorchScript (``.pt``), or a ``state_dict`` with its class's file.

Weights are read with ``weights_only``, so a pickled module is refused, but for one that ``kaptain.save_model`` saved
whole and describes as such. An exported program is a graph. TorchScript runs in an interpreter of its own. The class's
file of a ``state_dict`` and a handler are Python of the model's author.

Of ``serving_config``, ``model_file`` (the class's file), ``serialized_file`` (the weights) and ``handler`` (a built-in
one's name, or a file) mean what they mean for TorchServe.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.errors import ServingError
from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.serving.loaders.base import find_file, require
from kaptain_magics.serving.loaders.described import (
    declared_signature,
    import_file,
    is_batchable,
    read_description,
    thread_limit,
)
from kaptain_magics.serving.loaders.torch_model import TorchModel
from kaptain_magics.serving.signature import LoadedModel, Signature, TensorSpec

_FILES = ("model.pt2", "*.pt2", "model.pt", "*.pt", "*.pth")


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Load the one model file of ``folder``, or the one that ``config["serialized_file"]`` names."""
    torch = require("torch", "torch")
    torch.set_num_threads(thread_limit())
    described = read_description(folder)
    named = Path(config.get("serialized_file", "")).name
    path = find_file(folder, (named,) if named else _FILES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's: the model is as it is
        if described.format == "module":
            model = TorchModel("pytorch_module", _unpickled(torch, path))
        elif path.suffix == ".pt2":
            model = _load_program(torch, path)
        elif _is_script(path):
            model = TorchModel("pytorch_torchscript", torch.jit.load(path, map_location=_device(torch)).eval())
        else:
            file = Path(config.get("model_file", "") or described.details.get("model_file", "")).name
            model = TorchModel("pytorch_state_dict", _build(torch, folder, path, file, described.details))
    model.signature = declared_signature(described, model.signature)
    model.batchable = is_batchable(model.signature)
    if config.get("handler"):
        from kaptain_magics.serving.loaders.torch_handler import handled

        return handled(model, folder, path, config["handler"])
    return model


def _device(torch: Any) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _unpickled(torch: Any, path: Path) -> Any:
    try:
        return torch.load(path, map_location=_device(torch), weights_only=False).eval()
    except Exception as error:  # a pickle may raise anything
        raise ServingError(
            f"{path.name} cannot be loaded: {type(error).__name__}: {error}",
            "serve it with the versions that saved it, and with what its module imports among the requirements",
        ) from error


def _is_script(path: Path) -> bool:
    """Whether the file is TorchScript, which holds code of its own beside the weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load_program(torch: Any, path: Path) -> TorchModel:
    try:
        program = torch.export.load(path)
    except Exception as error:  # what it raises depends on how the file is damaged
        raise ServingError(
            f"{path.name} cannot be loaded by torch {torch.__version__}: {error}", "save it with the same version"
        ) from error
    if _device(torch) != "cpu":
        program = torch.export.passes.move_to_device_pass(program, _device(torch))
    given = set(program.graph_signature.user_inputs)
    inputs = [_spec(node.name, node.meta["val"]) for node in program.graph.nodes if node.name in given]
    returned = next(node for node in program.graph.nodes if node.op == "output").args[0]
    values = returned[-len(program.graph_signature.user_outputs) :]
    keys = program.call_spec.out_spec.context if program.call_spec.out_spec.type is dict else None
    names = keys or [f"output_{index}" for index in range(len(values))]
    outputs = [_spec(str(n), v.meta["val"]) for n, v in zip(names, values, strict=True) if hasattr(v, "meta")]
    keywords = program.call_spec.in_spec.children()[1].context
    return TorchModel("pytorch_export", program.module(), Signature(tuple(inputs), tuple(outputs)), keywords)


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, datatype_of(value.dtype), shape)


def _build(torch: Any, folder: Path, path: Path, file: str, details: Mapping[str, Any]) -> Any:
    """Make an object of the model file's class and give it the weights."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling errors of several kinds
        raise ServingError(
            f"{path.name} holds more than weights, so it is not loaded",
            "save with kaptain.save_model(net, example=X[:2]), or torch.save(net.state_dict(), ...) and model_file",
        ) from error
    if not file:
        raise ServingError(
            f"{path.name} holds weights without a model", 'name the file of its class in serving_config["model_file"]'
        )
    module = import_file(folder / file)
    kinds = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, torch.nn.Module)
        and value.__module__ == module.__name__
        and name == details.get("class", name)
    ]
    if len(kinds) != 1:
        names = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise ServingError(f"{file} must define one torch.nn.Module, it has {names}", "leave one in that file")
    try:
        model = kinds[0]()
        model.load_state_dict(weights.get("state_dict", weights))
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ServingError(f"the weights do not fit {kinds[0].__name__} of {file}: {error}") from error
    return model.to(_device(torch)).eval()
