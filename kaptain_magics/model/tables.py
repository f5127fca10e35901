"""Runs and models as tables: lists that become a frame of pandas, which is imported then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import StateError
from kaptain_magics.state import ModelRecord

if TYPE_CHECKING:
    import pandas


def require_pandas() -> Any:
    """Import pandas.

    Raises:
        StateError: It is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise StateError("pandas is not installed, so there is no table", "pip install pandas") from error
    return pandas


def timestamp(seconds: float) -> Any:
    """Return a time of 1970-based seconds as pandas has it, in UTC; ``NaT`` for 0."""
    pandas = require_pandas()
    return pandas.Timestamp(seconds, unit="s", tz="UTC") if seconds else pandas.NaT


class ModelList(list[ModelRecord]):
    """The records of models, ordered by id."""

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the revisions of the models as a table, a row each: metrics, hyperparameters, size, where it is."""
        frame = require_pandas()
        rows = []
        for model in self:
            for revision in model.revisions:
                values = {name: metric.latest for name, metric in revision.metrics.items()}
                rows.append(
                    {
                        "model": model.model_id,
                        "revision": revision.revision,
                        "stage": revision.stage,
                        "framework": revision.framework,
                        "saved": timestamp(revision.created),
                        "size": revision.size,
                        **values,
                        **columns(revision.hyperparameters, values),
                        "run": revision.run_id,
                        "uri": revision.uri,
                    }
                )
        return frame.DataFrame(rows).set_index(["model", "revision"]) if rows else frame.DataFrame()


def columns(hyperparameters: dict[str, Any], metrics: dict[str, float]) -> dict[str, Any]:
    """Return hyperparameters by the names of their columns; one that is called as a metric is ``params.NAME``."""
    return {f"params.{name}" if name in metrics else name: value for name, value in hyperparameters.items()}
