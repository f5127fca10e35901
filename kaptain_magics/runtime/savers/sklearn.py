"""scikit-learn, and whatever else joblib can save: ``model.joblib``, or ``model.skops`` where nothing may be unpickled.

A joblib file is a pickle: loading it runs its code, so it is only loaded after its checksum was compared. skops files
build nothing but types that the loader trusts. A model with code of the script itself becomes ``model.pkl``, by value.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, copy_into, describe_table, plain_list, versions
from kaptain_magics.runtime.savers.pickled import BY_VALUE, dump_by_value, examine

FORMATS = ("joblib", "skops")


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save an estimator, a pipeline or another object with a ``predict``, and the script's modules that it uses."""
    if isinstance(model, (str, Path)):
        suffix = Path(model).suffix.lstrip(".")
        shutil.copy2(model, folder / f"model.{suffix}")
        return Description("sklearn", suffix, f"model.{suffix}")
    kind = options.choose("scikit-learn", FORMATS)
    contents = examine(model)
    if contents.by_value:
        if options.format == "skops":
            raise ExportError(
                f"skops saves no code, and this {type(model).__name__} uses {', '.join(contents.own)}",
                "write it to a file of its own (%%writefile steps.py) and import it, or leave the format out",
            )
        kind = BY_VALUE
    file = folder / f"model.{'pkl' if contents.by_value else kind}"
    if contents.by_value:
        dump_by_value(model, file)
    elif kind == "skops":
        import skops.io

        skops.io.dump(model, file)
    else:
        import joblib

        joblib.dump(model, file)
    taken = {path.name for path in options.extra_files}
    copy_into(folder, [path for path in contents.modules if path.name not in taken])
    description = Description("sklearn", kind, file.name, kind=type(model).__name__)
    description.columns = [str(column) for column in plain_list(getattr(model, "feature_names_in_", None))]
    description.classes = plain_list(getattr(model, "classes_", None))
    description.versions = versions("sklearn", "joblib", "skops", type(model).__module__.partition(".")[0])
    contents.describe(description)
    ask = getattr(model, "predict", None) or getattr(model, "transform", None)
    if ask is not None:
        describe_table(model, description, options, getattr(model, "n_features_in_", -1), ask)
    return description
