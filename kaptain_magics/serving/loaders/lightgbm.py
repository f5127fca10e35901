"""Models of LightGBM, from its own text file: data, never code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import FrameworkError, ServingError
from kaptain_magics.serving.loaders.base import find_file, require
from kaptain_magics.serving.loaders.boosting import BoostedTrees
from kaptain_magics.serving.loaders.described import declared_signature, read_description, read_inputs, threads_for
from kaptain_magics.serving.signature import Array, LoadedModel

_FILES = ("model.txt", "*.lgb", "*.bst", "[!r]*.txt")  # not requirements.txt
_CLASSIFIES = ("binary", "multiclass", "multiclassova")


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:  # noqa: ARG001
    """Load the one model file of ``folder``; the description that the saver wrote has the classes.

    A file without one is a booster's, as ``Booster.save_model`` writes it: its own ``predict`` answers.
    """
    try:
        lightgbm = require("lightgbm", "lightgbm")
    except OSError as error:
        raise FrameworkError(
            f"lightgbm cannot be loaded: {error}", "install OpenMP: apt-get install libgomp1"
        ) from error
    described = read_description(folder)
    path = find_file(folder, _FILES)
    try:
        booster = lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise ServingError(f"{path.name} is not a LightGBM model: {error}") from error
    fitted = read_inputs(folder, booster.num_feature())
    header = _header(path)
    names = booster.feature_name()
    generated = [f"Column_{index}" for index in range(len(names))]
    columns = described.columns or ([] if names == generated else names)

    def score(rows: Any) -> Array:
        return np.asarray(booster.predict(rows, num_threads=threads_for(rows.shape[0])))

    model = BoostedTrees(
        "lightgbm_txt",
        score,
        width=booster.num_feature(),
        columns=columns,
        categorical=_categorical(booster, header, columns),
        labels=_labels(header, described.classes),
        datatype="FP64",
        own=None if described.classes else lambda scores: scores,
        fitted=fitted,
    )
    model.native = booster
    model.signature = declared_signature(described, model.signature, fitted)
    return model


def _header(path: Path) -> dict[str, str]:
    """Return the ``name=value`` lines above the first tree."""
    header: dict[str, str] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.rstrip("\n").partition("=")
            if name == "Tree":
                break
            header[name] = value
    return header


def _labels(header: Mapping[str, str], classes: list[Any]) -> Array | None:
    if header.get("objective", "").partition(" ")[0] not in _CLASSIFIES:
        return None
    count = max(int(header.get("num_class", 1)), 2)
    return np.asarray(classes) if len(classes) == count else np.arange(count)


def _categorical(booster: Any, header: Mapping[str, str], columns: list[str]) -> list[str]:
    """Return the columns that were pandas categories: those whose values are listed, not given as a range."""
    categories = booster.pandas_categorical
    if not categories:
        return []
    infos = header.get("feature_infos", "").split(" ")
    columns = [column for column, info in zip(columns, infos, strict=False) if not info.startswith("[")]
    return columns if len(columns) == len(categories) else []
