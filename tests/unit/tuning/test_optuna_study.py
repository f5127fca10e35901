"""A study as Optuna's own: trials, values, states, times, intermediate values, and the journal on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as State

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer
from kaptain_magics.core.events import MetricSummary, TrialChanged
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.errors import StateError
from kaptain_magics.testing.algorithm import study
from kaptain_magics.tuning.optuna_study import to_optuna, write_journal

DOMAINS: dict[str, AnyDomain] = {
    "x": Double(1e-4, 1e-1, log=True),
    "d": Double(0, 1, step=0.3),
    "n": Integer(1, 10, step=2),
    "k": Discrete(("16", "32")),
    "c": Categorical(("rbf", None, (64, 64))),  # type: ignore[arg-type]
}
VALUES = {"x": 0.01, "d": 0.6, "n": 3, "k": "32", "c": "(64, 64)"}


def trial(number: int, state: TrialState = TrialState.SUCCEEDED, **changes: Any) -> TrialChanged:
    fields: dict[str, Any] = {
        "parameters": VALUES,
        "metrics": {"accuracy": MetricSummary.of(0.5 + number / 100), "size": MetricSummary.of(float(number))},
        "started": 1000.0 + number,
        "ended": 1002.0 + number if state.terminal else 0.0,
        **changes,
    }
    return TrialChanged(number=number, name=f"t-{number}", state=state, **fields)


def spec(**changes: Any) -> StudySpec:
    return study("random", DOMAINS, **{"objectives": ("accuracy", "size"), **changes})


def test_trials_are_optunas() -> None:
    trials = [
        trial(0, steps={1: 0.1, 2: 0.2}),
        trial(1, TrialState.FAILED, reason="it raised", metrics={}),
        trial(2, TrialState.EARLY_STOPPED, steps={0: 0.3}),
        trial(3, TrialState.KILLED),
        trial(4, TrialState.RUNNING),
        trial(5, artifact_uri="file:///m"),
    ]
    made = to_optuna(spec(), trials)
    assert [t.state for t in made.trials] == [
        State.COMPLETE,
        State.FAIL,
        State.PRUNED,
        State.FAIL,
        State.RUNNING,
        State.COMPLETE,
    ]
    first = made.trials[0]
    assert first.params == VALUES
    assert (first.value, first.intermediate_values) == (0.5, {1: 0.1, 2: 0.2})
    assert first.duration is not None
    assert first.duration.total_seconds() == 2
    assert first.user_attrs == {"name": "t-0", "state": "succeeded", "size": 0.0}
    assert made.trials[1].user_attrs["reason"] == "it raised"
    assert (made.best_trial.number, made.best_value, made.direction.name) == (5, 0.55, "MAXIMIZE")
    assert made.metric_names == ["accuracy"]
    assert made.study_name == spec().name


def test_several_objectives_are_values_where_all_of_them_decide() -> None:
    both = spec(pareto=True, directions={"size": Direction.MINIMIZE})
    made = to_optuna(both, [trial(0), trial(1), trial(2, metrics={"accuracy": MetricSummary.of(0.9)})])
    assert [t.values for t in made.trials] == [[0.5, 0.0], [0.51, 1.0], None]
    assert [t.number for t in made.best_trials] == [0, 1]


def test_values_outside_of_their_domains_are_kept_as_attributes() -> None:
    made = to_optuna(spec(), [trial(0, parameters={**VALUES, "x": 7.0, "n": "5"})])
    assert made.trials[0].user_attrs["x"] == 7.0
    assert made.trials[0].params == {**{k: v for k, v in VALUES.items() if k != "x"}, "n": 5}


def test_the_journal_grows_and_is_read_by_optuna(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    assert write_journal(spec(), [trial(0), trial(1), trial(2, TrialState.RUNNING), trial(3)], path) == 2
    before = path.read_bytes()
    assert write_journal(spec(), [trial(0), trial(1), trial(2), trial(3)], path) == 4
    assert path.read_bytes().startswith(before)
    unchanged = path.read_bytes()
    assert write_journal(spec(), [trial(n) for n in range(4)], path) == 4
    assert path.read_bytes() == unchanged
    loaded = optuna.load_study(study_name=spec().name, storage=JournalStorage(JournalFileBackend(str(path))))
    assert [t.number for t in loaded.trials] == [0, 1, 2, 3]
    assert loaded.best_params == VALUES
    assert loaded.user_attrs["model"] == "dev/m"


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(StateError, match="is not the journal of"):
        write_journal(spec(), [trial(0)], path)
    assert path.read_text() == "my notes\n"


def test_optuna_stays_as_loud_as_it_was() -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    to_optuna(spec(), [trial(0)])
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
