"""A saved model's folder is compared with what was saved before anything of it is loaded: model files are code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kaptain_magics.errors import IntegrityError, ObjectMissingError
from kaptain_magics.runtime.manifest import MANIFEST


class _Manifest(msgspec.Struct):
    files: dict[str, str]


def verify_artifact(folder: Path, files: Mapping[str, str]) -> Path:
    """Compare a folder's files with their digests.

    Args:
        folder: The folder on disk.
        files: sha256 (hex) by relative path; where it is empty, those of the folder's manifest count, if it has one.

    Returns:
        The folder.

    Raises:
        ObjectMissingError: The folder or a file is missing.
        IntegrityError: A file is not the one that was saved, was not saved with the model, or leads out of the folder.
    """
    if not folder.is_dir():
        raise ObjectMissingError(f"folder {folder} does not exist", "deploy a revision that is still stored")
    files = files or _manifest(folder)
    for relative, expected in files.items():
        path = folder / relative
        if not path.resolve().is_relative_to(folder.resolve()):
            raise IntegrityError(f"{relative} points outside the model's folder", "save the model again")
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ObjectMissingError(f"{relative} is missing in {folder}", "save the model again") from error
        if digest != expected.lower():
            raise IntegrityError(
                f"{relative} is not the file that was saved: its sha256 differs",
                "deploy another revision or train again",
            )
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    if files and (foreign := sorted(present - files.keys() - {MANIFEST})):
        raise IntegrityError(f"{foreign[0]} was not saved with the model", "remove it or save the model again")
    return folder


def _manifest(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest).files
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise IntegrityError(f"{MANIFEST} in {folder} cannot be read: {error}", "save the model again") from error
