"""The one shared backend that every front door calls: ``Model``, and ``Workspace`` for everything of every kernel."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.sdk import check_sdk

if TYPE_CHECKING:
    from kaptain_magics.model.contract.sdk_model import Model
    from kaptain_magics.model.endpoint import Endpoint
    from kaptain_magics.model.meta import ModelMeta
    from kaptain_magics.model.plan import Plan
    from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
    from kaptain_magics.model.runs import Deployment, Run, TrainingRun
    from kaptain_magics.model.study import Study
    from kaptain_magics.model.workspace import Workspace

_PLACES = {
    "Deployment": "runs",
    "DeploymentRequest": "requests",
    "Endpoint": "endpoint",
    "Model": "contract.sdk_model",
    "ModelMeta": "meta",
    "Plan": "plan",
    "Run": "runs",
    "Study": "study",
    "TrainingRequest": "requests",
    "TrainingRun": "runs",
    "TuningRequest": "requests",
    "Workspace": "workspace",
}
__all__ = [
    "Deployment",
    "DeploymentRequest",
    "Endpoint",
    "Model",
    "ModelMeta",
    "Plan",
    "Run",
    "Study",
    "TrainingRequest",
    "TrainingRun",
    "TuningRequest",
    "Workspace",
]

check_sdk()  # also where another `kaptain` was imported in place of ours and could not say so


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
