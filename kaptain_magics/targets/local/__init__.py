"""The default target: processes of this machine."""

from kaptain_magics.targets.local.target import LocalTarget

__all__ = ["LocalTarget"]
