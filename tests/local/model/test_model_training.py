"""Training through ``Model``: plans, runs, the contract's call."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.domains import Double
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import (
    ConfigError,
    InvalidPropertyError,
    KaptainError,
    MetricsTypeError,
    ModelError,
    ModelExistsError,
    NotFoundError,
    RunFailedError,
    ScriptError,
    ServingError,
)
from kaptain_magics.model import Model, TrainingRun, Workspace
from kaptain_magics.model.contract.config import Config, S3ConfigurationProvider
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
from kaptain_magics.script import capture

PLAIN = """
import json
rate = 0.5
epochs = 3
scale = {"a": 1}
result = {"loss": rate * epochs}
print("rate", rate, "epochs", epochs)
"""


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def train(workspace: Workspace, source: str, **options: object) -> TrainingRun:
    run = workspace.model("dev/plain").plan_training(TrainingRequest(script=capture(source), **options)).start()  # type: ignore[arg-type]
    run.wait(60)
    return run


def test_plain_code_gets_its_assignments_replaced_and_its_variables_taken(workspace: Workspace) -> None:
    taken = Capture(metrics={"loss": "result.loss"}, fetch=("result", "rate"))
    run = train(workspace, PLAIN, parameters={"rate": 0.25, "epochs": 4}, capture=taken)
    run.raise_for_failure()
    assert run.log() == "rate 0.25 epochs 4\n"
    assert run.metrics["loss"].latest == 1.0
    assert run.fetched == {"result": {"loss": 1.0}, "rate": 0.25}
    assert run.hyperparameters == {"rate": 0.25, "epochs": 4}
    assert workspace.run("dev/plain").run_id == run.run_id
    assert workspace.run(run.run_id[-6:]).run_id == run.run_id


def test_values_of_the_notebook_are_sent(workspace: Workspace) -> None:
    source = "print(sum(numbers), greeting)"
    script = capture(source, sent=("numbers", "greeting"))
    options = {"capture": Capture(send=("numbers", "greeting")), "sent": {"numbers": [1, 2, 3], "greeting": "hej"}}
    run = workspace.model("dev/sent").plan_training(TrainingRequest(script=script, **options)).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert run.log() == "6 hej\n"


def test_what_cannot_be_pickled_is_refused_before_anything_starts(workspace: Workspace) -> None:
    plan = workspace.model("dev/sent").plan_training(
        TrainingRequest(
            script=capture("print(f)", sent=("f",)), capture=Capture(send=("f",)), sent={"f": (i for i in [])}
        )
    )
    with pytest.raises(ScriptError, match="`f` cannot be sent"):
        plan.start()
    assert workspace.runs() == []


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        (Capture(model="clf"), "without a variable `clf`"),
        (Capture(metrics={"accuracy": "score"}), "without a variable `score`"),
        (Capture(metrics={"accuracy": "result.accuracy"}), "no `accuracy`"),
    ],
)
def test_a_variable_that_is_not_there_fails_the_run(workspace: Workspace, taken: Capture, reason: str) -> None:
    run = train(workspace, PLAIN, capture=taken)
    assert run.state is RunState.FAILED
    assert reason in run.reason


def test_a_failed_script_leaves_no_model_behind(workspace: Workspace) -> None:
    source = """
from pathlib import Path
from kaptain.platform.model_export_util import ModelExportUtil
Path("model.bin").write_bytes(b"x")
ModelExportUtil().upload_model("model.bin")
raise ValueError("after the upload")
"""
    run = train(workspace, source)
    assert not run
    assert run.reason == "the script raised ValueError: after the upload"
    assert not list(workspace.objects().list(f"{workspace.settings.models_uri}/dev/plain"))
    with pytest.raises(RunFailedError, match="after the upload"):
        run.raise_for_failure()


def test_files_requirements_and_memory(workspace: Workspace, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("forty-two")
    run = train(workspace, "print(open('data.txt').read())", files=[str(data)], requirements=["numpy>=1.0"])
    assert run.log() == "forty-two\n"
    run = train(workspace, "print(open('data.txt').read())")
    assert "bring files along with --files" in run.hint
    with pytest.raises(ScriptError, match="no file or folder"):
        train(workspace, "pass", files=[str(tmp_path / "nothing")])
    greedy = "import time\nheap = bytearray(400_000_000)\nheap[::4096] = b'x' * len(heap[::4096])\ntime.sleep(60)"
    run = train(workspace, greedy, resources=Resources.simple(memory="200M"))
    assert run.state is RunState.FAILED
    assert "out of memory" in run.reason


def test_requirements_that_do_not_exist_fail_with_pips_words(workspace: Workspace) -> None:
    run = train(workspace, "pass", requirements=["no-such-package-of-ours>=99; python_version > '3'", "--no-index"])
    assert run.state is RunState.FAILED
    assert "requirements could not be installed" in run.reason


def test_bad_options_are_refused(workspace: Workspace) -> None:
    script = capture(PLAIN)
    model = workspace.model("dev/plain")
    for bad in ({"timeout": 0.0}, {"workers": 0}, {"parameters": {"rat": 1}}):
        with pytest.raises(KaptainError):
            model.plan_training(TrainingRequest(script=script, **bad))  # type: ignore[arg-type]
    for domains, objectives in (({}, ["a"]), ({"rate": Double(0, 1)}, [])):
        with pytest.raises(KaptainError):
            model.plan_tuning(TuningRequest(job=TrainingRequest(script=script), domains=domains, objectives=objectives))
    with pytest.raises(KaptainError):
        model.plan_tuning(
            TuningRequest(
                job=TrainingRequest(script=script), domains={"rate": Double(0, 1)}, objectives=["a"], trials=0
            )
        )
    with pytest.raises(NotFoundError):
        model.plan_tuning(TuningRequest(domains={"rate": Double(0, 1)}, objectives=["a"]))
    with pytest.raises(ModelError, match="no saved model"):
        model.plan_deployment()
    with pytest.raises(ServingError, match="no model can be read"):
        model.plan_deployment(DeploymentRequest(model_uri=f"{workspace.settings.models_uri}/nothing"))
    assert workspace.runs() == []


def test_a_dry_run_starts_nothing(workspace: Workspace) -> None:
    plan = workspace.model("dev/plain").plan_training(
        TrainingRequest(script=capture(PLAIN), parameters={"rate": 0.1}, env={"GIVEN": "s3cr3t"})
    )
    shown = plan.render()
    assert "rate = 0.1" in shown
    assert "s3cr3t" not in shown
    assert workspace.runs() == []


def test_the_contracts_train_logs_in_the_tutorials_format(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("import sys\nprint('argv', sys.argv[1:])\nprint('accuracy=0.75')\n")
    model = Model(id="dev/told", name="Told Model", main_file="train.py")
    done = model.train(hyperparameters={"--steps": 10}, args={"--log-interval": "5"}, verbose=True)
    assert done
    out = capsys.readouterr().out
    line = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} kaptain-log\[INFO\]: "
    assert re.search(line + r'Submitting a new training job "told-model-job-[0-9a-f]{8}"\.$', out, re.M)
    assert re.search(line + r"\[told-model-job-[0-9a-f]{8}/python\] logs:$", out, re.M)
    assert "argv ['--steps', '10', '--log-interval', '5']" in out
    assert re.search(line + r"Model training is completed\.$", out, re.M)
    Path("train.py").write_text("raise SystemExit(3)")
    with pytest.raises(RunFailedError, match="ended with exit code 3") as failed:
        model.train(hyperparameters={}, verbose=False)
    assert "log.txt" in failed.value.hint
    assert "kaptain-log[ERROR]" in capsys.readouterr().out


def test_properties_are_checked_saved_and_loaded(workspace: Workspace) -> None:
    for bad in ("", " ", "a//b", "../x"):
        with pytest.raises(InvalidPropertyError):
            Model(id=bad)
    with pytest.raises(InvalidPropertyError):
        Model(id="dev/a", name=" ")
    model = workspace.model("dev/saved", name="Saved", version="0.0.1", labels=["x"])
    model.save_as_json()
    with pytest.raises(ModelExistsError):
        model.save_as_json()
    model.save_as_json(overwrite=True)
    loaded = Model.load_from_json(f"{workspace.settings.models_uri}/dev/saved")
    assert (loaded.name, loaded.version, loaded.labels) == ("Saved", "0.0.1", ["x"])
    assert loaded.meta().state == "untrained"
    assert loaded.hyperparameters is None
    assert loaded.metrics is None
    model.log_data("digits", "s3://data/digits", features=["pixels"])
    model.log_metrics({"accuracy": 0.9}, "testing")
    assert len(workspace.registry.model("dev/saved").log) == 2
    with pytest.raises(MetricsTypeError):
        model.log_metrics({}, "guessing")


def test_no_provider_shows_its_secret() -> None:
    provider = S3ConfigurationProvider("AKIDEXAMPLE", "wJalrSecret", aws_session_token="tok3n", s3_endpoint="h:9000")
    config = Config(storage_config_provider=provider)
    for shown in (repr(provider), repr(config)):
        assert not any(secret in shown for secret in ("AKIDEXAMPLE", "wJalrSecret", "tok3n"))
    assert provider.get_secret_body()["AWS_SECRET_ACCESS_KEY"] == "wJalrSecret"


def test_settings_come_from_file_environment_and_overrides(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kaptain.toml").write_text('[kaptain]\ntarget = "docker"\npending_timeout = 7\nnamespace = "file"\n')
    monkeypatch.setenv("KAPTAIN_NAMESPACE", "environment")
    settings = Settings.load({"target": "kubernetes"})
    assert (settings.target, settings.namespace, settings.pending_timeout) == ("kubernetes", "environment", 7)
    assert settings.home == str(home)
    assert Settings.load(settings.as_texts()) == settings
    for bad in ({"targt": "x"}, {"pending_timeout": "many"}, {"on_interrupt": "cry"}):
        with pytest.raises(ConfigError):
            Settings.load(bad)
    Path("kaptain.toml").write_text("target = \n")
    with pytest.raises(ConfigError, match=r"kaptain\.toml cannot be read"):
        Settings.load()
