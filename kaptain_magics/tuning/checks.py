"""The checks of a study: what could only fail is refused before anything starts, what would be ignored is noted.

Everything here takes about a millisecond and imports no library.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping

import msgspec

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.algorithm_settings import nearest, read_settings
from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Domain, Double, Integer, search_order
from kaptain_magics.core.events import Noted
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import AlgorithmError, ConfigError, DomainError, KaptainError, ObjectiveError
from kaptain_magics.targets.study_runners import AUTO, JOBS, StudyRunner
from kaptain_magics.tuning.algorithms import ALGORITHMS, POPULATION, definition_of, read_stopping
from kaptain_magics.tuning.hyperband import hyperband_resource
from kaptain_magics.tuning.space import DiscreteAxis, Space, axis_of

_COUNTED = 20_000  # points of a grid with conditions that are counted one by one, in about 0.1 s


def check_study(spec: StudySpec, runner: StudyRunner | None = None) -> None:
    """Refuse a study that could only fail.

    Args:
        spec: The study.
        runner: The target's own tuner. The study says whether it must, may or must not run it: where it may, what one
            of the two can run is let through.

    Raises:
        AlgorithmError: The algorithm, its settings or the stopping rule do not exist there, or a library is missing.
        DomainError: There is nothing to search, or the algorithm cannot search it.
        ObjectiveError: There is no objective, or the goal is not a number.
        ConfigError: A number of trials or a time is not positive, or the target has no such tuner.
    """
    if not spec.domains:
        raise DomainError("there is nothing to search", "name a hyperparameter, such as gamma=Double(1e-4, 1e-1)")
    for name, domain in spec.domains.items():
        if not isinstance(domain, Domain):
            raise DomainError(f"{name}={domain!r} is not a domain", f"write for example {name}=Double(0.01, 1)")
    search_order(spec.domains)
    if not spec.objectives or len(set(spec.objectives)) < len(spec.objectives):
        raise ObjectiveError("a study needs objectives, each named once", "write --objective accuracy")
    if spec.goal is not None and not math.isfinite(spec.goal):
        raise ObjectiveError(f"the goal {spec.goal} is not a finite number", "write a number, or remove --goal")
    for name, least in (("trials", 1), ("parallel", 1), ("failed_trials", 0)):
        if getattr(spec, name) < least:
            raise ConfigError(
                f"{name} must be at least {least}, not {getattr(spec, name)}", f"write --{name.replace('_', '-')} 1"
            )
    if spec.timeout is not None and not spec.timeout > 0:
        raise ConfigError(
            f"timeout must be greater than 0, not {spec.timeout}", "write seconds above 0, or remove --timeout"
        )
    Algorithm.of(spec.algorithm)
    if spec.pareto and len(spec.objectives) < 2:
        raise ObjectiveError("a Pareto set needs two objectives or more", "write --objective accuracy,latency")
    if spec.tuner not in (words := tuner_names(runner)):
        raise ConfigError(f"there is no tuner {spec.tuner!r} on this target", nearest(spec.tuner, words[1:]))
    if runner is None or spec.tuner == JOBS:
        _check_loop(spec, runner)
    elif spec.tuner == runner.name:
        _check_runner(spec, runner)
    else:
        try:
            _check_runner(spec, runner)
        except KaptainError as error:
            try:
                _check_loop(spec, runner)
            except KaptainError:
                raise error from None
    setting = spec.algorithm_settings.get("random_state", "").strip()
    if spec.seed is not None and setting not in ("", str(spec.seed)):
        raise AlgorithmError(f"--seed {spec.seed} and random_state={setting} disagree", "give only one of them")


def tuner_names(runner: StudyRunner | None) -> tuple[str, ...]:
    """Return what ``--tuner`` may name on a target with this tuner of its own; an empty text means ``auto``."""
    return ("", AUTO, JOBS, *([runner.name] if runner is not None else []))


def _check_runner(spec: StudySpec, runner: StudyRunner) -> None:
    algorithm = Algorithm.of(spec.algorithm)
    known = runner.settings(algorithm)
    if known is not None:
        ours = ALGORITHMS[algorithm].settings if algorithm in ALGORITHMS else None
        read_settings(known, f"{runner.title}'s {algorithm}", spec.algorithm_settings, ours)
    runner.check(spec)


def _check_loop(spec: StudySpec, runner: StudyRunner | None) -> None:
    algorithm = Algorithm.of(spec.algorithm)
    definition = definition_of(algorithm)
    elsewhere = runner.settings(algorithm) if runner is not None else None
    settings = read_settings(definition.settings, algorithm, spec.algorithm_settings, elsewhere)
    read_stopping(spec, definition.stops_trials)
    if spec.pareto and definition.objectives == "one":
        able = ", ".join(name for name, known in ALGORITHMS.items() if known.objectives != "one")
        raise AlgorithmError(
            f"{algorithm} optimizes one objective, not several together", f"use --algorithm nsga2, or one of {able}"
        )
    if spec.pareto and spec.early_stopping:
        raise AlgorithmError(
            f"{spec.early_stopping} compares trials by one objective, not by several together",
            "remove --early-stopping, or --pareto",
        )
    for module in definition.requires:
        if importlib.util.find_spec(module) is None:
            raise AlgorithmError(f"{algorithm} needs {module}, which is not installed", f"pip install {module}")
    if definition.check is not None:
        definition.check(spec.domains, settings)


def remarks(spec: StudySpec, runner: StudyRunner | None = None) -> Iterator[Noted]:
    """Yield a line for everything of a study that passed ``check_study`` and will not be as it may look.

    Args:
        spec: The study.
        runner: The target's own tuner, where it runs the study.
    """
    algorithm = Algorithm.of(spec.algorithm)
    if runner is not None:
        for text in runner.remarks(spec):
            yield Noted(text=text, warning=True)
        return
    if algorithm is Algorithm.GRID and (spec.seed is not None or "random_state" in spec.algorithm_settings):
        yield Noted(text="grid is not random: its seed is ignored.", warning=True)
    if algorithm is Algorithm.CMAES:
        for name, domain in spec.domains.items():
            if isinstance(domain, Categorical) and len(domain.values) > 1:
                text = f"cmaes searches numbers only: {name} is sampled at random."
                yield Noted(text=text, warning=True, hint="--algorithm tpe learns categories too")
    if algorithm in (Algorithm.CMAES, Algorithm.NSGA2):
        for name, domain in spec.domains.items():
            if domain.conditions:
                text = f"{algorithm} learns what every trial has: {name} is sampled at random where it is searched."
                yield Noted(text=text, warning=True, hint="--algorithm tpe learns conditional hyperparameters too")
    if algorithm is Algorithm.NSGA2:
        settings = read_settings(definition_of(algorithm).settings, algorithm, spec.algorithm_settings)
        size = int(str(settings.get("population_size", POPULATION)))
        if spec.trials <= size:
            text = f"nsga2 draws its first generation of {size} trials at random: {spec.trials} trials are no more."
            hint = f"--trials {4 * size}, or --algorithm-setting population_size={max(2, spec.trials // 4)}"
            yield Noted(text=text, warning=True, hint=hint)
        if spec.resume:
            yield Noted(text="nsga2 begins with a new generation: it does not breed from the earlier trials.")
    if algorithm is Algorithm.HYPERBAND and "resource_name" in spec.algorithm_settings:
        name = spec.algorithm_settings["resource_name"]
        settings = read_settings(definition_of(algorithm).settings, algorithm, spec.algorithm_settings)
        budget, _ = hyperband_resource(spec.domains, settings)
        text = f"hyperband gives every trial {name}={budget} and ends those that lag on the steps they report."
        yield Noted(text=text)


def combinations(domains: Mapping[str, AnyDomain]) -> int | None:
    """Return how many combinations a grid has; ``None`` where they cannot be enumerated."""
    if any(domain.conditions for domain in domains.values()):
        return _conditional_combinations(domains)
    product = 1
    for domain in domains.values():
        match domain:
            case Integer():
                product *= (domain.max - domain.min) // (domain.step or 1) + 1
            case Double():
                axis = axis_of(domain)
                if not isinstance(axis, DiscreteAxis):
                    return None
                product *= len(axis.values)
            case Discrete() | Categorical():
                product *= len(domain.values)
    return product


def _conditional_combinations(domains: Mapping[str, AnyDomain]) -> int | None:
    """Count the combinations of which no two stand for the same trial."""
    space = Space(domains)
    axes = {name: axis for name, axis in space.axes.items() if isinstance(axis, DiscreteAxis)}
    size = math.prod(len(axis.values) for axis in axes.values())
    if len(axes) < len(space.axes) or size > _COUNTED:
        return None
    points = itertools.product(*(range(len(axis.values)) for axis in axes.values()))
    return sum(space.settled(point) == point for point in (dict(zip(axes, p, strict=True)) for p in points))


def fit_grid(spec: StudySpec) -> tuple[StudySpec, list[Noted]]:
    """Return the study with as many trials as its grid has combinations at most, and a note where it had more.

    Katib refuses a grid with fewer combinations than trials.
    """
    count = combinations(spec.domains) if spec.algorithm == Algorithm.GRID else None
    if count is None or count >= spec.trials:
        return spec, []
    text = f"The grid has {count} combinations: {count} trials instead of {spec.trials}."
    return msgspec.structs.replace(spec, trials=count, parallel=min(spec.parallel, count)), [Noted(text=text)]
