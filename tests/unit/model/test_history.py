"""Runs beside each other: what each was given and reported, those that fit, and the best first."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.errors import NotFoundError, ScriptError
from kaptain_magics.model import Workspace
from kaptain_magics.state import Labels, change_labels
from tests.past_runs import plant


@pytest.fixture
def workspace(home: Path) -> Workspace:
    plant(home, 1, "gamma = 0.1\nc = 1.0\n", {"accuracy": 0.8, "loss": 0.5})
    plant(home, 2, "gamma = 0.1\nc = 1.0\n", {"accuracy": 0.95, "loss": 0.7}, gamma=0.001)
    plant(home, 3, "gamma = 0.1\nc = 1.0\n", {})
    plant(home, 4, "gamma = 0.01\nc = 1.0\n", {"accuracy": 0.9})
    plant(home, 5, "depth = 1\n", {"score": 1.0}, model_id="dev/other")
    return Workspace()


def ids(rows: list) -> list[str]:  # type: ignore[type-arg]
    return [row.summary.record.run_id[7] for row in rows]


def test_the_best_stands_first_and_values_of_the_script_count(workspace: Workspace) -> None:
    table = workspace.history("dev/mnist")
    assert ids(table) == ["2", "4", "1", "3"]
    assert table.order is not None
    assert table.order.name == "accuracy"
    assert table.metrics == ["accuracy", "loss"]
    assert table.hyperparameters == ["gamma"]  # c is the same in all of them
    assert [row.hyperparameters["gamma"] for row in table] == [0.001, 0.01, 0.1, 0.1]


def test_another_metric_orders_them(workspace: Workspace) -> None:
    assert ids(workspace.history("dev/mnist", by="loss")) == ["1", "2", "4", "3"]
    assert ids(workspace.history("dev/mnist", by="loss:max")) == ["2", "1", "4", "3"]
    with pytest.raises(NotFoundError, match="no run has reported lost"):
        workspace.history("dev/mnist", by="lost")


def test_only_those_that_fit(workspace: Workspace) -> None:
    assert ids(workspace.history("dev/mnist", condition="accuracy > 0.85")) == ["2", "4"]
    assert ids(workspace.history("dev/mnist", condition="gamma == 0.1")) == ["1", "3"]
    assert ids(workspace.history("dev/mnist", condition="state == 'failed'")) == ["3"]
    assert ids(workspace.history("dev/mnist", last=2)) == ["4", "3"]
    assert ids(workspace.history("dev/mnist", condition="accuracy > 0", last=1)) == ["4"]
    with pytest.raises(NotFoundError, match="no run has a metric or hyperparameter acuracy") as refused:
        workspace.history("dev/mnist", condition="acuracy > 0.9")
    assert "accuracy" in refused.value.hint
    with pytest.raises(ScriptError, match="not a condition"):
        workspace.history("dev/mnist", condition="accuracy >")


def test_runs_of_all_models_are_the_newest_first(workspace: Workspace) -> None:
    assert ids(workspace.history()) == ["5", "4", "3", "2", "1"]
    with pytest.raises(NotFoundError, match="dev/mnst has no runs"):
        workspace.history("dev/mnst")


def test_notes_and_tags(workspace: Workspace) -> None:
    folder = workspace.store.find("mnist-job-1")
    change_labels(folder.path, lambda _: Labels(note="the first", tags=("baseline", "old")))
    assert ids(workspace.history("dev/mnist", tags=["baseline"])) == ["1"]
    assert ids(workspace.history("dev/mnist", condition="'old' in tags")) == ["1"]


def test_as_a_table_of_pandas(workspace: Workspace) -> None:
    frame = workspace.history("dev/mnist").to_dataframe()
    assert list(frame["accuracy"])[:3] == [0.95, 0.9, 0.8]
    assert list(frame["gamma"]) == [0.001, 0.01, 0.1, 0.1]
    assert frame.index.name == "run"
    assert str(frame["started"].dtype).startswith("datetime64")
