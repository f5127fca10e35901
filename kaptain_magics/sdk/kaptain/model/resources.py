"""``Resources``: cores, memory and GPUs of one worker."""

from kaptain_magics.core.resources import Resources

__all__ = ["Resources"]
