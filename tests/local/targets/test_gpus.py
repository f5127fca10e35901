"""GPUs of this machine: what is found, what is refused, what a job sees of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaptain_magics.core.events import Noted
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError
from kaptain_magics.model import Model, Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.local import gpus

SHOW = "import os\nprint('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), 'of', os.environ['GPUS'])\n"
SMI = '#!/bin/sh\n[ "$1" = -L ] && printf "GPU 0: One (UUID: GPU-a)\\nGPU 1: Two (UUID: GPU-b)\\n"\n'


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine without GPUs."""
    root = tmp_path / "machine"
    (root / "dev").mkdir(parents=True)
    return root


@pytest.fixture
def smi(tmp_path: Path) -> str:
    """A PATH with an ``nvidia-smi`` that lists two GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(SMI)
    (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


@pytest.fixture
def without() -> None:
    """Only where this machine has no GPU."""
    if gpus.find_gpus().ids:
        pytest.skip("this machine has a GPU")


def test_no_gpu_is_found_with_what_was_looked_at(machine: Path) -> None:
    found = gpus.find_gpus({}, machine)
    assert found.ids == ()
    with pytest.raises(TargetError, match="--gpus 1, but this machine has no GPU: looked at /dev/nvidia") as refused:
        gpus.check_count(1, found)
    assert "leave --gpus out" in refused.value.hint


def test_device_files_and_what_hides_them(machine: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (machine / "dev" / name).touch()
    assert gpus.find_gpus({}, machine).ids == ("0", "1", "10")
    assert gpus.find_gpus({"CUDA_VISIBLE_DEVICES": "1, 10,-1,0"}, machine).ids == ("1", "10")
    assert gpus.find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, machine).ids == ("GPU-8932f937",)
    hidden = gpus.find_gpus({"CUDA_VISIBLE_DEVICES": ""}, machine)
    with pytest.raises(TargetError, match="this machine has no GPU: CUDA_VISIBLE_DEVICES='', 3 on this machine"):
        gpus.check_count(1, hidden)
    with pytest.raises(TargetError, match="--gpus 4, but this machine has 3 GPUs"):
        gpus.check_count(4, gpus.find_gpus({}, machine))


def test_the_tool_and_the_other_maker(machine: Path, smi: str) -> None:
    assert gpus.find_gpus({"PATH": smi}, machine).ids == ("0", "1")
    (machine / "dev/kfd").touch()
    for number, gpu in enumerate(("0", "5219", "33223")):  # the first node is the processor
        node = machine / f"sys/class/kfd/kfd/topology/nodes/{number}"
        node.mkdir(parents=True)
        (node / "gpu_id").write_text(f"{gpu}\n")
    found = gpus.find_gpus({"HIP_VISIBLE_DEVICES": "1"}, machine)
    assert (found.ids, found.variable) == (("1",), "HIP_VISIBLE_DEVICES")


def test_trials_get_different_gpus_and_share_them_where_there_are_too_few(smi: str, without: None) -> None:
    share, env = gpus.Share(), {"PATH": smi}
    assert share.take("a", 1, env) == ({"CUDA_VISIBLE_DEVICES": "0"}, "")
    assert share.take("b", 1, env) == ({"CUDA_VISIBLE_DEVICES": "1"}, "")
    devices, note = share.take("c", 1, env)
    assert devices == {"CUDA_VISIBLE_DEVICES": "0"}
    assert "GPU 0 is shared" in note
    share.give_back("b")
    assert share.take("d", 1, env) == ({"CUDA_VISIBLE_DEVICES": "1"}, "")


def test_gpus_are_refused_before_anything_starts(home: Path, tmp_path: Path, without: None) -> None:
    workspace = Workspace()
    plan = workspace.model("dev/gpu").plan_training(
        TrainingRequest(script=capture(SHOW), resources=Resources.simple(gpus=1))
    )
    with pytest.raises(TargetError, match="--gpus 1, but this machine has no GPU"):
        plan.start()
    (tmp_path / "train.py").write_text(SHOW)
    with pytest.raises(TargetError, match="no GPU"):
        Model(id="dev/gpu", main_file=str(tmp_path / "train.py"), workspace=workspace).train({}, gpus=1)
    assert workspace.runs() == []


def test_a_job_sees_the_gpus_that_it_asked_for(
    home: Path, smi: str, monkeypatch: pytest.MonkeyPatch, without: None
) -> None:
    monkeypatch.setenv("PATH", f"{smi}{os.pathsep}{os.environ['PATH']}")
    model = Workspace().model("dev/gpu")
    run = model.plan_training(TrainingRequest(script=capture(SHOW), resources=Resources.simple(gpus=1))).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert run.log() == "sees 0 of 1\n"
    assert not any(isinstance(event, Noted) and event.warning for event in run.folder.events())
