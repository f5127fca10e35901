"""Tab offers what fits, in lines and in cells."""

from __future__ import annotations

import time
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter, rectify_completions

from kaptain_magics.core.events import MetricSummary
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec, JobSpec
from kaptain_magics.core.states import RunKind
from kaptain_magics.script import capture
from kaptain_magics.state import EndpointRecord, Registry, Revision, RunRecord, RunStore
from tests.shell import Notebook


@pytest.fixture
def known(home: Path) -> str:
    """A model with a revision, an endpoint and a run; returns the run's id."""
    script = capture("gamma = 0.1\nepochs = 3\n")
    job = JobSpec(
        name="mnist-job-1", run_id="r1", model_id="dev/mnist", script=script, framework=ModelFramework.SKLEARN
    )
    record = RunRecord(
        run_id="20260101-000000-abcdef",
        kind=RunKind.TRAIN,
        name=job.name,
        model_id=job.model_id,
        target="local",
        created=time.time(),
        job=job,
    )
    RunStore(home).create(record)
    registry = Registry(home)
    metrics = {"accuracy": MetricSummary(0.9, 0.9, 0.9)}
    revision = Revision(revision="a" * 32, stage="trained", uri="file:///x", run_id="r1", created=1.0, metrics=metrics)
    registry.add_revision("dev/mnist", revision)
    spec = EndpointSpec(
        name="dev-mnist",
        run_id="r2",
        model_id="dev/mnist",
        revision="a",
        artifact_uri="x",
        framework=ModelFramework.PYTHON,
    )
    registry.save_endpoint(
        EndpointRecord(name="dev-mnist", target="local", model_id="dev/mnist", run_id="r2", created=1.0, spec=spec)
    )
    return record.run_id


def tab(notebook: Notebook, text: str, of: str = "") -> list[str]:
    """Press Tab at the ``|`` in a cell, or at its end, as a kernel does; returns what could stand there."""
    before, _, after = text.partition("|")
    with provisionalcompleter():
        found = notebook.shell.Completer.completions(before + after, len(before))
        return [c.text for c in rectify_completions(before + after, found) if of in c.type]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%kaptain_train d", ["dev/mnist"]),
        ("%kaptain_train dev/mnist --req", ["--requirements"]),
        ("%kaptain_train dev/mnist --cpu 1 --cp", []),
        ("%kaptain_train dev/mnist --on ", ["local", "docker", "kubernetes"]),
        ("%kaptain_train dev/mnist --on=ku", ["kubernetes"]),
        ("%kaptain_train dev/mnist --framework xg", ["xgboost"]),
        ("%kaptain_train dev/mnist g", ["gamma="]),
        ("%kaptain_train dev/mnist --cpu 1 e", ["epochs="]),
        ("%kaptain_train dev/mnist --send d", ["data", "digits"]),
        ("%kaptain_train dev/mnist --send data,di", ["digits"]),
        ("%kaptain_train dev/mnist dat", ["data"]),
        ("%kaptain_train dev/mnist --file tr", ["train\\ two.py", "train.py"]),
        ("%kaptain_train dev/mnist --files folder/", ["folder/inner.csv"]),
        ("%kaptain_train dev/mnist --files train.py,fo", ["folder/"]),
        ("x = %kaptain_train dev/mnist --det", ["--detach"]),
        ("%kaptain_tune dev/mnist gamma=D", ["Double(", "Discrete(["]),
        ("%kaptain_tune dev/mnist --objective a", ["accuracy"]),
        ("%kaptain_tune dev/mnist --minimize a", ["accuracy"]),
        ("%kaptain_tune dev/mnist --minimize --tri", ["--trials"]),
        ("%kaptain_tune dev/mnist --algorithm multi", ["multivariate-tpe"]),
        ("%kaptain_tune dev/mnist --tuner ", ["auto", "jobs"]),
        ("%kaptain_tune dev/mnist --on=kubernetes --tuner ka", ["katib"]),
        ("%kaptain_tune dev/mnist --early-stopping m", ["medianstop"]),
        ("%kaptain_deploy dev/mnist --rep", ["--replace"]),
        ("%kaptain_deploy ", ["dev/mnist"]),
        ("%kaptain_deploy dev/mnist --revision ", ["a" * 8]),
        ("%kaptain_deploy dev/mnist --revision=aa", ["a" * 8]),
        ("%kaptain models d", ["dev/mnist"]),
        ("%kaptain un", ["undeploy"]),
        ("%kaptain logs 2026", ["20260101-000000-abcdef"]),
        ("%kaptain logs d", ["dev/mnist"]),
        ("%kaptain undeploy dev", ["dev-mnist", "dev/mnist"]),
        ("%kaptain predict dev-mnist dig", ["digits"]),
        ("%kaptain clean --f", ["--force"]),
        ("%kaptain runs dev/mnist --by a", ["accuracy"]),
        ("%kaptain export dev/mnist --revision ", ["a" * 8]),
        ("%kaptain load dev/mnist a", ["a" * 8]),
        ("%kaptain delete re", ["revision"]),
        ("%kaptain delete revision d", ["dev/mnist"]),
        ("%kaptain delete revision dev/mnist a", ["a" * 8]),
        ("%%kaptain_train dev/mnist --mod|\nclf = 1", ["--model"]),
        ("%%kaptain_train dev/mnist --model |\nclf = 1\n", ["clf"]),
        (
            "%%kaptain_train dev/mnist --metric acc=s|\nscore = 1\nx = (",
            ["score"],
        ),
        ("%%kaptain_tune dev/mnist\ngam|", ["gamma = "]),
        ("%%kaptain_tune dev/mnist\ngamma = Int|", ["Integer("]),
    ],
)
def test_what_fits_is_offered(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
) -> None:
    # ours alone, whatever plug-ins are installed where the tests run
    monkeypatch.setattr("kaptain_magics.core.plugins.entry_points", lambda **_: EntryPoints())
    Path("train.py").touch()
    Path("train two.py").touch()
    Path("folder").mkdir()
    Path("folder/inner.csv").touch()
    notebook.run("data = digits = 1")
    assert tab(notebook, text) == expected


def test_nothing_is_offered_where_nothing_is_known(notebook: Notebook, home: Path) -> None:
    (home / "models").write_text("no folder")
    for line in (
        "%kaptain_train x",
        "%kaptain_train x --files no/such/",
        "%kaptain bogus x",
        "%kaptain_train a --cpu 3",
    ):
        assert tab(notebook, line, of="kaptain") == []


def test_other_lines_are_ipythons(notebook: Notebook) -> None:
    notebook.run("digits = 1")
    assert "digits" in tab(notebook, "print(dig")
    assert "%%kaptain_train" in tab(notebook, "%%kaptain_tr")
    assert "digits" in tab(notebook, "%%kaptain_train dev/mnist\nprint(dig|)")
