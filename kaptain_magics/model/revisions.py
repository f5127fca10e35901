"""Which saved revision of a model a deployment serves, and the notes that say why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kaptain_magics.core.ages import ago
from kaptain_magics.core.events import Noted, StateChanged
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.states import Direction, RunKind, RunState
from kaptain_magics.errors import KaptainError, ModelError, NotFoundError, ServingError, StateError
from kaptain_magics.runtime.savers.base import DESCRIPTION_FILE, UNSERVABLE
from kaptain_magics.state import Revision, RunRecord

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

SHOWN = 8  # digits of a revision's id that are shown
_DATA = (".onnx", ".data", ".ubj", ".json", ".txt", ".skops", ".md")  # suffixes of files that no loader executes
_METRICS = 3  # metrics that describe a revision where none decides


class Choice(NamedTuple):
    """The revision to deploy, and what the deployment says of it first."""

    revision: Revision
    notes: tuple[Noted, ...] = ()


def choose_revision(
    context: Context, model_id: str, model_uri: str = "", revision: str = "", newest: bool = False, trust: bool = False
) -> Choice:
    """Return the revision to deploy.

    That is the one that is named. Else, where a study tuned the model: the better of the newest tuned and the newest
    trained revision by the study's objective, where both report it. Else the newest.

    Args:
        context: Where the model is kept.
        model_id: The model.
        model_uri: URI or folder of a saved model.
        revision: A revision's id or its beginning.
        newest: Take the newest whatever its metrics are: a canary tries what is new.
        trust: Whether a model of another's may run code when it is loaded.

    Raises:
        ModelError: The model was never trained, or the id names no revision or several.
        ServingError: Nothing complete is saved at the URI, or it is another's and may run code.
    """
    revisions = list_revisions(context, model_id)
    if model_uri and revision:
        raise ModelError("a revision and a model's URI exclude each other", "name one of them")
    if model_uri:
        return _at_uri(context, model_uri, revisions, trust)
    if revision:
        named = find_revision(model_id, revisions, revision)
        return Choice(named, (Noted(text=f"deploying {_described(named)}, as named"),))
    if not revisions:
        raise ModelError(
            f"{model_id} has no saved model",
            f"train it and save the model: %%kaptain_train {model_id} --model VARIABLE; or name --model-uri",
        )
    chosen, note = (revisions[-1], _newest(revisions)) if newest else _best(context, revisions)
    return Choice(chosen, (*_later_runs(context, model_id, chosen, revisions), note))


def list_revisions(context: Context, model_id: str) -> tuple[Revision, ...]:
    """Return a model's revisions, the newest last; none of a model that is not known."""
    try:
        return context.registry.model(model_id).revisions
    except NotFoundError:
        return ()


def find_revision(model_id: str, revisions: Sequence[Revision], prefix: str) -> Revision:
    """Return the revision that an id or its beginning names.

    Raises:
        ModelError: It names none, or several; the hint lists what there is.
    """
    matching = [r for r in revisions if r.revision.startswith(prefix.lower())]
    if len(matching) == 1:
        return matching[0]
    if not revisions:
        raise ModelError(f"{model_id} has no saved model", f"train it first: %%kaptain_train {model_id}")
    listed = "\n".join(f"  {_described(r)}" for r in reversed(matching or revisions))
    what = f"{len(matching)} revisions begin with" if matching else "there is no revision"
    raise ModelError(f"{what} {prefix!r} of {model_id}", f"available, the newest first:\n{listed}")


def training_requirements(context: Context, revision: Revision) -> tuple[str, ...]:
    """Return the requirements of the job that made a revision, if its run is still there."""
    with suppress(StateError):
        record = context.folder(revision.run_id).record
        job = record.job or (record.study.job if record.study is not None else None)
        if revision.run_id and job is not None:
            return job.requirements
    return ()


def check_servable(context: Context, model_id: str, revision: Revision) -> None:
    """Refuse a revision that was only kept, with the reason that is written down beside it.

    Raises:
        ModelError: It is such a one.
    """
    if revision.format != UNSERVABLE:
        return
    try:
        described = json.loads(context.objects().read(f"{revision.uri}/{DESCRIPTION_FILE}"))["details"]
    except (KaptainError, ValueError, KeyError):
        described = {}
    why, hint = str(described.get("why", "its run says why")), str(described.get("hint", ""))
    before = [r for r in list_revisions(context, model_id) if r.format != UNSERVABLE and r.created < revision.created]
    if before:
        hint = f"{hint}; or deploy the one before with --revision {before[-1].revision[:SHOWN]}".removeprefix("; or ")
    hint = f"{hint}; %kaptain load {model_id} brings it back as it is".removeprefix("; ")
    raise ModelError(f"{_short(revision)} of {model_id} was kept, but cannot be served: {why}", hint)


# ---- the best, or the newest ------------------------------------------------------------------------------------


def _best(context: Context, revisions: Sequence[Revision]) -> tuple[Revision, Noted]:
    """Return the better of the newest tuned and the newest trained revision by the study's objective."""
    newest = revisions[-1]
    tuned = next((r for r in reversed(revisions) if r.stage == "tuned"), None)
    trained = next((r for r in reversed(revisions) if r.stage == "trained"), None)
    metric, direction = _objective(context, tuned)
    if tuned is None or trained is None or not metric:
        return newest, _newest(revisions)
    other = trained if newest is tuned else tuned
    value, other_value = _value(newest, metric), _value(other, metric)
    if value is None or other_value is None:
        lacking = _short(newest if value is None else other)
        text = f"deploying {_described(newest, metric)}, the newest; it is not compared with {_described(other)}: "
        return newest, Noted(text=f"{text}{lacking} has no {metric}")
    chosen, left = (other, newest) if direction.better(other_value, value) else (newest, other)
    text = f"deploying {_described(chosen, metric)} over {_described(left, metric)}"
    if value == other_value:
        return chosen, Noted(text=f"{text}: as good, and newer")
    text += f": the better {metric} ({direction})"
    hint = f"to deploy the newest: --revision {newest.revision[:SHOWN]}" if chosen is other else ""
    return chosen, Noted(text=text, hint=hint)


def _objective(context: Context, tuned: Revision | None) -> tuple[str, Direction]:
    """Return the metric and the direction of a tuned revision's study; older versions wrote them down there only."""
    if tuned is not None and not tuned.objective:
        with suppress(StateError):
            study = context.folder(tuned.run_id).record.study
            if study is not None:
                return study.objectives[0], study.direction
    return (tuned.objective, tuned.direction) if tuned is not None else ("", Direction.MAXIMIZE)


def _newest(revisions: Sequence[Revision]) -> Noted:
    of = f", the newest of {len(revisions)} revisions" if len(revisions) > 1 else ""
    return Noted(text=f"deploying {_described(revisions[-1])}{of}")


def _value(revision: Revision, metric: str) -> float | None:
    summary = revision.metrics.get(metric)
    return None if summary is None else summary.latest


def _short(revision: Revision) -> str:
    return f"{revision.stage} revision {revision.revision[:SHOWN]}"


def _described(revision: Revision, metric: str = "") -> str:
    """Return a revision with the metric that decides, or its first ones, and its age."""
    names = [metric] if metric in revision.metrics else list(revision.metrics)[:_METRICS]
    facts = [f"{name} {revision.metrics[name].latest:.5g}" for name in names] or ["no metrics"]
    return f"{_short(revision)} ({', '.join([*facts, ago(revision.created)])})"


# ---- runs that left nothing to deploy ----------------------------------------------------------------------------


def _later_runs(context: Context, model_id: str, chosen: Revision, revisions: Sequence[Revision]) -> Iterator[Noted]:
    """Yield a warning where the model's last run left no model, or not its best one, or still goes on."""
    saved = {revision.run_id for revision in revisions}
    for folder in context.store.folders():
        try:
            record = folder.record
        except StateError:
            continue
        if record.model_id != model_id or record.kind is RunKind.DEPLOY:
            continue
        last = folder.last_state()
        if record.run_id not in saved or last.state is not RunState.SUCCEEDED:
            yield _warning(record, last, record.run_id in saved, chosen)
        return


def _warning(record: RunRecord, last: StateChanged, saved: bool, chosen: Revision) -> Noted:
    run, what = f"{record.kind} {record.name}", f"deploying {_short(chosen)} of {ago(chosen.created)}"
    ended = f"the last run ({run}, {last.state} {ago(last.time)})"
    if not last.state.terminal:
        text = f"a {record.kind} run is still in progress ({record.name}, started {ago(record.created)})"
        hint = f"%kaptain attach {record.run_id} waits for it; then deploy again"
    elif last.state is RunState.SUCCEEDED:
        text = f"the last run ({run}, {ago(last.time)}) saved no model"
        hint = "save it in the script with kaptain.save_model(model), or name its variable with --model"
    elif saved:
        text = f"{ended} kept the best of its trials so far"
        hint = f"%kaptain_tune {record.model_id} --resume continues it"
    else:
        text, hint = f"{ended} left no model", f"%kaptain logs {record.run_id} shows why"
    return Noted(text=f"{text}; {what}", warning=True, hint=hint)


# ---- a saved model elsewhere -------------------------------------------------------------------------------------


def _at_uri(context: Context, model_uri: str, revisions: Sequence[Revision], trust: bool) -> Choice:
    uri = model_uri.rstrip("/")
    if "://" not in uri:
        uri = _absolute(uri).as_uri()
    for revision in revisions:
        if revision.uri == uri:
            return Choice(revision, (Noted(text=f"deploying {_described(revision)}, as named"),))
    try:
        manifest = context.objects().manifest(uri)
    except KaptainError as error:
        raise ServingError(f"no model can be read at {model_uri}: {error.message}", error.hint) from error
    code = next((name for name in sorted(manifest.files) if Path(name).suffix.lower() not in _DATA), "")
    if code and not trust and not _is_own(context, uri):
        raise ServingError(
            f"{model_uri} was not trained here, and {code} can run code when it is loaded",
            "if you trust its author, add --trust (trust=True); models saved as skops or ONNX contain no code",
        )
    given = Revision(
        revision=new_hex(32),
        stage="given",
        uri=uri,
        run_id="",
        created=0.0,
        framework=manifest.framework,
        format=manifest.format,
        files=manifest.files,
        size=manifest.size,
    )
    return Choice(given, (Noted(text=f"deploying the model that is saved at {uri}"),))


def _is_own(context: Context, uri: str) -> bool:
    """Whether a saved model was made here: a revision of any model, a deployed copy, or below the state folder."""
    registry = context.registry
    revisions = {revision.uri for model in registry.models() for revision in model.revisions}
    revisions |= {endpoint.spec.artifact_uri for endpoint in registry.endpoints()}
    return uri in revisions or uri.startswith(Path(context.settings.home).as_uri() + "/")


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:  # `~name` of a user who does not exist
        raise ServingError(f"{path}: {error}", "write the whole path") from error
