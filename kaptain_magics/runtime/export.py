"""Export of a trained model from inside a job: files go to ``TRAINED_MODEL_UPLOAD_PATH``, the fact to the channel.

Several calls in one job add to the same folder; its manifest is written again, last, by each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kaptain_magics.runtime.channel import emit
from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST
from kaptain_magics.runtime.transfer import connect, files_below, upload_files

VERSION_FOLDER = "0001"  # where TensorFlow's servers look for a SavedModel


def upload_folder(folder: Path, framework: str = "", format: str = "") -> str:  # noqa: A002 - the manifest's field
    """Save all files of a folder as the job's model.

    Args:
        folder: The folder; its files keep their relative paths.
        framework: The framework that the model is for; the job's own when empty.
        format: The file format, such as ``joblib``.

    Returns:
        The URI of the saved folder.

    Raises:
        ExportError: Outside a job, or the folder is empty.
        TransferError: The store refused.
    """
    target = _target()
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
        ExportError: Outside a job, or a file is not there.
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
    saved = upload_files(connect(target), files, target, framework, format_, merge=True)
    emit({"kind": "artifact", **saved._asdict(), "uri": target})
    return target


def _target() -> str:
    target = os.environ.get("TRAINED_MODEL_UPLOAD_PATH", "")
    if not target:
        raise ExportError(
            "TRAINED_MODEL_UPLOAD_PATH is not set: this script does not run as a job",
            "run it with %%kaptain_train, or guard the export with `if os.getenv('TRAINED_MODEL_UPLOAD_PATH'):`",
        )
    location = Location.parse(target)
    return target.rstrip("/") if "://" in target else str(location)


def _existing(path: str | Path) -> Path:
    absolute = Path(os.path.abspath(path))
    if not absolute.exists():
        raise ExportError(f"there is no {path} in {Path.cwd()}", "save the model first, then upload that path")
    return absolute
