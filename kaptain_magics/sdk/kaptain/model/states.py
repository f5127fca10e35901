"""States of runs, trials and endpoints."""

from kaptain_magics.core.states import EndpointState, RunState, TrialState

__all__ = ["EndpointState", "RunState", "TrialState"]
