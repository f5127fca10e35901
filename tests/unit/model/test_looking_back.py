"""A run is described, compared with another one, planned again and labelled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import NotFoundError, ScriptError
from kaptain_magics.model import Workspace
from kaptain_magics.model.describe import describe, difference
from kaptain_magics.model.rerun import plan_rerun
from kaptain_magics.model.sent import make_room
from kaptain_magics.state.sent_values import SENT, SentValues
from tests.past_runs import plant


def test_a_run_is_described_with_its_script_and_exact_values(home: Path) -> None:
    run_id = plant(home, 1, "gamma = 0.1\nc = 2\n", {"accuracy": 0.9}, gamma=0.001)
    workspace = Workspace()
    run = workspace.run(run_id)
    run.set_note("the first")
    assert run.tag("a", "b") == ("a", "b")
    assert run.untag("a") == ("b",)
    text = describe(workspace, run)
    for line in ("the first", "tags: b", "  gamma  0.001", "  c      2  (of the script)", "  accuracy  0.9"):
        assert line in text.splitlines()
    assert "  1  gamma = 0.1" in text.splitlines()
    assert workspace.describe(run_id).startswith(text + "\napplied:\n")


def test_two_runs_are_compared(home: Path) -> None:
    one = plant(home, 1, "gamma = 0.1\nc = 2\n", {"accuracy": 0.9}, gamma=0.001)
    other = plant(home, 2, "gamma = 0.1\nc = 3\n", {"accuracy": 0.8})
    workspace = Workspace()
    lines = difference(workspace, workspace.run(one), workspace.run(other)).splitlines()
    for line in ("  gamma  0.001 -> 0.1", "  c      2 -> 3", "  accuracy  0.9 -> 0.8", "-c = 2", "+c = 3"):
        assert line in lines
    same = difference(workspace, workspace.run(one), workspace.run(one)).splitlines()
    assert same[2:] == ["the scripts are the same"]


def test_a_run_is_planned_again_with_other_values(home: Path) -> None:
    run_id = plant(home, 1, "gamma = 0.1\nc = 2\n", {"accuracy": 0.9}, gamma=0.001)
    workspace = Workspace()
    before, same = workspace.run(run_id).record.job, plan_rerun(workspace, run_id).spec
    changed = plan_rerun(workspace, run_id, {"c": "5"}).spec
    assert before is not None
    assert isinstance(same, JobSpec)
    assert isinstance(changed, JobSpec)
    assert (same.script, same.parameters) == (before.script, {"gamma": 0.001})
    assert len({before.run_id, same.run_id, changed.run_id}) == 3
    assert changed.parameters == {"gamma": 0.001, "c": 5}
    with pytest.raises(ScriptError):
        plan_rerun(workspace, run_id, {"nothing": "5"})


def sent(home: Path, number: int, data: bytes, model_id: str = "dev/mnist") -> Path:
    run_id = plant(home, number, "a = 1\n", {"accuracy": 0.9}, model_id=model_id)
    SentValues(home).put(data, home / "runs" / run_id)
    return home / "runs" / run_id / SENT


def test_values_of_earlier_runs_make_room_the_oldest_first(home: Path) -> None:
    paths = [sent(home, number, os.urandom(1000)) for number in (1, 2, 3)]
    other = sent(home, 4, os.urandom(1000), "dev/other")
    workspace = Workspace(Settings(home=str(home), sent_limit="4k"))
    assert make_room(workspace, 0) == []
    (note,) = make_room(workspace, 1000)
    assert note.text.startswith("freed 1.0 KiB that were sent to 1 earlier run: more than 4k were kept")
    assert [path.exists() for path in (*paths, other)] == [False, True, True, True]
    make_room(workspace, 100_000)
    assert [path.exists() for path in (*paths, other)] == [False, False, True, True]  # the last of each model
    assert len(list((home / "sent").glob("*.pkl"))) == 2


def test_a_run_whose_values_were_freed_is_not_run_again(home: Path) -> None:
    import msgspec

    run_id = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    path = home / "runs" / run_id / "run.json"
    record = msgspec.json.decode(path.read_bytes())
    record["job"]["capture"] = {"send": ["df"]}
    path.write_bytes(msgspec.json.encode(record))
    with pytest.raises(NotFoundError, match="were freed") as refused:
        plan_rerun(Workspace(), run_id)
    assert "--send df" in refused.value.hint


def test_of_a_models_id_the_training_is_meant_and_not_the_deployment(home: Path) -> None:
    run_id, deployed = plant(home, 1, "a = 1\n", {"accuracy": 0.9}), plant(home, 2, "a = 1\n", {})
    path = home / "runs" / deployed / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"kind":"train"', b'"kind":"deploy"'))
    workspace = Workspace()
    assert workspace.run("dev/mnist").run_id == deployed
    assert workspace.work("dev/mnist").run_id == run_id
    assert workspace.work(deployed).run_id == deployed
