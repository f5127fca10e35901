"""A real study under Optuna's names: plots, importances, tables and the journal."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from kaptain_magics.core.domains import Categorical, Double
from kaptain_magics.model import Study, Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from tests.shell import Notebook

SOURCE = """
import kaptain
params = {"x": 0.5, "shape": (1,)}
for step in range(3):
    kaptain.log_metrics(loss=(params["x"] - 0.3) ** 2 + len(params["shape"]) + 1 / (step + 1), step=step)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAPTAIN_HOME", str(tmp_path_factory.mktemp("home")))
        request = TuningRequest(
            job=TrainingRequest(script=capture(SOURCE)),
            domains={"x": Double(0, 1), "params.shape": Categorical([(1, 2), (3,)])},  # type: ignore[list-item]
            objectives=("loss",),
            trials=8,
            seed=1,
        )
        made = Workspace().model("dev/opt").plan_tuning(request).start()
        made.wait()
        made.raise_for_failure()
        return made


def test_the_names_are_optunas(study: Study) -> None:
    made = study.to_optuna()
    assert made.best_params == study.best_params == study.best_parameters
    assert set(study.best_params) == {"params.x", "params.shape"}
    assert made.best_value == study.best_value
    assert study.best_trial is not None
    assert made.best_trial.number == study.best_trial.number
    assert [t.number for t in study.best_trials] == [made.best_trial.number]
    assert all(list(t.intermediate_values) == [0, 1, 2] for t in made.trials)
    assert set(study.importances()) == set(study.best_params)


def test_tables_have_a_row_for_every_trial(study: Study) -> None:
    frame = study.to_dataframe()
    assert list(frame.columns[:4]) == ["state", "loss", "params.x", "params.shape"]
    assert len(frame) == len(study.trials_dataframe()) == 8
    assert frame["best"].sum() == 1
    assert frame["loss"].idxmin() == frame.index[frame["best"]][0]


def test_optunas_plots_draw_it(study: Study) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from optuna.visualization import matplotlib as plots

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = study.to_optuna()
        for draw in (plots.plot_param_importances, plots.plot_slice, plots.plot_intermediate_values):
            assert draw(made) is not None


def test_its_journal_is_opened_by_optuna(study: Study, tmp_path: Path) -> None:
    file = study.journal()
    assert file == study.journal()
    loaded = optuna.load_study(study_name=study.name, storage=JournalStorage(JournalFileBackend(str(file))))
    assert loaded.best_params == study.best_params
    assert len(loaded.trials) == 8


def test_a_verb_lists_them_all_or_writes_the_journal(
    study: Study,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("KAPTAIN_HOME", str(study.folder.path.parent.parent))
    notebook.run("%kaptain trials dev/opt --limit 3")
    text = capsys.readouterr().out
    assert "… and 5 more; %kaptain trials" in text
    notebook.run("%kaptain trials --all")
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "succeeded" in line]) == 8
    assert f"{study.best.number}*" in lines[1]  # type: ignore[union-attr]
    notebook.run(f"%kaptain trials dev/opt --journal {tmp_path}/o.journal")
    assert f"optuna-dashboard {tmp_path}/o.journal" in capsys.readouterr().out
