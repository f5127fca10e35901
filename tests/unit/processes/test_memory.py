"""How much memory is left, by the files of the machine and of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.errors import ConfigError
from kaptain_magics.processes.memory import shortage
from kaptain_magics.processes.warm_worker import WarmWorker

MACHINE = {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n"}
VERSION_2 = {
    "proc/self/cgroup": "0::/pods/one\n",
    "sys/fs/cgroup/pods/one/memory.max": "max\n",
    "sys/fs/cgroup/pods/memory.max": "2000000000\n",
    "sys/fs/cgroup/pods/memory.current": "1900000000\n",
    "sys/fs/cgroup/pods/memory.stat": "anon 1\ninactive_file 300000000\n",
}
VERSION_1 = {
    "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/1234\n0::/\n",  # the path of the machine, absent in the container
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "990000000\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 20000000\n",
}


@pytest.mark.parametrize(
    ("files", "reserve", "needed", "short"),
    [
        (MACHINE, None, 0, ""),
        (MACHINE, None, 9 << 30, "only 8.2 of 16.4 GB"),
        (MACHINE, 1e10, 0, "only 8.2 of 16.4 GB"),
        (MACHINE, 0.0, 1 << 40, ""),
        ({**MACHINE, **VERSION_2}, None, 0, ""),  # 0.4 GB, more than a tenth
        ({**MACHINE, **VERSION_2}, None, 500_000_000, "only 0.4 of 2.0 GB"),
        ({**MACHINE, **VERSION_1}, None, 0, "only 0.0 of 1.0 GB"),
        ({}, 1e18, 1 << 40, ""),  # where nothing is known nothing is short
    ],
)
def test_memory_within_the_bounds_of_a_container(
    tmp_path: Path, files: dict[str, str], reserve: float | None, needed: int, short: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    said = shortage(reserve, needed, tmp_path)
    assert said.startswith(short) if short else said == ""


def test_a_bound_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_WARM_RESERVE", "a lot")
    with pytest.raises(ConfigError, match="KAPTAIN_WARM_RESERVE='a lot' is not a number"):
        WarmWorker([], {})
