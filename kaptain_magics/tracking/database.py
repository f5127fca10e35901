"""A new SQLite database for MLflow, which every reader sees whole or not at all.

MLflow makes its tables one by one and looks only for some of them, so two processes that open a new database at once
break each other ("duplicate column name"), be it two runs or a run and the notebook.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def create_database(tracking_uri: str) -> None:
    """Create an SQLite database where a tracking URI names one that is not there; any other URI changes nothing."""
    path = _path(tracking_uri)
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        store = SqlAlchemyStore(f"sqlite:///{new}", artifact_root(tracking_uri))
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(new, path)


def artifact_root(tracking_uri: str) -> str:
    """Return where new experiments of an SQLite database keep their artifacts: beside it; empty for any other URI.

    MLflow would put them below the working folder of the process that makes the experiment.
    """
    path = _path(tracking_uri)
    return "" if path is None else str(path.parent / "mlruns")


def _path(tracking_uri: str) -> Path | None:
    if not tracking_uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    path = Path(make_url(tracking_uri).database or "")
    return path if path.is_absolute() else None  # in memory
