"""Conditional domains and values of the code in a line, with real trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import Notebook

CELL = """%%kaptain_train dev/cond
import kaptain
params = {"kernel": "linear", "gamma": 7.0, "layers": (1,)}
kaptain.log_metrics(score=params["gamma"] + len(params["layers"]), step=1)
"""
LINE = (
    "%kaptain_tune dev/cond kernel=Categorical(['linear', 'rbf']) gamma=Double(0, 1) if kernel == 'rbf' "
    "layers=Categorical([(1, 2), (3,)]) --trials 8 --objective score --seed 1 --into study"
)


def test_a_trial_has_what_holds_and_the_script_the_rest(
    notebook: Notebook, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run(CELL)
    notebook.run(LINE)
    assert "Set in the script: params.kernel in line 3, params.gamma in line 3, params.layers in line 3." in (
        capsys.readouterr().out
    )
    study = notebook.shell.user_ns["study"]
    kernels = {t.parameters["params.kernel"] for t in study.trials}
    assert kernels == {"linear", "rbf"}
    for trial in study.trials:
        gamma = trial.parameters.get("params.gamma")
        assert (gamma is None) is (trial.parameters["params.kernel"] == "linear")
        length = 2 if trial.parameters["params.layers"] == "(1, 2)" else 1
        assert trial.latest("score") == pytest.approx((7.0 if gamma is None else gamma) + length)
    assert study.to_dataframe()["params.gamma"].isna().sum() > 0
    notebook.run("%kaptain trials dev/cond --all")
    assert "params.gamma" in capsys.readouterr().out
