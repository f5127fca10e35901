"""``save_model``: every framework's model in its safest native format, with a description of it beside.

One module per framework, imported only when a model of its framework is saved; the framework follows from the object's
own classes, so no library is imported to find out.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.runtime import observe
from kaptain_magics.runtime.channel import say
from kaptain_magics.runtime.framework_aliases import canonical_name
from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, Tensor, copy_into, versions
from kaptain_magics.runtime.savers.guess import framework_of, other_savers

SAVERS = ("sklearn", "xgboost", "lightgbm", "onnx", "pytorch", "tensorflow", "mlflow", "python")
_shown: set[str] = set()  # notes of this process
_SAVABLE = (
    "models of scikit-learn, XGBoost, LightGBM, ONNX, PyTorch, TensorFlow, Keras and MLflow, other objects with a"
    " predict method, and the path of a Python file with predict(inputs)"
)


def save_model(
    model: Any,
    *,
    framework: str | None = None,
    name: str | None = None,
    signature: Mapping[str, Any] | str | None = None,
    format: str | None = None,  # noqa: A002 - the word that people write
    example: Any = None,
    extra_files: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Save a trained model as this job's result.

    Code of the script that the model uses is saved with it, by value, and a line says so. An object that no server
    could load is kept as a pickle, with a warning that says why and what to change: no training is lost for that.

    Args:
        model: The fitted object, or the path of a file or folder that its own library saved.
        framework: Framework by its name. Only where the object does not show it, such as a path; ``"mlflow"`` saves
            another framework's object as an MLflow model.
        name: The model's name, kept in its description.
        signature: Inputs and outputs as the protocol's metadata has them, ``{"inputs": [{"name", "datatype",
            "shape"}], "outputs": [...]}``, or JSON of it; without it they are taken from the model and the example.
        format: File format, such as ``"skops"``; without it the safest one of the framework.
        example: Rows as the model takes them: datatypes and output shapes are taken from them, and PyTorch exports
            with them. They are not saved.
        extra_files: Files and folders that go beside the model, such as modules that it imports.

    Returns:
        URI of the folder that holds it; outside a job the path of ``models/NAME``, named after the model or the script.

    Raises:
        ExportError: The object cannot even be kept, or a path that it names is not there.

    Example:
        The last lines of a training script::

            clf = svm.SVC(gamma=gamma).fit(X_train, y_train)
            kaptain.save_model(clf, example=X_train[:2])
    """
    from kaptain_magics.runtime.channel import say
    from kaptain_magics.runtime.export import upload_folder
    from kaptain_magics.runtime.savers.kept import keep, notes_of

    with tempfile.TemporaryDirectory(prefix="kaptain-model-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        try:
            description = write_model(
                model,
                folder,
                framework=framework,
                name=name,
                signature=signature,
                format=format,
                example=example,
                extra_files=extra_files,
            )
        except OSError:  # a full disk keeps nothing else either
            raise
        except Exception as error:  # ours, and whatever a library raises for a model that it cannot save
            why = error if isinstance(error, ExportError) else _failed(model, error)
            folder = Path(temporary) / "kept"
            folder.mkdir()
            description = keep(model, folder, why)
        uri = upload_folder(folder, description.framework, description.format, name or "")
        for note in notes_of(description):
            if note["text"] not in _shown:  # a script may save after every epoch
                _shown.add(note["text"])
                say(note["text"], note["hint"], warning=note.get("warning", False))
        return uri


def write_model(
    model: Any,
    folder: Path,
    *,
    framework: str | None = None,
    name: str | None = None,
    signature: Mapping[str, Any] | str | None = None,
    format: str | None = None,  # noqa: A002
    example: Any = None,
    extra_files: Sequence[str | os.PathLike[str]] = (),
) -> Description:
    """Write a model and its description into ``folder``, which exists and is empty; see ``save_model``.

    Raises:
        ExportError: The object cannot be saved.
    """
    chosen = _choose(model, framework or "")
    others = [] if chosen in SAVERS else other_savers(chosen)
    if chosen not in SAVERS and not others:
        raise _refusal(model, chosen)
    if _is_path(model):
        model = Path(model)
        if not model.exists():
            raise ExportError(f"there is no file or folder {model}", "check the name and the working directory")
    options = SaveOptions(format or "", example, tuple(Path(path) for path in extra_files))
    try:
        saver = others[0].load() if others else importlib.import_module(f"kaptain_magics.runtime.savers.{chosen}")
        description: Description = saver.save(model, folder, options)
    except ModuleNotFoundError as error:
        raise ExportError(
            f"saving this {type(model).__name__} needs {error.name}, which is not installed here",
            f"add it to the requirements, or: pip install {(error.name or '').replace('_', '-')}",
        ) from None
    description.name = name or ""
    description.versions = description.versions or versions()
    if signature:
        description.inputs, description.outputs = _read_signature(signature)
        description.signature_source = "signature"
    copy_into(folder, options.extra_files)
    _write_inputs(model, description, options, folder)
    description.write(folder)
    return description


def _write_inputs(model: object, description: Description, options: SaveOptions, folder: Path) -> None:
    """Write down what the model was fitted on, else what the example is, or say that the inputs will be guessed."""
    fitted = observe.fitted_on(model)
    if fitted is None and options.example is not None:
        fitted = observe.describe_rows(options.example)
    if fitted is not None:
        fitted.write(folder)
        if fitted.columns and description.signature_source != "signature":
            description.columns = [column.name for column in fitted.columns]
            description.inputs = [{"name": c.name, "datatype": c.datatype, "shape": [-1]} for c in fitted.columns]
    elif description.columns and description.framework in ("sklearn", "lightgbm", "xgboost"):
        say(
            f"the data that this {description.kind} was fitted on was not seen: an endpoint will take its columns as"
            " numbers, those of an encoder of texts as texts",
            "give rows with their dtypes: save_model(model, example=X[:5])",
            warning=True,
        )


def _choose(model: object, named: str) -> str:
    """Return the framework that saves ``model``: its own, where its classes show it, before the one that was named."""
    named = canonical_name(named)
    own = framework_of(model)
    if own or named == "mlflow":
        return "mlflow" if named == "mlflow" else own
    if _is_path(model):
        return named
    if callable(getattr(model, "predict", None)):
        return "sklearn" if getattr(model, "__dict__", None) else "python"
    return ""


def _is_path(model: object) -> bool:
    return isinstance(model, (str, os.PathLike))


def _refusal(model: object, framework: str) -> ExportError:
    if framework:
        return ExportError(f"{framework} models cannot be saved", f"supported: {_SAVABLE}")
    if _is_path(model):
        return ExportError(
            f"cannot tell the framework of {model}", f"name it: framework=..., one of {', '.join(SAVERS)}"
        )
    kind = type(model)
    return ExportError(f"a {kind.__module__}.{kind.__qualname__} cannot be saved", f"supported: {_SAVABLE}")


def _failed(model: object, error: Exception) -> ExportError:
    reason = next(iter(str(error).splitlines()), "")
    return ExportError(
        f"saving this {type(model).__name__} failed: {type(error).__name__}: {reason}",
        "save it with its library's own function, and that file with kaptain.save_model(PATH)",
    )


def _read_signature(signature: Mapping[str, Any] | str) -> tuple[list[Tensor], list[Tensor]]:
    try:
        stated = json.loads(signature) if isinstance(signature, str) else signature
        sides = [[_tensor(tensor) for tensor in stated.get(side, ())] for side in ("inputs", "outputs")]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ExportError(
            f"invalid signature: {error}",
            'write {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "outputs": [...]}',
        ) from None
    return sides[0], sides[1]


def _tensor(spec: Mapping[str, Any]) -> Tensor:
    return {"name": str(spec["name"]), "datatype": str(spec["datatype"]), "shape": [int(n) for n in spec["shape"]]}
