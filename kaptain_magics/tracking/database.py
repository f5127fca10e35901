"""A new SQLite database for MLflow, which every reader sees whole or not at all.

MLflow makes its tables one by one and looks only for some of them, so two processes that open a new database at once
break each other ("duplicate column name"), be it two runs or a run and the notebook.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def at_database(tracking_uri: str) -> Iterator[None]:
    """Work in the folder of an SQLite database, which is created first where there is none.

    MLflow puts the artifacts of new experiments below the working folder of the process that makes them.

    Args:
        tracking_uri: Of MLflow; any other one changes nothing.
    """
    if not tracking_uri.startswith("sqlite"):
        yield
        return
    from sqlalchemy.engine import make_url

    path = Path(make_url(tracking_uri).database or "")
    if not path.is_absolute():  # in memory
        yield
        return
    with contextlib.chdir(path.parent):
        if not path.exists():
            _create(path)
        yield


def _create(path: Path) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        store = SqlAlchemyStore(f"sqlite:///{new}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(new, path)
