"""Models saved as JSON in the object store, and read back anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import ModelExistsError
from kaptain_magics.model.context import Context

FILE = "model.json"
_DERIVED = ("revision", "state")


def save(context: Context, model_id: str, properties: Mapping[str, Any], path: str, overwrite: bool) -> None:
    """Write a model's properties; see ``Model.save_as_json``."""
    uri = path or f"{context.settings.models_uri}/{model_id}/{FILE}"
    store = context.objects()
    if not overwrite and store.exists(uri):
        raise ModelExistsError(f"{uri} is there already", "pass overwrite=True to replace it")
    kept = {name: value for name, value in properties.items() if name not in _DERIVED}
    store.write(uri, json.dumps(kept, indent=2).encode())


def load(context: Context, model_uri: str) -> dict[str, Any]:
    """Return a model's properties; see ``Model.load_from_json``."""
    uri = model_uri if model_uri.endswith(".json") else f"{model_uri.rstrip('/')}/{FILE}"
    properties: dict[str, Any] = json.loads(context.objects().read(uri))
    framework = properties.pop("framework", None)
    return {**properties, "framework": ModelFramework.of(framework) if framework else None}
