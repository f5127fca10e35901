"""The algorithms of a search: a definition each, under Katib's names and with Katib's settings.

Nothing heavy is imported here: a line is checked in the kernel in about a millisecond, the factory's module is imported
by the supervisor when the study starts. Definitions of other distributions are found by their entry points
(``core.plugins``); they should leave heavy imports to their factory's module too.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kaptain_magics.core import plugins
from kaptain_magics.core.algorithm_names import GROUP, Algorithm
from kaptain_magics.core.algorithm_settings import (
    Setting,
    above,
    between,
    one_of,
    read_settings,
    read_stopping_rule,
    whole,
)
from kaptain_magics.core.domains import AnyDomain
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import AlgorithmError, DomainError
from kaptain_magics.tuning.hyperband import hyperband_resource
from kaptain_magics.tuning.search import Search, Stopper
from kaptain_magics.tuning.space import ContinuousAxis, Space, axis_of


@dataclass(frozen=True)
class AlgorithmDefinition:
    """What is known of an algorithm or a stopping rule before its library is imported.

    Attributes:
        factory: ``module:callable``. An algorithm's is called as ``factory(space, direction, seed=..., **settings)``
            and returns a ``search.Search``, a stopping rule's as ``factory(direction, **settings)`` and returns a
            ``search.Stopper``.
        settings: The settings that it takes, by the names that people write (ours: Katib's).
        requires: Modules that it imports and the base installation lacks, which are also the distributions' names.
        check: Called with the domains and the settings before anything starts; raises a ``KaptainError`` where the
            algorithm cannot search them.
        stops_trials: Whether it ends trials early by a rule of its own, and so takes no ``--early-stopping``.
        objectives: What it can do with several objectives: ``one``, it learns from the first alone; ``any``, it does
            not look at them; ``all``, its factory takes ``objectives=`` with all of them where they decide together.

    Example:
        What ``turbo = "my_package.turbo:TURBO"`` among the entry points ``kaptain_magics.algorithms`` stands for::

            TURBO = AlgorithmDefinition(
                "my_package.sampler:TurboSearch", {"regions": whole("regions", 1)}, requires=("botorch",)
            )
    """

    factory: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    check: Callable[[Mapping[str, AnyDomain], Mapping[str, object]], object] | None = None
    stops_trials: bool = False
    objectives: Literal["one", "any", "all"] = "one"


def _check_grid(domains: Mapping[str, AnyDomain], settings: Mapping[str, object]) -> None:  # noqa: ARG001
    for name, domain in domains.items():
        if isinstance(axis_of(domain), ContinuousAxis):
            raise DomainError(
                f"grid cannot enumerate {name} = {domain!r}",
                "give it a step, as in Double(0, 1, step=0.1), list values with Discrete, or use another algorithm",
            )


def _check_cmaes(domains: Mapping[str, AnyDomain], settings: Mapping[str, object]) -> None:  # noqa: ARG001
    ordered = [name for name, domain in domains.items() if _is_ordered(domain)]
    if len(ordered) < 2:
        raise AlgorithmError(
            f"cmaes needs at least two numeric hyperparameters, found {ordered[0] if ordered else 'none'}",
            "add another one, or use --algorithm tpe or bayesianoptimization",
        )


def _is_ordered(domain: AnyDomain) -> bool:
    axis = axis_of(domain)
    return isinstance(axis, ContinuousAxis) or (axis.ordered and len(axis.values) > 1)


_SEED = {"random_state": whole("seed", 0)}
_TPE = {
    **_SEED,
    "n_startup_trials": whole("n_startup_trials", 0),
    "n_ei_candidates": whole("n_ei_candidates", 1),
    "n_EI_candidates": whole("n_ei_candidates", 1),
}
_BAYES = {
    **_SEED,
    "n_initial_points": whole("initial", 1),
    "acq_func": one_of("acquisition", "EI", "LCB", "PI", more="others need Katib"),
    "base_estimator": one_of("", "GP", more="others need Katib"),
    "acq_optimizer": one_of("", "auto", "sampling", more="others need Katib"),
}
_CMAES = {**_SEED, "sigma": above("sigma", 0), "restart_strategy": one_of("", "none", more="others need Katib")}
POPULATION = 20  # trials of a generation of nsga2 by default; Optuna's 50 are more than most studies have
_NSGA2 = {
    **_SEED,
    "population_size": whole("population_size", 2),
    "mutation_prob": between("mutation_prob", 0, 1),
    "crossover_prob": between("crossover_prob", 0, 1),
}
_HYPERBAND = {
    **_SEED,
    "r_l": whole("r_l", 1),
    "eta": whole("eta", 2),
    "resource_name": Setting("resource_name", str, "a name"),
}

ALGORITHMS: Mapping[Algorithm, AlgorithmDefinition] = {
    Algorithm.RANDOM: AlgorithmDefinition("kaptain_magics.tuning.points:RandomSearch", _SEED, objectives="any"),
    Algorithm.GRID: AlgorithmDefinition(
        "kaptain_magics.tuning.points:GridSearch", _SEED, check=_check_grid, objectives="any"
    ),
    Algorithm.SOBOL: AlgorithmDefinition(
        "kaptain_magics.tuning.points:SobolSearch", _SEED, ("scipy",), objectives="any"
    ),
    Algorithm.TPE: AlgorithmDefinition("kaptain_magics.tuning.guided:tpe", _TPE, objectives="all"),
    Algorithm.MULTIVARIATE_TPE: AlgorithmDefinition(
        "kaptain_magics.tuning.guided:multivariate_tpe", _TPE, objectives="all"
    ),
    Algorithm.NSGA2: AlgorithmDefinition("kaptain_magics.tuning.guided:nsga2", _NSGA2, objectives="all"),
    Algorithm.CMAES: AlgorithmDefinition("kaptain_magics.tuning.guided:cmaes", _CMAES, ("cmaes",), check=_check_cmaes),
    Algorithm.BAYESIANOPTIMIZATION: AlgorithmDefinition("kaptain_magics.tuning.gaussian:GaussianSearch", _BAYES),
    Algorithm.HYPERBAND: AlgorithmDefinition(
        "kaptain_magics.tuning.points:RandomSearch", _HYPERBAND, check=hyperband_resource, stops_trials=True
    ),
}
STOPPING_RULES: Mapping[str, AlgorithmDefinition] = {
    "medianstop": AlgorithmDefinition(
        "kaptain_magics.tuning.stopping:median",
        {"min_trials_required": whole("trials", 1), "start_step": whole("steps", 1)},
    ),
}
_HALVING = AlgorithmDefinition("kaptain_magics.tuning.stopping:halving")


def make_search(spec: StudySpec) -> Search:
    """Return the search of a study that passed ``checks.check_study``."""
    algorithm = Algorithm.of(spec.algorithm)
    definition = definition_of(algorithm)
    settings = read_settings(definition.settings, algorithm, spec.algorithm_settings)
    domains: Mapping[str, AnyDomain] = spec.domains
    if algorithm is Algorithm.HYPERBAND:
        _, domains = hyperband_resource(domains, settings)
        settings = {k: v for k, v in settings.items() if k == "seed"}
    if spec.seed is not None:
        settings["seed"] = spec.seed
    settings.setdefault("seed", secrets.randbits(31))
    if spec.pareto and definition.objectives == "all":
        settings["objectives"] = spec.directed
    search: Search = _factory(definition)(Space(domains), spec.direction, **settings)
    return search


def make_stopper(spec: StudySpec) -> Stopper | None:
    """Return the stopping rule of a study that passed ``checks.check_study``, if it has one."""
    algorithm = Algorithm.of(spec.algorithm)
    definition = definition_of(algorithm)
    stopper: Stopper | None = None
    if algorithm is Algorithm.HYPERBAND:
        settings = read_settings(definition.settings, algorithm, spec.algorithm_settings)
        budget, _ = hyperband_resource(spec.domains, settings)
        stopper = _factory(_HALVING)(spec.direction, budget=budget, eta=settings.get("eta", 3))
    elif spec.early_stopping:
        stopper = _factory(STOPPING_RULES[spec.early_stopping])(spec.direction, **read_stopping(spec))
    return stopper


def algorithm_names() -> list[str]:
    """Return the names of all algorithms that can run here: ours and those of other distributions."""
    return plugins.names(GROUP, ALGORITHMS)


def definition_of(algorithm: Algorithm) -> AlgorithmDefinition:
    """Return the definition of an algorithm, ours or another distribution's.

    Raises:
        AlgorithmError: Only Katib has it, or its distribution is not installed or cannot be imported.
    """
    if algorithm in ALGORITHMS:
        return ALGORITHMS[algorithm]
    if algorithm.in_katib:
        raise AlgorithmError(
            f"only Katib has {algorithm}", "use --on kubernetes with Katib, or one of " + ", ".join(ALGORITHMS)
        )
    definition = plugins.load(GROUP, {}, algorithm.value, "algorithm", AlgorithmError)
    if not isinstance(definition, AlgorithmDefinition):
        raise AlgorithmError(
            f"algorithm {algorithm}: its entry point is a {type(definition).__name__}, not an AlgorithmDefinition",
            "correct the entry point in its distribution",
        )
    return definition


def _factory(definition: AlgorithmDefinition) -> Callable[..., Any]:
    module, _, name = definition.factory.partition(":")
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except Exception as cause:  # another distribution's module
        raise AlgorithmError(
            f"{definition.factory} cannot be imported: {type(cause).__name__}: {cause}",
            "check the installation of the distribution that brings the algorithm, or use another --algorithm",
        ) from cause
    return factory


def read_stopping(spec: StudySpec, stops_trials: bool = False) -> dict[str, object]:
    """Return the settings of a study's stopping rule as keyword arguments of its factory.

    Args:
        spec: The study.
        stops_trials: Whether its algorithm has a rule of its own.

    Raises:
        AlgorithmError: The rule or a setting does not exist, or the algorithm stops trials by itself.
    """
    if stops_trials and spec.early_stopping in STOPPING_RULES:
        raise AlgorithmError(f"{spec.algorithm} stops trials by itself", "remove --early-stopping")
    return read_stopping_rule(spec, {name: rule.settings for name, rule in STOPPING_RULES.items()})
