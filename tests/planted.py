"""Markers that are planted by every way that a secret can come in, and the search for them in all that is written.

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

from tests.shell import Notebook

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
