"""Work that fails raises: a script, a notebook and a line end with an exit code that is not 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Discrete
from kaptain_magics.errors import DeploymentFailedError, RunFailedError, ServingError
from kaptain_magics.model import Model, Workspace

GOOD = """
import kaptain
from sklearn.dummy import DummyClassifier
c = 1
kaptain.save_model(DummyClassifier().fit([[c]], [c]))
"""
BAD = "c = 1\nraise ValueError('no data')\n"


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.py").write_text(GOOD)
    Path("bad.py").write_text(BAD)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_what_fails_raises_with_its_reason() -> None:
    from kaptain import exceptions

    model = Model(id="dev/cron", main_file="good.py", serving_config={"protocol_version": "v2"})
    assert model.train({})
    model.main_file = "bad.py"
    with pytest.raises(RunFailedError, match="the script raised ValueError: no data") as failed:
        model.train({})
    assert "log.txt" in failed.value.hint
    assert exceptions.RunFailedError is RunFailedError
    with pytest.raises(exceptions.RunFailedError, match="no data"):
        model.tune({"c": Discrete([1, 2])}, ["accuracy"], trials=2, failed_trials=1)
    before = {endpoint.name for endpoint in Workspace().endpoints()}
    model.serving_config = {"signature": "no JSON", "protocol_version": "v2"}
    with pytest.raises(exceptions.ModelDeploymentException, match="failed") as refused:
        model.deploy()
    assert isinstance(refused.value, DeploymentFailedError)
    assert {endpoint.name for endpoint in Workspace().endpoints()} == before


@pytest.mark.usefixtures("here")
def test_an_endpoint_in_the_way_raises(capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(id="dev/cron", main_file="good.py")
    assert model.train({})
    assert model.deploy()
    try:
        with pytest.raises(ServingError, match="dev-cron is deployed already"):
            model.deploy()
        assert "kaptain-log[ERROR]: dev-cron is deployed already" in capsys.readouterr().out
    finally:
        model.undeploy()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "IPYTHONDIR": str(Path("ipython").resolve())}
    return subprocess.run(
        [sys.executable, "-m", *command], env=env, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.usefixtures("here")
def test_a_script_of_cron_ends_with_an_exit_code() -> None:
    script = (
        "from kaptain.model.models import Model\n"
        "model = Model(id='dev/cron', main_file={!r})\n"
        "model.train(hyperparameters={{}})\n"
        "open('deployed', 'w').close()\n"
    )
    for name, code in (("good", 0), ("bad", 1)):
        Path("deployed").unlink(missing_ok=True)
        Path(f"{name}_job.py").write_text(script.format(f"{name}.py"))
        done = run(f"{name}_job")
        assert done.returncode == code, done.stderr
        assert Path("deployed").exists() == (code == 0)
    assert done.stderr.splitlines()[-2].endswith("failed: the script raised ValueError: no data")


@pytest.mark.usefixtures("here")
def test_a_line_of_ipython_ends_with_an_exit_code() -> None:
    Path("bad.ipy").write_text("%load_ext kaptain_magics\n%kaptain_train dev/cron --file bad.py\nprint('went on')\n")
    done = run("IPython", "bad.ipy")
    assert done.returncode != 0
    assert "the script raised ValueError: no data" in done.stdout + done.stderr
    assert "went on" not in done.stdout
    done = run("IPython", "--ext", "kaptain_magics", "-c", "%kaptain_train dev/cron --file bad.py")
    assert done.returncode != 0
    done = run("IPython", "--ext", "kaptain_magics", "-c", "%kaptain_deploy dev/never")
    assert done.returncode != 0
    assert "no saved model" in done.stdout + done.stderr


@pytest.mark.usefixtures("here")
def test_a_notebook_that_is_executed_ends_with_an_exit_code() -> None:
    cells = ["%load_ext kaptain_magics", "%%kaptain_train dev/cron\nraise ValueError('no data')", "open('after', 'w')"]
    made = [
        {"cell_type": "code", "id": str(i), "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
        for i, cell in enumerate(cells)
    ]
    Path("bad.ipynb").write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    done = run("jupyter", "execute", "bad.ipynb")
    assert done.returncode != 0
    assert "the script raised ValueError: no data" in done.stderr
    assert not Path("after").exists()
