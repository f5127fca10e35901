"""XGBoost: its own model file, ``model.ubj`` or ``model.json``; the wrappers of its scikit-learn API too.

Both formats are data, not code.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.savers.base import Description, SaveOptions, describe_table, plain_list, versions

FORMATS = ("ubj", "json")


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a ``Booster`` or a fitted ``XGBModel``."""
    if isinstance(model, (str, Path)):
        suffix = Path(model).suffix.lstrip(".")
        shutil.copy2(model, folder / f"model.{suffix}")
        return Description("xgboost", suffix, f"model.{suffix}", versions=versions("xgboost"))
    kind = options.choose("XGBoost", FORMATS)
    file = folder / f"model.{kind}"
    model.save_model(file)
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    description = Description("xgboost", kind, file.name, kind=type(model).__name__, versions=versions("xgboost"))
    description.columns = list(booster.feature_names or ())
    if booster is model:
        return description  # the objective, which the loader reads from the file, decides the outputs
    description.classes = plain_list(getattr(model, "classes_", None))
    missing = getattr(model, "missing", None)
    if isinstance(missing, (int, float)) and missing == missing:  # NaN is every loader's
        description.details["missing"] = missing
    describe_table(model, description, options, booster.num_features(), model.predict, "FP32")
    return description
