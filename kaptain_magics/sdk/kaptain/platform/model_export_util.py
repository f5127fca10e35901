"""Saves a trained model from inside a job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kaptain_magics.runtime import export


class ModelExportUtil:
    """Saves a model to where the job's owner looks for it (``TRAINED_MODEL_UPLOAD_PATH``)."""

    def upload_model(self, path: str | Path, extra_files: str | Path | Iterable[str | Path] | None = None) -> str:
        """Save a model's file or folder, and further files beside it; returns the folder's URI."""
        return export.upload_model(path, extra_files)
