"""The algorithms of a search: one row each, under Katib's names and with Katib's settings.

Nothing heavy is imported here: a line is checked in the kernel in about a millisecond, the row's module is imported by
the supervisor when the study starts.
"""

from __future__ import annotations

import importlib
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kaptain_magics.core.domains import AnyDomain, Discrete, Value
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import AlgorithmError, DomainError
from kaptain_magics.tuning.search import Search, Stopper
from kaptain_magics.tuning.space import ContinuousAxis, Space, axis_of


class Algorithm(StrEnum):
    """A search algorithm, by Katib's name."""

    RANDOM = "random"
    GRID = "grid"
    TPE = "tpe"
    MULTIVARIATE_TPE = "multivariate-tpe"
    BAYESIANOPTIMIZATION = "bayesianoptimization"
    CMAES = "cmaes"
    SOBOL = "sobol"
    HYPERBAND = "hyperband"
    PBT = "pbt"
    ENAS = "enas"
    DARTS = "darts"

    @classmethod
    def of(cls, name: str) -> Algorithm:
        """Return the algorithm of that name.

        Raises:
            AlgorithmError: There is no such algorithm.
        """
        try:
            return cls(str(name).strip().lower().replace("_", "-"))
        except ValueError:
            raise AlgorithmError(f"unknown algorithm {name!r}", _nearest(str(name), cls)) from None


@dataclass(frozen=True)
class Setting:
    """A setting of an algorithm.

    Attributes:
        key: Our name of it.
        read: Turns the text into a value; raises ``ValueError`` where it is not usable.
        wants: What is usable, completes "... is not".
    """

    key: str
    read: Callable[[str], object]
    wants: str


def whole(key: str, least: int) -> Setting:
    """Return a setting that is a whole number."""

    def read(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError(text)
        return number

    return Setting(key, read, f"a whole number from {least}")


def above(key: str, bound: float) -> Setting:
    """Return a setting that is a number above a bound."""

    def read(text: str) -> float:
        if not bound < (number := float(text)) < math.inf:
            raise ValueError(text)
        return number

    return Setting(key, read, f"a number above {bound:g}")


def one_of(key: str, *words: str, more: str = "") -> Setting:
    """Return a setting that is one of some words."""

    def read(text: str) -> str:
        return words[words.index(text)]

    return Setting(key, read, f"one of {', '.join(words)}" + (f" ({more})" if more else ""))


@dataclass(frozen=True)
class AlgorithmDefinition:
    """How an algorithm or a stopping rule is made.

    Attributes:
        make: ``module:callable``, called with the search space (a stopping rule: the direction) and the settings.
        settings: The settings that it takes, by Katib's names.
        needs: Modules that it needs and the base installation lacks, which are also the distributions' names.
        stopper: Name of the stopping rule that belongs to it.
    """

    make: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    stopper: str = ""


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
_HYPERBAND = {
    **_SEED,
    "r_l": whole("r_l", 1),
    "eta": whole("eta", 2),
    "resource_name": Setting("resource_name", str, "a name"),
}

ALGORITHMS: Mapping[Algorithm, AlgorithmDefinition] = {
    Algorithm.RANDOM: AlgorithmDefinition("kaptain_magics.tuning.points:RandomSearch", _SEED),
    Algorithm.GRID: AlgorithmDefinition("kaptain_magics.tuning.points:GridSearch", _SEED),
    Algorithm.SOBOL: AlgorithmDefinition("kaptain_magics.tuning.points:SobolSearch", _SEED, ("scipy",)),
    Algorithm.TPE: AlgorithmDefinition("kaptain_magics.tuning.guided:tpe", _TPE),
    Algorithm.MULTIVARIATE_TPE: AlgorithmDefinition("kaptain_magics.tuning.guided:multivariate_tpe", _TPE),
    Algorithm.CMAES: AlgorithmDefinition("kaptain_magics.tuning.guided:cmaes", _CMAES, ("cmaes",)),
    Algorithm.BAYESIANOPTIMIZATION: AlgorithmDefinition("kaptain_magics.tuning.gaussian:GaussianSearch", _BAYES),
    Algorithm.HYPERBAND: AlgorithmDefinition(
        "kaptain_magics.tuning.points:RandomSearch", _HYPERBAND, stopper="hyperband"
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
    row = definition_of(algorithm)
    settings = read_settings(row.settings, algorithm, spec.algorithm_settings)
    domains: Mapping[str, AnyDomain] = spec.domains
    if algorithm is Algorithm.HYPERBAND:
        _, domains = hyperband_resource(domains, settings)
        settings = {k: v for k, v in settings.items() if k == "seed"}
    if spec.seed is not None:
        settings["seed"] = spec.seed
    settings.setdefault("seed", secrets.randbits(31))
    search: Search = _factory(row)(Space(domains), spec.direction, **settings)
    return search


def make_stopper(spec: StudySpec) -> Stopper | None:
    """Return the stopping rule of a study that passed ``checks.check_study``, if it has one."""
    algorithm = Algorithm.of(spec.algorithm)
    row = definition_of(algorithm)
    stopper: Stopper | None = None
    if algorithm is Algorithm.HYPERBAND:
        settings = read_settings(row.settings, algorithm, spec.algorithm_settings)
        budget, _ = hyperband_resource(spec.domains, settings)
        stopper = _factory(_HALVING)(spec.direction, budget=budget, eta=settings.get("eta", 3))
    elif spec.early_stopping:
        stopper = _factory(STOPPING_RULES[spec.early_stopping])(spec.direction, **read_stopping(spec))
    return stopper


def definition_of(algorithm: Algorithm) -> AlgorithmDefinition:
    """Return the row of an algorithm.

    Raises:
        AlgorithmError: Only Katib has it.
    """
    if algorithm not in ALGORITHMS:
        raise AlgorithmError(
            f"only Katib has {algorithm}", "use --on kubernetes with Katib, or one of " + ", ".join(ALGORITHMS)
        )
    return ALGORITHMS[algorithm]


def _factory(row: AlgorithmDefinition) -> Callable[..., Any]:
    module, _, name = row.make.partition(":")
    maker: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return maker


def read_settings(
    known: Mapping[str, Setting], name: str, texts: Mapping[str, str], elsewhere: Mapping[str, Setting] | None = None
) -> dict[str, object]:
    """Return the values of settings by our keys.

    Args:
        known: The settings that there are.
        name: What they belong to.
        texts: The settings as they were written.
        elsewhere: Those that the other tuner (Katib or the loop here) has under that name, for the message.

    Raises:
        AlgorithmError: One does not exist or has a value that is not usable.
    """
    values: dict[str, object] = {}
    for key, text in texts.items():
        if key not in known:
            hint = _nearest(key, known) if known else "leave it out"
            if key in (elsewhere or {}):
                hint = f"another implementation of {name} has it, the one that would run here has {_listed(known)}"
            raise AlgorithmError(f"{name} has no setting {key!r}", hint)
        setting = known[key]
        try:
            value = setting.read(str(text).strip())
        except (ValueError, OverflowError):
            hint = f"correct {key} or leave it out"
            raise AlgorithmError(f"{name}: {key} {text!r} is not {setting.wants}", hint) from None
        if setting.key:
            values[setting.key] = value
    return values


def _listed(known: Mapping[str, object]) -> str:
    return ", ".join(known) or "none"


def read_stopping(spec: StudySpec, stopper: str = "") -> dict[str, object]:
    """Return the settings of a study's stopping rule by our keys.

    Args:
        spec: The study.
        stopper: The stopping rule that its algorithm has of its own.

    Raises:
        AlgorithmError: The rule or a setting does not exist, or the algorithm stops trials by itself.
    """
    if not spec.early_stopping:
        if spec.early_stopping_settings:
            raise AlgorithmError(
                "there are settings for early stopping, but no rule", "write --early-stopping medianstop"
            )
        return {}
    if spec.early_stopping not in STOPPING_RULES:
        hint = _nearest(spec.early_stopping, STOPPING_RULES)
        raise AlgorithmError(f"unknown early-stopping rule {spec.early_stopping!r}", hint)
    if stopper:
        raise AlgorithmError(f"{stopper} stops trials by itself", "leave --early-stopping out")
    return read_settings(
        STOPPING_RULES[spec.early_stopping].settings, spec.early_stopping, spec.early_stopping_settings
    )


def _nearest(word: str, known: Mapping[str, object] | type[Algorithm]) -> str:
    return did_you_mean(word, known) or "one of " + ", ".join(known)


def hyperband_resource(
    domains: Mapping[str, AnyDomain], settings: Mapping[str, object]
) -> tuple[int, Mapping[str, AnyDomain]]:
    """Return hyperband's greatest number of steps, and the domains with the resource at that number.

    Katib starts short trials and repeats the good ones with a longer resource. Here every trial may take the whole
    resource and is stopped where it falls behind, so that nothing is computed twice.
    """
    name = settings.get("resource_name")
    if name is None:
        if "r_l" not in settings:
            raise AlgorithmError(
                "hyperband needs r_l, the greatest number of steps that a trial reports",
                "write --algorithm-setting r_l=27, or resource_name=NAME for the hyperparameter that holds it",
            )
        return _as_int(settings["r_l"]), domains
    if not isinstance(name, str) or name not in domains:
        raise AlgorithmError(f"hyperband: resource_name {name!r} is not searched", _nearest(str(name), domains))
    domain = domains[name]
    axis = axis_of(domain)
    greatest: Value = axis.value(1.0) if isinstance(axis, ContinuousAxis) else axis.values[len(axis.values) - 1]
    try:
        budget = _as_int(settings.get("r_l", greatest))
    except ValueError:
        budget = 0
    if budget < 1 or not domain.contains(budget):
        raise DomainError(
            f"hyperband: {name} = {domain!r} does not hold r_l = {settings.get('r_l', greatest)}",
            f"write {name}=Integer(1, 27) with --algorithm-setting r_l=27",
        )
    fixed: Value = greatest if float(greatest) == budget else type(greatest)(budget)
    return budget, {**domains, name: Discrete((fixed,))}


def _as_int(value: object) -> int:
    number = float(str(value))
    if number != int(number):
        raise ValueError(value)
    return int(number)
