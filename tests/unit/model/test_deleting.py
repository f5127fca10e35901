"""Runs, revisions and models are deleted with all that belongs to them, and never what is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import ModelError, NotFoundError, StateError
from kaptain_magics.model import Workspace
from kaptain_magics.model.deleting import plan_model_deletion, plan_revision_deletion, plan_run_deletion
from kaptain_magics.state import EndpointRecord
from tests.past_runs import plant, save


def serve(workspace: Workspace, uri: str, run_id: str = "r") -> None:
    spec = EndpointSpec(
        name="dev-mnist",
        run_id=run_id,
        model_id="dev/mnist",
        revision="a" * 32,
        artifact_uri="file:///copy",
        framework=ModelFramework.SKLEARN,
    )
    record = EndpointRecord(
        name="dev-mnist",
        target="local",
        model_id="dev/mnist",
        run_id=run_id,
        created=1.0,
        spec=spec,
        sources={"a": uri},
    )
    workspace.registry.save_endpoint(record)


def test_a_run_goes_and_its_model_stays(home: Path) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    revision = save(home, 7, run)
    workspace = Workspace()
    deletion = plan_run_deletion(workspace, "mnist-job-1")
    assert deletion.size == sum(p.stat().st_size for p in (home / "runs" / run).rglob("*") if p.is_file())
    assert "the model that it saved stays" in deletion.stays
    assert (home / "runs" / run).exists()
    deletion.carry_out()
    assert not (home / "runs" / run).exists()
    assert workspace.objects().exists(revision.uri)


def test_a_revision_goes_and_its_run_stays(home: Path) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    one, other = save(home, 0xA0, run), save(home, 0xB0, run)
    workspace = Workspace()
    deletion = plan_revision_deletion(workspace, "dev/mnist", one.revision)
    assert deletion.size >= 1000
    deletion.carry_out()
    assert [r.revision for r in workspace.registry.model("dev/mnist").revisions] == [other.revision]
    assert not workspace.objects().exists(one.uri)
    assert workspace.objects().exists(other.uri)
    assert (home / "runs" / run).exists()
    with pytest.raises(ModelError):
        plan_revision_deletion(workspace, "dev/mnist", one.revision)


def test_a_model_goes_with_its_runs_and_no_other_does(home: Path) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    plant(home, 2, "a = 1\n", {})
    kept = plant(home, 3, "a = 1\n", {"accuracy": 0.9}, model_id="dev/mnist/other")
    revision, other = save(home, 1, run), save(home, 2, kept, model_id="dev/mnist/other")
    workspace = Workspace()
    plan_model_deletion(workspace, "dev/mnist").carry_out()
    assert [m.model_id for m in workspace.models()] == ["dev/mnist/other"]
    assert [f.run_id for f in workspace.store.folders()] == [kept]
    assert not workspace.objects().exists(revision.uri)
    assert workspace.objects().exists(other.uri)
    with pytest.raises(NotFoundError):
        plan_model_deletion(workspace, "dev/mnist")


def test_what_is_in_use_is_not_deleted(home: Path) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    revision = save(home, 1, run)
    workspace = Workspace()
    planned = plan_revision_deletion(workspace, "dev/mnist", revision.revision)
    serve(workspace, revision.uri, run)
    for plan in (
        lambda: plan_revision_deletion(workspace, "dev/mnist", revision.revision),
        lambda: plan_model_deletion(workspace, "dev/mnist"),
        planned.carry_out,  # it was deployed while the person was asked
    ):
        with pytest.raises(StateError, match="is served by the endpoint dev-mnist"):
            plan()
    with pytest.raises(StateError, match="deployed the endpoint dev-mnist"):
        plan_run_deletion(workspace, run)
    assert workspace.objects().exists(revision.uri)


def test_a_running_run_is_not_deleted(home: Path) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    workspace = Workspace()
    events = home / "runs" / run / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))  # it has not ended
    lock = workspace.folder(run).lock
    assert lock.acquire()
    try:
        for plan, name in ((plan_run_deletion, run), (plan_model_deletion, "dev/mnist")):
            with pytest.raises(StateError, match="is still running"):
                plan(workspace, name)
    finally:
        lock.release()


def test_a_models_id_is_no_run(home: Path) -> None:
    plant(home, 1, "a = 1\n", {})
    with pytest.raises(StateError, match="dev/mnist is a model with runs"):
        plan_run_deletion(Workspace(), "dev/mnist")
