"""The default target: processes of this machine."""

from kaptain_magics.targets.local.target import LocalJobs


class LocalTarget(LocalJobs):
    """Runs and serves on this machine."""


__all__ = ["LocalTarget"]
