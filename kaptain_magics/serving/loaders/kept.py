"""Models that were only kept, because no server can load them: back as the object that was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaptain_magics.runtime.savers.base import Description
from kaptain_magics.serving.loaders.base import require
from kaptain_magics.serving.loaders.described import unpickle


def load_kept(folder: Path, description: Description) -> Any:
    """Return the object in a verified folder, or a module's weights where nothing else could be written.

    Raises:
        FrameworkError: What wrote it is not installed here.
        ServingError: It needs what is not here, or raises.
    """
    path = folder / description.model
    match description.details.get("written_by"):
        case "torch":
            return require("torch", "torch").load(path, map_location="cpu", weights_only=True)
        case "joblib":
            return require("joblib", "joblib").load(path)
    return unpickle(path)
