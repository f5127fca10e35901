"""A study as Optuna's own ``Study``: for its plots, importances and dashboard, and other readers of one.

Made on demand, from the study's events: a trial costs nothing for it while the study runs.
"""

from __future__ import annotations

import contextlib
import datetime
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from kaptain_magics.core.domains import AnyDomain, Double, Integer, Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.errors import StateError
from kaptain_magics.tuning.space import DiscreteAxis, axis_of

_STATES = {
    TrialState.PENDING: optuna.trial.TrialState.RUNNING,  # a waiting one would be run by the next reader
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
    TrialState.SUCCEEDED: optuna.trial.TrialState.COMPLETE,
    TrialState.EARLY_STOPPED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
    TrialState.KILLED: optuna.trial.TrialState.FAIL,
}


def to_optuna(spec: StudySpec, trials: Iterable[TrialChanged]) -> optuna.Study:
    """Return a study of Optuna in memory with these trials; it may be gone on with, which does not change ours.

    Args:
        spec: The study.
        trials: Its trials by number, as they are now.
    """
    with _quiet():
        study = optuna.create_study(**_head(spec))
        study.add_trials([frozen_trial(spec, trial) for trial in trials])
        _describe(study, spec)
    return study


def importances(spec: StudySpec, trials: Iterable[TrialChanged]) -> dict[str, float]:
    """Return how much of the first objective each hyperparameter explains, the greatest first (PED-ANOVA).

    Raises:
        ValueError: There are too few trials, or they do not differ.
    """
    sign = -1.0 if spec.direction is Direction.MAXIMIZE else 1.0

    def first(trial: FrozenTrial) -> float:
        return sign * float(trial.values[0])  # the evaluator looks for low values

    with _quiet():
        warnings.simplefilter("ignore", UserWarning)  # it says so
        return dict(
            optuna.importance.get_param_importances(
                to_optuna(spec, trials), evaluator=optuna.importance.PedAnovaImportanceEvaluator(), target=first
            )
        )


def write_journal(spec: StudySpec, trials: Sequence[TrialChanged], path: Path) -> int:
    """Bring a file of Optuna's ``JournalFileBackend`` up to date with a study; what is in it stays as it is.

    It gets the ended trials up to the first one that still runs, so that their numbers are the same there.

    Args:
        spec: The study.
        trials: Its trials by number, as they are now.
        path: The file; made where it is not there.

    Returns:
        How many trials are in it now.

    Raises:
        StateError: The file is no journal, or of another study.
    """
    ended: list[TrialChanged] = []
    for trial in trials:
        if not trial.state.terminal:
            break
        ended.append(trial)
    content = path.stat().st_size if path.exists() else 0
    file, memory = JournalFileBackend(str(path)), _Journal()
    try:
        memory.logs += file.read_logs(0)
        known = len(memory.logs)
        if content and not known:
            raise ValueError(path)
        with _quiet():
            storage = JournalStorage(memory)
            if known:
                study = optuna.load_study(study_name=spec.name, storage=storage)
            else:
                study = optuna.create_study(**_head(spec), storage=storage)
                _describe(study, spec)
            count = len(study.get_trials(deepcopy=False))
            study.add_trials([frozen_trial(spec, trial) for trial in ended[count:]])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is not the journal of {spec.name}", "name another file") from error
    if memory.logs[known:]:
        file.append_logs(memory.logs[known:])
    return max(count, len(ended))


class _Journal(BaseJournalBackend):  # type: ignore[misc]  # Optuna has no types
    """A journal in memory: one write for all trials, where a file would be synchronised for each."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self.logs[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


def _head(spec: StudySpec) -> dict[str, Any]:
    return {"study_name": spec.name, "directions": [str(objective.direction) for objective in spec.deciding]}


def _describe(study: optuna.Study, spec: StudySpec) -> None:
    study.set_metric_names([objective.name for objective in spec.deciding])
    study.set_user_attr("model", spec.model_id)
    study.set_user_attr("algorithm", spec.algorithm)


def frozen_trial(spec: StudySpec, trial: TrialChanged) -> FrozenTrial:
    """Return a trial as Optuna's, with its values, distributions, intermediate values, state and times.

    Other metrics, its name, its model's place and the reason of a failure are its ``user_attrs``.
    """
    names = [objective.name for objective in spec.deciding]
    values = [trial.latest(name) for name in names]
    state = _STATES[trial.state]
    if state == optuna.trial.TrialState.COMPLETE and None in values:
        state = optuna.trial.TrialState.FAIL
    parameters, distributions = _placed(spec.domains, trial.parameters)
    attributes: dict[str, Any] = {"name": trial.name, "state": str(trial.state)}
    attributes |= {name: summary.latest for name, summary in trial.metrics.items() if name not in names}
    attributes |= {k: v for k, v in (("reason", trial.reason), ("model", trial.artifact_uri)) if v}
    attributes |= {name: value for name, value in trial.parameters.items() if name not in parameters}
    frozen = create_trial(
        state=state,
        values=values if state == optuna.trial.TrialState.COMPLETE else None,
        params=parameters,
        distributions=distributions,
        intermediate_values=trial.steps,
        user_attrs=attributes,
    )
    frozen.datetime_start = datetime.datetime.fromtimestamp(trial.started) if trial.started else None
    if trial.state.terminal:
        frozen.datetime_complete = datetime.datetime.fromtimestamp(trial.ended or trial.started)
        frozen.datetime_start = frozen.datetime_start or frozen.datetime_complete
    return frozen


def _placed(
    domains: Mapping[str, AnyDomain], values: Mapping[str, Value]
) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
    """Return the hyperparameters that lie in their domains, and Optuna's distributions for them."""
    parameters: dict[str, Value] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, value in values.items():
        if name not in domains:
            continue
        distribution = distribution_of(domains[name])
        with contextlib.suppress(ValueError, TypeError):
            value = _as_type(domains[name], value)
            distribution.to_internal_repr(value)  # raises where it is none of the choices
            if isinstance(distribution, CategoricalDistribution) or distribution.low <= value <= distribution.high:
                parameters[name], distributions[name] = value, distribution
    return parameters, distributions


def _as_type(domain: AnyDomain, value: Value) -> Value:
    """Return a value as its domain has it; Katib's are texts."""
    match domain:
        case Double():
            return float(value)
        case Integer():
            return int(float(value))
    return next((choice for choice in domain.values if choice == value or str(choice) == str(value)), value)


def distribution_of(domain: AnyDomain) -> BaseDistribution:
    """Return Optuna's distribution of a domain; a list of numbers is categorical there."""
    match domain:
        case Double():
            axis = axis_of(domain)
            if domain.step is None or not isinstance(axis, DiscreteAxis):
                return FloatDistribution(domain.min, domain.max, log=domain.log)
            return FloatDistribution(domain.min, float(axis.values[-1]), step=domain.step)
        case Integer():
            step = domain.step or 1
            return IntDistribution(
                domain.min, domain.min + (domain.max - domain.min) // step * step, log=domain.log, step=step
            )
    return CategoricalDistribution(domain.values)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line about a new study, and its warnings about parts that it calls experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
