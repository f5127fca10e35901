"""What is written down is its owner's alone, whatever the umask; what a script writes is not changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Categorical
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture

SOURCE = """
import os
from sklearn.dummy import DummyClassifier
n = 1
clf = DummyClassifier().fit([[0], [1]], [0, 1])
score = 1.0
with open("own.txt", "w") as file:
    file.write("x")
print(oct(os.stat("own.txt").st_mode & 0o777))
"""


@pytest.fixture
def open_umask(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that is not there yet below a folder that everybody may enter, and a umask that hides nothing."""
    place = tmp_path / "a" / "home"
    monkeypatch.setenv("KAPTAIN_HOME", str(place))
    monkeypatch.setenv("KAPTAIN_CACHE", str(tmp_path / "a" / "cache"))
    monkeypatch.setenv("KAPTAIN_WARM", "false")  # the worker of another test has another umask
    before = os.umask(0)
    yield place
    os.umask(before)


def loose(folder: Path) -> list[str]:
    """Return what group or others may use, of what is not a script's own."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        own = {"work", "files"} & set(path.relative_to(folder).parts)
        if status.st_mode & 0o077 and not own and not path.is_symlink() and not stat.S_ISSOCK(status.st_mode):
            found.append(f"{stat.filemode(status.st_mode)} {path}")
    return found


def test_state_and_models_are_private_from_the_first_moment(open_umask: Path) -> None:
    workspace = Workspace()
    model = workspace.model("dev/private")
    taken = Capture(model="clf", metrics={"score": "score"}, fetch=("score",), send=("rows",))
    run = model.plan_training(TrainingRequest(script=capture(SOURCE), sent={"rows": [1]}, capture=taken)).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert run.log() == "0o666\n"  # the script's own file has the person's umask
    study = model.plan_tuning(
        TuningRequest(domains={"n": Categorical((1, 2))}, objectives=["score"], trials=2, algorithm="grid")
    ).start()
    assert study.wait(60) is RunState.SUCCEEDED, study.reason
    deployment = model.plan_deployment().start()
    try:
        assert deployment.wait(60) is RunState.SUCCEEDED, deployment.reason
        assert loose(open_umask) == []
        assert stat.S_IMODE((open_umask / "storage").stat().st_mode) == 0o700
    finally:
        deployment.endpoint.undeploy()


def test_a_state_folder_that_is_open_is_closed(home: Path) -> None:
    home.chmod(0o755)
    Workspace()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
