"""What a job may use: CPU, memory, GPUs, in Kubernetes' quantities."""

from __future__ import annotations

import re

import msgspec

from kaptain_magics.errors import ConfigError

_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {unit + "i": 1024.0**power for power, unit in enumerate("KMGTP", start=1)}
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-zA-Z]{0,2})$")


def quantity(text: str | float, what: str) -> float:
    """Read a Kubernetes quantity such as ``500m``, ``0.5``, ``1G`` or ``512Mi``.

    Args:
        text: The quantity.
        what: What it measures, for the message.

    Returns:
        The number in base units (cores or bytes).

    Raises:
        ConfigError: It is not a positive quantity.
    """
    match = _QUANTITY.match(str(text).strip())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise ConfigError(
            f"{what} {text!r} is not a quantity", "write a positive number such as 0.5, 500m, 1G or 512Mi"
        )
    return float(match[1]) * _UNITS[match[2]]


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and limits of one worker; ``None`` leaves a value to the target.

    Attributes:
        cpu_request: Cores asked for, such as ``"0.5"`` or ``"500m"``.
        cpu_limit: Cores at most.
        memory_request: Bytes asked for, such as ``"1G"`` or ``"512Mi"``.
        memory_limit: Bytes at most.
        gpu_limit: Whole GPUs (request and limit).
    """

    cpu_request: str | None = None
    cpu_limit: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None
    gpu_limit: int = 0

    def __post_init__(self) -> None:
        for name in ("cpu_request", "cpu_limit", "memory_request", "memory_limit"):
            value = getattr(self, name)
            if value is not None:
                quantity(value, name.partition("_")[0])  # as the option is called
                msgspec.structs.force_setattr(self, name, str(value))
        if isinstance(self.gpu_limit, bool) or not isinstance(self.gpu_limit, int) or self.gpu_limit < 0:
            raise ConfigError(f"gpus {self.gpu_limit!r} is not a whole number", "write 0, 1, 2 ...")

    @classmethod
    def simple(cls, cpu: str | float | None = None, memory: str | None = None, gpus: int | None = None) -> Resources:
        """Return resources in which request and limit are the same."""
        cores = None if cpu is None else str(cpu)
        return cls(cpu_request=cores, cpu_limit=cores, memory_request=memory, memory_limit=memory, gpu_limit=gpus or 0)

    @property
    def cores(self) -> float | None:
        """Cores at most (or asked for), if any was named."""
        text = self.cpu_limit or self.cpu_request
        return None if text is None else quantity(text, "cpu")

    @property
    def memory_bytes(self) -> int | None:
        """Bytes at most, if a limit was named."""
        return None if self.memory_limit is None else int(quantity(self.memory_limit, "memory"))
