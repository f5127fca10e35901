"""Saves a trained model from inside a job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kaptain_magics.runtime import export


class ModelExportUtil:
    """Saves a model to where the job's owner looks for it (``TRAINED_MODEL_UPLOAD_PATH``)."""

    def upload_model(self, path: str | Path, extra_files: str | Path | Iterable[str | Path] | None = None) -> str:
        """Save a model's file or folder, and further files beside it.

        Args:
            path: The model's file or folder.
            extra_files: Files and folders that go beside it under their own names.

        Returns:
            The URI of the saved folder.

        Raises:
            ExportError: The script does not run as a job, or a file is missing.

        Example:
            After ``joblib.dump(clf, "model.joblib")``::

                ModelExportUtil().upload_model("model.joblib")
        """
        return export.upload_model(path, extra_files)
