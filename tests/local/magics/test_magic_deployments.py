"""What a deployment chooses and keeps, and that it says so; real servers on the local target."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kaptain_magics.errors import ModelError, RunFailedError, ServingError
from kaptain_magics.model import Endpoint, Workspace
from tests.shell import Notebook
from tests.waiting import until

Capture = pytest.CaptureFixture[str]

TRAIN = """%%kaptain_train dev/kept --model clf --metric accuracy=score level={level} {more}
from sklearn.dummy import DummyClassifier
level = 1
score = level / 10
clf = DummyClassifier(strategy="constant", constant=level).fit([[0]], [level])
"""
SIGNATURE = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}]})


def train(notebook: Notebook, level: int, more: str = "") -> None:
    notebook.run(TRAIN.format(level=level, more=more))


@pytest.fixture
def trained(notebook: Notebook) -> Iterator[Notebook]:
    """A notebook with a trained model; whatever it deploys is taken down again."""
    train(notebook, 3)
    yield notebook
    workspace = Workspace()
    for status in workspace.endpoints():
        workspace.endpoint(status.name).undeploy()


def spec(name: str = "dev/kept"):  # type: ignore[no-untyped-def]
    return Workspace().registry.endpoint(name).spec


def revisions() -> list[str]:
    return [revision.revision[:8] for revision in Workspace().registry.model("dev/kept").revisions]


def test_nothing_of_an_endpoint_is_left_after_its_end(trained: Notebook, capsys: Capture) -> None:
    options = "--workers 2 --memory 900M --env SHADE=dark --protocol v1"
    trained.run(f"%kaptain_deploy dev/kept --host 0.0.0.0 --signature '{SIGNATURE}' {options}")
    assert (spec().host, spec().workers, set(spec().serving_config)) == ("0.0.0.0", 2, {"signature"})
    trained.run("%kaptain undeploy dev/kept")
    capsys.readouterr()
    trained.run("%kaptain_deploy dev/kept")
    assert "kept" not in capsys.readouterr().out.replace("dev/kept", "").replace("dev-kept", "")
    deployed = spec()
    assert (deployed.host, deployed.workers, deployed.serving_config) == ("127.0.0.1", 1, {})
    assert (deployed.env, deployed.protocol, deployed.resources.memory_limit) == ({}, "v2", None)
    endpoint = Workspace().endpoint("dev/kept")
    assert endpoint.token == ""
    assert "listening on 127.0.0.1:" in Workspace().run("dev/kept").log()


def test_what_a_replacement_keeps_is_reported_and_its_address_must_be_named(trained: Notebook, capsys: Capture) -> None:
    first = f"--host 0.0.0.0 --signature '{SIGNATURE}' --cpu 1 --memory 900M --env SHADE=dark --env LIGHT=no"
    trained.run(f"%kaptain_deploy dev/kept {first}")
    refused = trained.error("%kaptain_deploy dev/kept --replace")
    assert isinstance(refused, ServingError)
    assert "dev-kept listens on 0.0.0.0, and no address is named for its replacement" in refused.message
    assert "--host 0.0.0.0" in refused.hint
    assert "--host 127.0.0.1" in refused.hint
    capsys.readouterr()
    trained.run("%kaptain_deploy dev/kept --replace --host 0.0.0.0 --memory 800M")
    shown = capsys.readouterr().out
    assert "kept from the running endpoint: --cpu 1, --env SHADE, --env LIGHT\n" in shown
    assert "dark" not in shown
    assert "WARNING]: not kept from the running endpoint: --signature\nname it in this line" in shown
    deployed = spec()
    assert (deployed.host, deployed.serving_config) == ("0.0.0.0", {})
    assert (deployed.resources.cpu_limit, deployed.resources.memory_limit) == ("1", "800M")
    assert deployed.env == {"SHADE": "dark", "LIGHT": "no"}
    trained.run("%kaptain_deploy dev/kept --canary 30")  # behind the endpoint's own address
    assert spec().host == "0.0.0.0"
    assert "a canary answers where dev-kept listens" in str(
        trained.error("%kaptain_deploy dev/kept --canary 30 --host 127.0.0.1")
    )
    trained.run("%kaptain promote dev/kept")
    trained.run("%kaptain_deploy dev/kept --replace --host 127.0.0.1")
    assert spec().host == "127.0.0.1"


def test_requirements_of_the_revision_before_are_not_kept(trained: Notebook, capsys: Capture) -> None:
    train(trained, 4, "--requirements numpy>=1,joblib>=1")
    trained.run("%kaptain_deploy dev/kept")
    assert spec().requirements == ("numpy>=1", "joblib>=1")
    train(trained, 5)
    capsys.readouterr()
    trained.run("%kaptain_deploy dev/kept --replace")
    assert spec().requirements == ()
    assert "--requirements" not in capsys.readouterr().out
    trained.run("%kaptain_deploy dev/kept --replace --requirements numpy")
    trained.run("%kaptain_deploy dev/kept --replace")
    assert spec().requirements == ("numpy",)
    assert "kept from the running endpoint: --requirements (lines: 1)" in capsys.readouterr().out


def test_the_deploying_line_says_which_revision(trained: Notebook, capsys: Capture) -> None:
    line = "%kaptain_tune dev/kept level=Discrete([1,2]) --objective accuracy --maximize --trials 2 --algorithm grid"
    trained.run(line)
    capsys.readouterr()
    trained.run("%kaptain_deploy dev/kept --dry-run")
    better, worse = revisions()
    note = (
        f"deploying trained revision {better} (accuracy 0.3, just now) over tuned revision {worse} "
        "(accuracy 0.2, just now): the better accuracy (maximize)"
    )
    assert f"# {note}" in capsys.readouterr().out
    trained.run("%kaptain_deploy dev/kept")
    assert f"kaptain-log[INFO]: {note}\n" in capsys.readouterr().out
    assert trained.run("%kaptain predict dev/kept [[0]]").tolist() == [3]
    capsys.readouterr()
    trained.run("%kaptain models dev/kept")
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:6] == ["revision", "kind", "metrics", "size", "saved", "endpoint"]
    assert [row.split()[:3] for row in rows] == [[worse, "tuned", "accuracy=0.2"], [better, "trained", "accuracy=0.3"]]
    assert [("deployed" in row, "KiB" in row, "just now" in row) for row in rows] == [
        (False, True, True),
        (True, True, True),
    ]
    trained.run(f"%kaptain_deploy dev/kept --replace --revision {worse[:5]}")
    assert f"deploying tuned revision {worse} (accuracy 0.2, just now), as named" in capsys.readouterr().out
    endpoint = Workspace().endpoint("dev/kept")
    until(lambda: endpoint.predict([[0]]).tolist() == [2])
    trained.run(f"%kaptain_deploy dev/kept --canary 25 --revision {better}")
    capsys.readouterr()
    trained.run("%kaptain models dev/kept")
    shown = capsys.readouterr().out
    assert re.search(rf"{worse} .* deployed 75% .*\n{better} .* deployed 25% ", shown)
    error = trained.error("%kaptain_deploy dev/kept --replace --revision 0x")
    assert isinstance(error, ModelError)
    assert better in str(error)
    assert worse in str(error)
    assert "no model 'dev/other'" in str(trained.error("%kaptain models dev/other"))


def test_after_a_failed_run_an_older_model_comes_with_a_warning(trained: Notebook, capsys: Capture) -> None:
    (revision,) = revisions()
    failed = trained.error("%%kaptain_train dev/kept --model clf\nraise ValueError('no data')\nclf = 1\n")
    assert isinstance(failed, RunFailedError)
    capsys.readouterr()
    trained.run("%kaptain_deploy dev/kept")
    shown = capsys.readouterr().out
    assert re.search(
        r"WARNING\]: the last run \(train dev-kept-job-\w{8}, failed just now\) left no model; "
        rf"deploying trained revision {revision} of just now\n%kaptain logs \S+ shows why\n",
        shown,
    )


def test_what_a_study_takes_over_is_reported(trained: Notebook, capsys: Capture) -> None:
    train(trained, 3, "--cpu 1 --env SHADE=dark")
    capsys.readouterr()
    trained.run("%kaptain_tune dev/kept level=Discrete([1,2]) --objective accuracy --maximize --trials 2")
    shown = capsys.readouterr().out
    assert re.search(r"INFO\]: taken over from the last train run, dev-kept-job-\w{8}: --cpu 1, --env SHADE, ", shown)
    assert "--model clf, --metric accuracy=score\n" in shown
    assert "taken over from the last study" not in shown
    trained.run("%kaptain_tune dev/kept --trials 2 --dry-run")
    shown = capsys.readouterr().out
    assert re.search(
        r"# taken over from the last study, dev-kept-tune-\w{8}: level=Discrete.*--objective accuracy", shown
    )


def test_a_token_is_never_on_screen_and_its_lines_work(trained: Notebook, capsys: Capture) -> None:
    trained.run("%kaptain_deploy dev/kept --host 0.0.0.0 --into door")
    door = trained.variables["door"]
    assert isinstance(door, Endpoint)
    token = door.token
    assert len(token) > 20
    shown = [capsys.readouterr().out, repr(door), repr(door.status()), str(door.status()), door.curl(), door.snippet()]
    assert not any(token in text for text in shown)
    assert "Requests need a token" in shown[0]
    assert "headers={'Authorization': '***'}" in repr(door.status())
    env = {"KAPTAIN_TOKEN": token, "PATH": "/usr/bin:/bin"}
    python = [sys.executable, "-c", door.snippet()]
    curl = ["sh", "-c", door.curl()]
    assert shlex.split(door.curl())[0] == "curl"
    for command in (python, curl):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert "[3]" in done.stdout.replace(" ", ""), (done.stdout, done.stderr)
    refused = subprocess.run(curl, env=env | {"KAPTAIN_TOKEN": "x"}, capture_output=True, text=True, check=False)
    assert "a bearer token is needed" in refused.stdout
