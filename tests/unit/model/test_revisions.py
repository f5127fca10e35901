"""Which revision is deployed: the better by the study's objective, else the newest; and the reason is shown."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from kaptain_magics.core.ages import ago
from kaptain_magics.core.events import MetricSummary, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_run_id
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import Direction, RunKind, RunState
from kaptain_magics.errors import ModelError
from kaptain_magics.model import Workspace
from kaptain_magics.model.revisions import Choice, choose_revision
from kaptain_magics.script import capture
from kaptain_magics.state import Revision, RunFolder, RunRecord

MODEL = "dev/mnist"


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def save(
    workspace: Workspace,
    name: str,
    stage: str = "trained",
    run_id: str = "",
    age: float = 0.0,
    direction: Direction = Direction.MAXIMIZE,
    **metrics: float,
) -> Revision:
    """Add a revision; its id begins with ``name``."""
    revision = Revision(
        revision=f"{name:0<32}",
        stage=stage,
        uri=f"file:///models/{name}",
        run_id=run_id or f"run-of-{name}",
        created=time.time() - age,
        metrics={metric: MetricSummary(value, value, value) for metric, value in metrics.items()},
        objective=next(iter(metrics), "") if stage == "tuned" else "",
        direction=direction,
    )
    workspace.registry.add_revision(MODEL, revision)
    return revision


def ended(workspace: Workspace, state: RunState | None) -> RunFolder:
    """Write a training run down that ended in a state; ``None`` for one that goes on as long as its lock is held."""
    script = capture("x = 1\n")
    run_id = new_run_id()
    job = JobSpec(name="mnist-job-1", run_id=run_id, model_id=MODEL, script=script, framework=ModelFramework.SKLEARN)
    record = RunRecord(
        run_id=run_id, kind=RunKind.TRAIN, name=job.name, model_id=MODEL, target="local", created=time.time(), job=job
    )
    folder = workspace.store.create(record)
    if state is not None:
        folder.append(StateChanged(state=state, reason="" if state is RunState.SUCCEEDED else "the script raised X"))
    return folder


def told(choice: Choice) -> str:
    (note,) = choice.notes
    assert not note.warning
    return f"{note.text}\n{note.hint}".rstrip()


def test_the_better_of_trained_and_tuned_whichever_is_newer(workspace: Workspace) -> None:
    trained = save(workspace, "aa11", accuracy=0.97, age=180)
    tuned = save(workspace, "bb22", "tuned", accuracy=0.95, age=60)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == trained
    assert told(choice) == (
        "deploying trained revision aa110000 (accuracy 0.97, 3 min ago) over tuned revision bb220000 "
        "(accuracy 0.95, 1 min ago): the better accuracy (maximize)\n"
        "to deploy the newest: --revision bb220000"
    )
    newer = save(workspace, "cc33", "tuned", accuracy=0.99)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == newer
    assert told(choice).endswith(
        "over trained revision aa110000 (accuracy 0.97, 3 min ago): the better accuracy (maximize)"
    )
    worse = save(workspace, "dd44", accuracy=0.5)  # a new experiment after the study
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == newer
    assert "over trained revision dd440000 (accuracy 0.5, just now)" in told(choice)
    assert "--revision dd440000" in told(choice)
    assert choose_revision(workspace, MODEL, newest=True).revision == worse  # a canary tries what is new
    equal = save(workspace, "ee55", accuracy=0.99)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == equal
    assert told(choice).endswith("as good, and newer")
    assert tuned != newer


def test_the_studys_direction_decides(workspace: Workspace) -> None:
    save(workspace, "aa11", loss=0.9)
    tuned = save(workspace, "bb22", "tuned", loss=0.2, direction=Direction.MINIMIZE)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == tuned
    assert "the better loss (minimize)" in told(choice)
    better = save(workspace, "cc33", loss=0.1)
    assert choose_revision(workspace, MODEL).revision == better


@pytest.mark.parametrize("metrics", [{"loss": 0.3}, {}])
def test_without_the_same_metric_it_is_the_newest(workspace: Workspace, metrics: dict[str, float]) -> None:
    save(workspace, "aa11", "tuned", accuracy=0.97)
    trained = save(workspace, "bb22", **metrics)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == trained
    assert "the newest; it is not compared with tuned revision aa110000 (accuracy 0.97, just now)" in told(choice)
    assert told(choice).endswith("trained revision bb220000 has no accuracy")
    tuned = save(workspace, "cc33", "tuned", accuracy=0.1)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == tuned
    assert told(choice).endswith("trained revision bb220000 has no accuracy")


def test_revisions_that_were_never_compared(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match=r"no saved model\ntrain it and save the model"):
        choose_revision(workspace, MODEL)
    save(workspace, "aa11", accuracy=0.97)
    assert told(choose_revision(workspace, MODEL)) == "deploying trained revision aa110000 (accuracy 0.97, just now)"
    newest = save(workspace, "bb22", accuracy=0.95)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == newest
    assert told(choice).endswith("the newest of 2 revisions")


def test_a_revision_by_its_beginning(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="train it first"):
        choose_revision(workspace, MODEL, revision="aa")
    one, other = save(workspace, "aa11", accuracy=0.97), save(workspace, "aa22", accuracy=0.95)
    for word, revision in (("aa11", one), ("AA2", other), (one.revision, one)):
        choice = choose_revision(workspace, MODEL, revision=word)
        assert choice.revision == revision
        assert told(choice).endswith("as named")
    for word, said in (("aa", "2 revisions begin with 'aa'"), ("b", "there is no revision 'b'")):
        with pytest.raises(ModelError, match=said) as refused:
            choose_revision(workspace, MODEL, revision=word)
        lines = refused.value.hint.splitlines()
        assert [line.split()[2] for line in lines[1:]] == ["aa220000", "aa110000"]
        assert "accuracy 0.95, just now" in lines[1]
    with pytest.raises(ModelError, match="exclude each other"):
        choose_revision(workspace, MODEL, "file:///models/aa11", "aa11")
    assert choose_revision(workspace, MODEL, "file:///models/aa11/").revision == one


@pytest.mark.parametrize(
    ("state", "said", "hint"),
    [
        (RunState.FAILED, r"the last run \(train mnist-job-1, failed just now\) left no model", "%kaptain logs"),
        (RunState.STOPPED, r"the last run \(train mnist-job-1, stopped just now\) left no model", "%kaptain logs"),
        (RunState.SUCCEEDED, r"the last run \(train mnist-job-1, just now\) saved no model", "kaptain.save_model"),
        (None, r"a train run is still in progress \(mnist-job-1, started just now\)", "%kaptain attach"),
    ],
)
def test_an_older_model_is_never_deployed_without_a_word(
    workspace: Workspace, state: RunState | None, said: str, hint: str
) -> None:
    revision = save(
        workspace, "aa11", run_id=ended(workspace, RunState.SUCCEEDED).run_id, age=2 * 86400.0, accuracy=0.9
    )
    assert len(choose_revision(workspace, MODEL).notes) == 1
    last = ended(workspace, state)
    choice = choose_revision(workspace, MODEL)
    assert choice.revision == revision
    warning, note = choice.notes
    assert isinstance(warning, Noted)
    assert warning.warning
    assert warning.text.endswith("; deploying trained revision aa110000 of 2 days ago")
    assert re.match(said, warning.text)
    assert hint in warning.hint
    assert not note.warning
    assert len(choose_revision(workspace, MODEL, revision="aa").notes) == 1  # it was named
    last.lock.release()


def test_the_best_so_far_of_a_study_that_was_stopped_comes_with_a_warning(workspace: Workspace) -> None:
    save(workspace, "aa11", "tuned", run_id=ended(workspace, RunState.STOPPED).run_id, accuracy=0.9)
    warning, _ = choose_revision(workspace, MODEL).notes
    assert "stopped just now) kept the best of its trials so far; deploying tuned revision aa110000" in warning.text
    assert warning.hint == "%kaptain_tune dev/mnist --resume continues it"


def test_ages() -> None:
    cases = {0.4: "just now", 59: "just now", 61: "1 min ago", 3599: "59 min ago", 7300: "2 h ago", 90000: "1 day ago"}
    assert {passed: ago(1e9 - passed, 1e9) for passed in cases} == cases
    assert ago(1e9 - 5 * 86400.0, 1e9) == "5 days ago"
    assert ago(0.0) == "at an unknown time"
