"""Export of a trained model from inside a job: files go to ``TRAINED_MODEL_UPLOAD_PATH``, the fact to the channel.

Several calls in one job add to the same folder; its manifest is written again, last, by each. Outside a job, as in
``python train.py``, the folder is ``models/NAME`` here, and that of an earlier run is replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kaptain_magics.runtime import observe
from kaptain_magics.runtime.channel import emit, say
from kaptain_magics.runtime.fitted import INPUTS_FILE
from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST
from kaptain_magics.runtime.transfer import connect, files_below, upload_files

_OBJECTS = (".joblib", ".pkl", ".pickle", ".skops", ".ubj", ".json", ".txt")  # files of models that are fitted
VERSION_FOLDER = "0001"  # where TensorFlow's servers look for a SavedModel
_saved_here: set[Path] = set()  # folders that this process has saved into outside a job: further calls add to them


def upload_folder(
    folder: Path,
    framework: str = "",
    format: str = "",  # noqa: A002 - the manifest's field
    name: str = "",
) -> str:
    """Save all files of a folder as the job's model.

    Args:
        folder: The folder; its files keep their relative paths.
        framework: The framework that the model is for; the job's own when empty.
        format: The file format, such as ``joblib``.
        name: What the folder is called outside a job; after the script when empty.

    Returns:
        The URI of the saved folder.

    Raises:
        ExportError: The folder is empty, or outside a job something else is in the place of the model.
        TransferError: The store refused.
    """
    target = _target(name)
    files = files_below(_existing(folder))
    if not files:
        raise ExportError(f"the folder {folder} is empty", "save the model into it first")
    return _save(target, files, framework, format)


def upload_model(path: str | Path, extra_files: str | Path | Iterable[str | Path] | None = None) -> str:
    """Save a model's file or folder, and further files beside it, as the job's model.

    A file keeps its name, a folder's files their relative paths. A TensorFlow SavedModel goes into ``0001/``.

    Args:
        path: The model's file or folder.
        extra_files: Files and folders to save under their own names beside it.

    Returns:
        The URI of the saved folder.

    Raises:
        ExportError: A file is not there, or outside a job something else is in the place of the model.
        TransferError: The store refused.
    """
    target = _target()
    model = _existing(path)
    files = {model.name: model} if model.is_file() else files_below(model)
    if not files:
        raise ExportError(f"the folder {path} is empty", "save the model into it first")
    saved_model = "saved_model.pb" in files and model.is_dir()
    if saved_model:
        files = {f"{VERSION_FOLDER}/{name}": source for name, source in files.items()}
    for extra in [extra_files] if isinstance(extra_files, str | Path) else extra_files or ():
        files |= _files_of(_existing(extra))
    if MANIFEST in files:
        raise ExportError(f"{MANIFEST} is written by the export itself", "give that file another name")
    with tempfile.TemporaryDirectory(prefix="kaptain-inputs-") as temporary:
        fitted = observe.only_fit() if model.suffix.lower() in _OBJECTS else None
        if fitted is not None and INPUTS_FILE not in files:
            fitted.write(Path(temporary))
            files = {**files, INPUTS_FILE: Path(temporary, INPUTS_FILE)}
        return _save(target, files, "", "saved_model" if saved_model else _format(model, files))


def _files_of(extra: Path) -> Mapping[str, Path]:
    if extra.is_file():
        return {extra.name: extra}
    return {f"{extra.name}/{name}": source for name, source in files_below(extra).items()}


def _format(model: Path, files: Mapping[str, Path]) -> str:
    if "MLmodel" in files:
        return "mlflow"
    return model.suffix.lstrip(".").lower() if model.is_file() else ""


def _save(target: str, files: Mapping[str, Path], framework: str, format_: str) -> str:
    framework = framework or os.environ.get("KAPTAIN_FRAMEWORK", "")
    if not os.environ.get("TRAINED_MODEL_UPLOAD_PATH"):
        return _save_here(Path(target), files, framework, format_)
    saved = upload_files(connect(target), files, target, framework, format_, merge=True)
    emit({"kind": "artifact", **saved._asdict(), "uri": target})
    return target


def _save_here(folder: Path, files: Mapping[str, Path], framework: str, format_: str) -> str:
    """Save into a folder outside a job; what an earlier process saved there is gone when this is complete."""
    before = folder.with_name(f".{folder.name}.before")
    if folder not in _saved_here and folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
    try:
        saved = upload_files(connect(str(folder)), files, str(folder), framework, format_, merge=True)
    except BaseException:
        if before.exists():
            shutil.rmtree(folder, ignore_errors=True)
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)
    _saved_here.add(folder)
    shown = os.path.relpath(folder)
    hint = f"to serve it: %kaptain_deploy NAME --model-uri {shown} --trust"
    say(f"the model is saved in {shown} ({saved.size / 1000:,.1f} kB), because this script does not run as a job", hint)
    return str(folder)


def _target(name: str = "") -> str:
    target = os.environ.get("TRAINED_MODEL_UPLOAD_PATH", "")
    if target:
        location = Location.parse(target)
        return target.rstrip("/") if "://" in target else str(location)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = Path.cwd() / "models" / re.sub(r"[^\w.-]+", "-", name or (Path(script).stem if script else "model"))
    if folder not in _saved_here and folder.exists() and not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder} is there and holds no saved model, so nothing is put into it",
            "move it away, or call the model otherwise: save_model(model, name=...)",
        )
    return str(folder)


def _existing(path: str | Path) -> Path:
    absolute = Path(os.path.abspath(path))
    if not absolute.exists():
        raise ExportError(f"there is no {path} in {Path.cwd()}", "save the model first, then upload that path")
    return absolute
