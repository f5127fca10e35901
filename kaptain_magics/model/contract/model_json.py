"""Models saved as JSON in the object store, and read back anywhere."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import ModelExistsError
from kaptain_magics.model.contract.config import Config
from kaptain_magics.model.workspace import Workspace

if TYPE_CHECKING:
    from kaptain_magics.model.model import Model

FILE = "model.json"
_DERIVED = ("revision", "state")


def save(model: Model, path: str, overwrite: bool) -> None:
    """Write the model's properties; see ``Model.save_as_json``."""
    uri = path or f"{model.workspace.settings.models_uri}/{model.id}/{FILE}"
    store = model.workspace.objects()
    if not overwrite and store.exists(uri):
        raise ModelExistsError(f"{uri} is there already", "pass overwrite=True to replace it")
    properties = {k: v for k, v in dataclasses.asdict(model.meta()).items() if k not in _DERIVED}
    store.write(uri, json.dumps(properties, indent=2).encode())


def load(model_uri: str, config: Config | None) -> Model:
    """Read a model's properties; see ``Model.load_from_json``."""
    from kaptain_magics.model.model import Model

    workspace = config.workspace() if config is not None else Workspace()
    uri = model_uri if model_uri.endswith(".json") else f"{model_uri.rstrip('/')}/{FILE}"
    properties = json.loads(workspace.objects().read(uri))
    framework = properties.pop("framework", None)
    return Model(
        **properties, framework=ModelFramework.of(framework) if framework else None, config=config, workspace=workspace
    )
