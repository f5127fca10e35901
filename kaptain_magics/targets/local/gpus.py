"""The GPUs of this machine, found without importing anything that could use one."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaptain_magics.errors import TargetError

_TIMEOUT = 10.0  # seconds for nvidia-smi, which wakes the driver up


@dataclass(frozen=True)
class Gpus:
    """What was found.

    Attributes:
        ids: The devices that a job may use, as the variable names them.
        variable: The environment variable that says which devices a process sees; empty where there is none.
        source: Where they were looked for, and what hides devices.
    """

    ids: tuple[str, ...]
    variable: str
    source: str


def find_gpus(env: Mapping[str, str] | None = None, root: Path = Path("/")) -> Gpus:
    """Look for GPUs.

    Args:
        env: The environment that a job would get; this process's when not given.
        root: Where the file system begins.
    """
    env = os.environ if env is None else env
    nvidia = _nvidia(env, root)
    if nvidia:
        return _visible(env, "CUDA_VISIBLE_DEVICES", nvidia)
    amd = _amd(root)
    if amd:
        return _visible(env, "HIP_VISIBLE_DEVICES", amd)
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Gpus(("0",), "", "the processor")
    return Gpus((), "", "looked at /dev/nvidia*, nvidia-smi and AMD's /dev/kfd")


def _nvidia(env: Mapping[str, str], root: Path) -> list[str]:
    devices = sorted(
        (path.name.removeprefix("nvidia") for path in (root / "dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()),
        key=int,
    )
    tool = None if devices else shutil.which("nvidia-smi", path=env.get("PATH"))
    if tool is not None:  # WSL has no device files
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_TIMEOUT, check=False).stdout
            devices = re.findall(r"^GPU (\d+):", listed, re.MULTILINE)
    return devices


def _amd(root: Path) -> list[str]:
    if not (root / "dev/kfd").exists():
        return []
    gpus = 0
    for node in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id"):
        with contextlib.suppress(OSError):
            gpus += node.read_text().strip() not in ("", "0")  # 0 is a processor
    return [str(number) for number in range(gpus)]


def _visible(env: Mapping[str, str], variable: str, devices: list[str]) -> Gpus:
    """Leave out what the environment hides: the list ends at the first entry that names no device."""
    text = env.get(variable)
    if text is None:
        return Gpus(tuple(devices), variable, "the devices of this machine")
    ids: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        if not (entry in devices or entry.startswith(("GPU-", "MIG-"))):
            break
        ids.append(entry)
    return Gpus(tuple(ids), variable, f"{variable}={text!r}, {len(devices)} on this machine")


def check_count(count: int, gpus: Gpus) -> None:
    """Refuse more GPUs than there are.

    Raises:
        TargetError: There are fewer than ``count``.
    """
    if count > len(gpus.ids):
        number = f"{len(gpus.ids)} GPU" + "s" * (len(gpus.ids) != 1) if gpus.ids else "no GPU"
        raise TargetError(
            f"--gpus {count}, but this machine has {number}: {gpus.source}",
            "leave --gpus out to run on the processor, or run where GPUs are, as with --on kubernetes",
        )


class Share:
    """Hands the GPUs of this machine out to jobs; those of one study share them where there are too few."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def take(self, job: str, count: int, env: Mapping[str, str]) -> tuple[dict[str, str], str]:
        """Choose the least used devices for a job.

        Args:
            job: The job's name.
            count: How many it uses.
            env: Its environment.

        Returns:
            The variables that show it those only, and a line where another job uses one of them too.

        Raises:
            TargetError: There are fewer than ``count``.
        """
        gpus = find_gpus(env)
        check_count(count, gpus)
        with self._lock:
            used = Counter(device for devices in self._taken.values() for device in devices)
            chosen = tuple(sorted(gpus.ids, key=lambda device: used[device])[:count])
            self._taken[job] = chosen
        shared = [device for device in chosen if used[device]]
        text = f"GPU {', '.join(shared)} is shared by trials: --parallel 1 gives it to one at a time" if shared else ""
        return ({gpus.variable: ",".join(chosen)} if gpus.variable else {}), text

    def give_back(self, job: str) -> None:
        """Free the devices of a job that has ended; one that had none is fine too."""
        with self._lock:
            self._taken.pop(job, None)
