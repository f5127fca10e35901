"""MLflow: a pyfunc directory, laid into the folder itself.

MLflow's own formats are mostly pickles: loading one runs its code, so it is only loaded after its checksums were
compared.
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, versions
from kaptain_magics.runtime.savers.guess import framework_of
from kaptain_magics.runtime.savers.pickled import examine

FORMATS = ("mlflow",)
_ARGUMENTS = {
    "sklearn": "sk_model",
    "xgboost": "xgb_model",
    "lightgbm": "lgb_model",
    "onnx": "onnx_model",
    "pytorch": "pytorch_model",
}


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a ``PythonModel``, an object of a framework that MLflow knows, or copy an MLflow model's directory."""
    options.choose("MLflow", FORMATS)
    description = Description("mlflow", "mlflow", ".")
    if isinstance(model, (str, Path)):
        if not (Path(model) / "MLmodel").is_file():
            raise ExportError(f"{model} is not an MLflow model (no file MLmodel)", "name the model's own directory")
        shutil.copytree(model, folder, dirs_exist_ok=True)
    else:
        with _quiet():
            _write(model, folder, options.example)
        description.kind = type(model).__name__
    description.versions = versions("mlflow")
    return description


def _write(model: Any, folder: Path, example: Any) -> None:
    import mlflow.models
    import mlflow.pyfunc

    own = framework_of(model)
    flavor = {"tensorflow": "keras"}.get(own, own)
    options: dict[str, Any] = {"path": str(folder / "mlflow")}  # MLflow insists on making the directory itself
    if example is not None:
        answer = model.predict(example) if own in ("sklearn", "xgboost", "lightgbm") else None
        options["signature"] = mlflow.models.infer_signature(example, answer)
    if isinstance(model, mlflow.pyfunc.PythonModel):
        writer, options["python_model"] = mlflow.pyfunc, model
    elif flavor in ("sklearn", "xgboost", "lightgbm", "onnx", "pytorch", "keras"):
        writer, options[_ARGUMENTS.get(flavor, "model")] = importlib.import_module(f"mlflow.{flavor}"), model
    else:
        raise ExportError(
            f"MLflow cannot save a {type(model).__name__}",
            "derive it from mlflow.pyfunc.PythonModel, or name the directory of a saved MLflow model",
        )
    if flavor == "sklearn":
        options |= _for_sklearn(model, writer)
    writer.save_model(**options, pip_requirements=writer.get_default_pip_requirements())
    shutil.copytree(folder / "mlflow", folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "mlflow")


def _for_sklearn(model: Any, writer: Any) -> dict[str, Any]:
    """Return the script's modules that the model uses, and its own types as those that skops may build."""
    options: dict[str, Any] = {"code_paths": [str(path) for path in examine(model).modules] or None}
    if "skops_trusted_types" in inspect.signature(writer.save_model).parameters:
        import skops.io

        options["skops_trusted_types"] = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    return options


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's progress and hints out of the job's log, and its calls home."""
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
