"""No planted marker is found in what runs, studies, endpoints and dry runs on this machine write."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.model import Workspace
from tests.planted import MARKS, TRAIN, Everything, command_lines, dry_runs, nowhere
from tests.shell import Notebook
from tests.waiting import until


def test_a_study_an_endpoint_and_their_records(notebook: Notebook, everything: Everything, tmp_path: Path) -> None:
    add = everything.add
    with command_lines(everything.shown):
        run = notebook.run(TRAIN.format(**MARKS))
        study = notebook.run("%kaptain_tune dev/planted n=Categorical([1,2]) --trials 2 --objective score --maximize")
        endpoint = notebook.run("%kaptain_deploy dev/planted --token --env DEMO_NAME --env GIVEN=" + MARKS["LITERAL"])
        try:
            token = endpoint.token
            assert len(token) > 20
            notebook.run("%kaptain predict dev/planted [[0.0], [1.0]]")
            notebook.run("%kaptain_deploy dev/planted --replace")
            assert endpoint.token == token
            for line in ("", " runs", " endpoints", " show", " show dev/planted", f" show {run.run_id}", " doctor"):
                notebook.run(f"%kaptain{line}")
            add(endpoint, endpoint.status(), endpoint.curl(), endpoint.snippet())
            add(run, run.record, study, study.record, *Workspace().runs(), Workspace().settings, Workspace().models())
            until(lambda: "MLflow at http://127.0.0.1:9/x" in (run.folder.path / "supervisor.log").read_text())
            nowhere(everything, {**MARKS, "TOKEN": token}, "token")
        finally:
            endpoint.undeploy()


def test_a_secret_in_the_line_is_refused(notebook: Notebook, everything: Everything) -> None:
    given = (
        f"API_TOKEN={MARKS['LINE']}",
        f"db_password={MARKS['LINE']}",
        f"DATABASE_URL=postgres://ada:{MARKS['LINE']}@db.example.com/x",
    )
    study = "%kaptain_tune dev/planted n=Categorical([1,2]) --objective score --file train.py"
    Path("train.py").write_text("n = 1\nprint(f'score={n}')\n")
    with command_lines(everything.shown):
        for env in given:
            for line in ("%%kaptain_train dev/planted", "%%kaptain_train dev/planted --dry-run", study):
                error = notebook.error(f"{line} --env {env}" + ("\nn = 1\n" if line.startswith("%%") else ""))
                assert "looks like a secret" in str(error)
                assert f"--env {env.partition('=')[0]} " in str(error)
                everything.add(error, *error._render_traceback_())  # type: ignore[attr-defined]
    nowhere(everything, MARKS)
    notebook.run("%%kaptain_train dev/planted --env MAX_TOKENS=512 --env TOKENIZERS_PARALLELISM=false\nn = 1\n")


def test_requirements(notebook: Notebook, everything: Everything, tmp_path: Path) -> None:
    refused = (
        f'"own @ https://ada:{MARKS["LINE"]}@pypi.example.com/own-1.0.whl"',
        f'"own @ git+https://{MARKS["LINE"]}@git.example.com/own.git"',
        str(tmp_path / "planted/requirements.txt"),
    )
    for given in refused:
        for line in ("%%kaptain_train dev/planted", "%%kaptain_train dev/planted --on docker --dry-run"):
            error = notebook.error(f"{line} --requirements {given}\nn = 1\n")
            assert "holds a password" in str(error)
            assert "netrc" in str(error)
            everything.add(error, *error._render_traceback_())  # type: ignore[attr-defined]
    with command_lines(everything.shown):
        error = notebook.error("%%kaptain_train dev/planted --requirements no-such-kaptain-thing==1\nn = 1\n")
    assert "no-such-kaptain-thing" in str(error)
    everything.add(error)
    nowhere(everything, MARKS)


def test_a_password_is_no_setting(
    notebook: Notebook, everything: Everything, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAPTAIN_TRACKING_URI")
    for setting in ("tracking_uri", "s3_endpoint", "storage_uri"):
        Path("kaptain.toml").write_text(f'{setting} = "https://ada:{MARKS["FILE"]}@host.example.com"\n')
        error = notebook.error("%%kaptain_train dev/planted\nn = 1\n")
        assert f"{setting} holds a password" in str(error)
        everything.add(error)
    assert "MLFLOW_TRACKING_PASSWORD" in str(everything.shown)
    assert "KAPTAIN_TRACKING_URI" in str(everything.shown)
    nowhere(everything, MARKS)


def test_a_dry_run_for_docker(notebook: Notebook, everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("train.py").write_text("n = 1\nprint(f'score={n}')\n")
    monkeypatch.setenv("KAPTAIN_DOCKER_HOST", "unix:///nowhere")
    shown = dry_runs(notebook, everything, "docker", monkeypatch)
    assert "AWS_SESSION_TOKEN=********" in shown
    nowhere(everything, MARKS)
