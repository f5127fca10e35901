"""The store of runs, models and endpoints: plain files, durable, many processes at once."""

from kaptain_magics.state.labels import Labels, change_labels, read_labels
from kaptain_magics.state.model_registry import EndpointRecord, ModelRecord, Registry, Revision
from kaptain_magics.state.run_folders import RunFolder, RunRecord, RunStore, RunSummary

__all__ = [
    "EndpointRecord",
    "Labels",
    "ModelRecord",
    "Registry",
    "Revision",
    "RunFolder",
    "RunRecord",
    "RunStore",
    "RunSummary",
    "change_labels",
    "read_labels",
]
