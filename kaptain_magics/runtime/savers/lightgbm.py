"""LightGBM: its own text file, ``model.txt``; the wrappers of its scikit-learn API with their classes.

The text is data, not code.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.savers.base import Description, SaveOptions, describe_table, plain_list, versions

FORMATS = ("txt",)


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a ``Booster`` or a fitted ``LGBMModel``; of one that stopped early, the best iterations."""
    file = folder / "model.txt"
    description = Description("lightgbm", options.choose("LightGBM", FORMATS), file.name, kind=type(model).__name__)
    if isinstance(model, (str, Path)):
        shutil.copy2(model, file)
        return description
    booster = getattr(model, "booster_", model)
    booster.save_model(str(file))
    description.versions = versions("lightgbm")
    names = getattr(model, "feature_names_in_", None) if booster is not model else None
    columns = plain_list(names) or booster.feature_name()
    generated = [f"Column_{index}" for index in range(len(columns))]
    description.columns = [] if columns == generated else [str(column) for column in columns]
    if booster is model:
        return description  # the objective, which the loader reads from the file, decides the outputs
    description.classes = plain_list(getattr(model, "classes_", None))
    describe_table(model, description, options, booster.num_feature(), model.predict)
    return description
