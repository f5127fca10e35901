"""PyTorch: an exported program ``model.pt2``, TorchScript ``model.pt``, or a ``state_dict`` with its class's file.

* ``pt2`` needs ``example``, one batch as the model takes it. It is a graph and its weights; the example's own values
  are not kept.
* ``torchscript`` needs no example; it is taken where none is given. PyTorch has deprecated it.
* ``state_dict`` is weights only; a server builds the class from the file that defines it.
* ``module`` is the weights with the object itself, and with the code of its class where that is the script's: a pickle.
  It is taken where none is asked for and TorchScript and ``torch.export`` do not understand the module.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, copy_into, tensor, versions
from kaptain_magics.runtime.savers.pickled import cloudpickle, examine, is_installed

FORMATS = ("pt2", "torchscript", "state_dict", "module")


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a module, an exported program or a script module; the model itself is left as it was."""
    if isinstance(model, (str, Path)):
        suffix = Path(model).suffix.lstrip(".")
        shutil.copy2(model, folder / f"model.{suffix}")
        return Description("pytorch", suffix, f"model.{suffix}")
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return _write_program(model, folder, model.graph_module)
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    if type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
        model = model.module
    script = isinstance(model, torch.jit.ScriptModule)
    default = FORMATS if options.example is not None and not script else ("torchscript", "pt2", "state_dict", "module")
    kind = options.choose("PyTorch", default)
    with _for_inference(model) as module:
        try:
            if kind == "pt2":
                return _write_program(_export(module, options.example), folder, model)
            if kind == "state_dict":
                return _write_weights(module, folder, options)
            if kind == "torchscript":
                return _write_script(module, folder, options)
        except Exception:  # torch.export has errors of many kinds
            if options.format or script:
                raise
        return _write_module(module, folder, options)


@contextmanager
def _for_inference(model: Any) -> Iterator[Any]:
    """Lend the module in evaluation mode and on the CPU."""
    import torch

    if any(p.device.type != "cpu" for p in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).cpu()
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's, which the caller has chosen
            yield model
    finally:
        for module, training in modes:
            module.training = training


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the example as tensors on the CPU, of at least two rows: a batch of one would be taken as fixed."""
    import torch

    def whole(value: Any) -> Any:
        rows = (value if isinstance(value, torch.Tensor) else torch.as_tensor(value)).detach().cpu()
        return rows.repeat(2, *[1] * (rows.dim() - 1)) if rows.dim() and len(rows) == 1 else rows

    if isinstance(example, Mapping):
        return (), {name: whole(value) for name, value in example.items()}
    return tuple(whole(value) for value in (example if isinstance(example, tuple) else (example,))), {}


def _export(module: Any, example: Any) -> Any:
    import torch

    if example is None:
        raise ExportError(
            "torch.export needs one batch that the model takes", "write save_model(net, example=X[:2]) with a tensor"
        )
    args, kwargs = _arguments(example)
    batch = torch.export.Dim.AUTO
    dynamic = [{0: batch} if value.dim() else {} for value in (*args, *kwargs.values())]
    shapes = tuple(dynamic) if args else dict(zip(kwargs, dynamic, strict=True))
    return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)


def _write_program(program: Any, folder: Path, model: Any) -> Description:
    import torch

    example, program.example_inputs = program.example_inputs, None  # rows of the training data stay here
    try:
        torch.export.save(program, folder / "model.pt2")
    finally:
        program.example_inputs = example
    return Description("pytorch", "pt2", "model.pt2", kind=type(model).__name__, versions=versions("torch"))


def _write_script(module: Any, folder: Path, options: SaveOptions) -> Description:
    import torch

    try:
        script = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
    except Exception as error:  # whatever its compiler does not understand
        raise ExportError(
            f"{type(module).__name__} cannot become TorchScript: {_first_line(error)}",
            "pass one batch, save_model(net, example=X[:2]), and it is exported by torch.export",
        ) from None
    script.save(str(folder / "model.pt"))
    description = Description("pytorch", "torchscript", "model.pt", kind=type(module).__name__)
    description.versions = versions("torch")
    if options.example is not None:
        _describe_call(description, script, options.example)
    return description


def _write_module(module: Any, folder: Path, options: SaveOptions) -> Description:
    """Pickle the module as it is; its weights lie beside the pickle in the file, as ``torch.save`` writes them."""
    import torch

    contents = examine(module)
    pickler: Any = cloudpickle() if contents.by_value else pickle
    torch.save(module, folder / "model.pt", pickle_module=pickler)
    taken = {path.name for path in options.extra_files}
    copy_into(folder, [path for path in contents.modules if path.name not in taken])
    description = Description("pytorch", "module", "model.pt", kind=type(module).__name__, versions=versions("torch"))
    contents.describe(description)
    if options.example is not None:
        _describe_call(description, module, options.example)
    return description


def _write_weights(module: Any, folder: Path, options: SaveOptions) -> Description:
    import torch

    kind = type(module)
    file = _class_file(kind, options)
    parameters = inspect.signature(kind).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    if needed:
        raise ExportError(
            f"a server cannot build {kind.__name__}: it needs {', '.join(needed)}", "give these arguments defaults"
        )
    torch.save(module.state_dict(), folder / "model.pt")
    if file not in options.extra_files:
        shutil.copy2(file, folder / file.name)
    description = Description("pytorch", "state_dict", "model.pt", kind=kind.__name__, versions=versions("torch"))
    description.details = {"model_file": file.name, "class": kind.__name__}
    if options.example is not None:
        _describe_call(description, module, options.example)
    return description


def _class_file(kind: type, options: SaveOptions) -> Path:
    """Return the file that defines the module's class."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is not None and is_installed(Path(file)):
        raise ExportError(
            f"{kind.__module__}.{kind.__name__} cannot be built again from its weights alone",
            "pass one batch, save_model(net, example=X[:2]), or put it into a class of a file of your own",
        )
    if file is not None and kind.__module__ != "__main__":
        return Path(file)
    for path in options.extra_files:
        if path.suffix == ".py" and f"class {kind.__name__}" in path.read_text("utf-8"):
            return path
    raise ExportError(
        f"the class {kind.__name__} is defined in the script itself, which a server does not run",
        "write it to a file of its own (%%writefile model.py) and import it from there, or pass example=X[:2]",
    )


def _describe_call(description: Description, module: Any, example: Any) -> None:
    args, kwargs = _arguments(example)
    answer = module(*args, **kwargs)
    names = [*kwargs] or list(inspect.signature(module.forward).parameters)[: len(args)]
    description.inputs = [tensor(n, v) for n, v in zip(names, (*args, *kwargs.values()), strict=True)]
    if not isinstance(answer, Mapping):
        parts = answer if isinstance(answer, (tuple, list)) else (answer,)
        answer = {f"output_{index}": part for index, part in enumerate(parts)}
    description.outputs = [tensor(name, value) for name, value in answer.items()]
    description.signature_source = "example"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
