"""A marker is planted by every way that a secret can come in, and then looked for everywhere that anything is written.

That is: the state folder, the cache, the folder of temporary files, what the notebook shows, the command lines of all
processes while it runs, the texts of records and dry runs.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kaptain_magics.model import Workspace
from tests.seaweed import SeaweedFS
from tests.shell import Notebook
from tests.waiting import until

MARKS = {
    name: f"mark{number}{name.lower()}zq"
    for number, name in enumerate(
        ["PASSED", "LITERAL", "TRACKER", "LINE", "FILE", "INDEX", "KEY", "SECRET", "SESSION", "LOGIN"], start=10
    )
}
TRAIN = """%%kaptain_train dev/planted --model clf --metric score --env DEMO_NAME --env GIVEN={LITERAL}
import os
from sklearn.dummy import DummyClassifier
n = 1
clf = DummyClassifier().fit([[0], [1]], [0, 1])
score = float(len(os.environ["DEMO_NAME"]) + n)
"""


class Everything:
    """All that was shown and written."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.shown: list[str] = []

    def add(self, *values: object) -> None:
        """Note texts, and what was printed since the last call."""
        self.shown += [f"{value!r} {value}" for value in values]
        self.shown += self._capsys.readouterr()

    def places(self, mark: str, *allowed: str) -> list[str]:
        """Return where a marker is, but for files of these names."""
        self.add()
        found = [text[max(0, text.find(mark) - 200) :][:400] for text in self.shown if mark in text]
        for path in self.folder.rglob("*"):
            with suppress(OSError):
                if path.name not in allowed and path.is_file() and mark.encode() in path.read_bytes():
                    found.append(str(path))
        return found


@contextmanager
def command_lines(into: list[str]) -> Iterator[None]:
    """Note the command lines of all processes while the block runs."""
    seen: set[bytes] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        into += [line.decode("utf-8", "replace") for line in seen]


@pytest.fixture
def everything(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Everything:
    """Markers in the environment, and a place for all that is written."""
    place = tmp_path / "w"
    (place / "t").mkdir(parents=True)
    (tmp_path / "planted").mkdir()
    logins = {"auths": {"registry.example.com": {"auth": base64.b64encode(f"ada:{MARKS['LOGIN']}".encode()).decode()}}}
    (tmp_path / "planted/config.json").write_text(json.dumps(logins))
    (tmp_path / "planted/requirements.txt").write_text(
        f"--index-url https://ada:{MARKS['FILE']}@pypi.example.com/simple\nnumpy\n"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(place / "t"))
    for name, value in {
        "TMPDIR": str(place / "t"),
        "KAPTAIN_HOME": str(place / "h"),
        "KAPTAIN_CACHE": str(place / "c"),
        "KAPTAIN_WARM": "false",
        "DOCKER_CONFIG": str(tmp_path / "planted"),
        "DEMO_NAME": MARKS["PASSED"],
        "KAPTAIN_TRACKING_URI": f"http://ada:{MARKS['TRACKER']}@127.0.0.1:9/x",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PIP_INDEX_URL": f"http://ada:{MARKS['INDEX']}@127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return Everything(place, capsys)


def nowhere(everything: Everything, marks: Mapping[str, str], *allowed: str) -> None:
    for name, mark in marks.items():
        # The value that stands in the line is in the record of the run, as the rest of the line is.
        own = (*allowed, "run.json", "endpoint.json", "dev-planted.json") if name == "LITERAL" else allowed
        assert (name, everything.places(mark, *own)) == (name, [])


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


@pytest.mark.s3
def test_keys_of_the_store(
    notebook: Notebook, everything: Everything, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAPTAIN_STORAGE_URI", "s3://planted/models")
    monkeypatch.delenv("KAPTAIN_TRACKING_URI")
    with command_lines(everything.shown):
        run = notebook.run(TRAIN.format(**MARKS))
        endpoint = notebook.run("%kaptain_deploy dev/planted --env DEMO_NAME")
        everything.add(run, run.record, endpoint, Workspace())
        endpoint.undeploy()
    keys = {name: seaweed.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    nowhere(everything, {**MARKS, **keys})


def dry_runs(notebook: Notebook, everything: Everything, target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Show what a target would apply for a job, a study and an endpoint."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": MARKS["KEY"],
        "AWS_SECRET_ACCESS_KEY": MARKS["SECRET"],
        "AWS_SESSION_TOKEN": MARKS["SESSION"],
        "S3_ENDPOINT": "http://s3.example.com",
        "KAPTAIN_STORAGE_URI": "s3://kaptain/models",
        "KAPTAIN_BASE_IMAGE": "registry.example.com/team/sklearn:3.11",
        "KAPTAIN_TARGET": target,
    }.items():
        monkeypatch.setenv(name, value)
    notebook.run(TRAIN.format(**MARKS).replace("\n", " --dry-run\n", 1))
    given = f"--env DEMO_NAME --env GIVEN={MARKS['LITERAL']} --dry-run"
    notebook.run("%kaptain_tune dev/planted n=Categorical([1,2]) --objective score --file train.py " + given)
    everything.add()
    shown = "\n".join(everything.shown)
    assert "DEMO_NAME" in shown
    assert "GIVEN" in shown
    return shown


def test_a_dry_run_for_docker(notebook: Notebook, everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("train.py").write_text("n = 1\nprint(f'score={n}')\n")
    monkeypatch.setenv("KAPTAIN_DOCKER_HOST", "unix:///nowhere")
    shown = dry_runs(notebook, everything, "docker", monkeypatch)
    assert "AWS_SESSION_TOKEN=********" in shown
    nowhere(everything, MARKS)


@pytest.mark.cluster
def test_a_dry_run_for_kubernetes(
    notebook: Notebook, everything: Everything, monkeypatch: pytest.MonkeyPatch, kubeconfig: Path
) -> None:
    Path("train.py").write_text("n = 1\nprint(f'score={n}')\n")
    monkeypatch.setenv("KAPTAIN_KUBECONFIG", str(kubeconfig))
    shown = dry_runs(notebook, everything, "kubernetes", monkeypatch)
    assert "secretKeyRef" in shown
    encoded = {name: base64.b64encode(mark.encode()).decode().rstrip("=")[:-2] for name, mark in MARKS.items()}
    nowhere(everything, MARKS | {f"{name} in base64": text for name, text in encoded.items()})
