"""What Katib's own algorithms accept, refuse and ignore: they differ from those of the same name in this package.

Katib reports it where few people look: an unknown setting makes the Experiment fail with "Suggestion has failed", and
nothing reports what is ignored. Sources, in ``kubeflow/katib`` at 0.19, below
``pkg/suggestion/v1beta1``: ``hyperopt/service.py``, ``optuna/service.py``, ``skopt/{service,base_service}.py``,
``goptuna/{service,converter}.go``, ``hyperband/service.py``, ``internal/search_space.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.algorithm_settings import (
    Setting,
    above,
    between,
    one_of,
    read_settings,
    read_stopping_rule,
    whole,
)
from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import AlgorithmError, DomainError

_SEED = {"random_state": whole("", 0)}
_GOPTUNA = (Algorithm.CMAES, Algorithm.SOBOL)


SETTINGS: Mapping[Algorithm, Mapping[str, Setting]] = {
    Algorithm.RANDOM: _SEED,
    Algorithm.GRID: _SEED,
    Algorithm.SOBOL: {},
    Algorithm.TPE: {
        **_SEED,
        "gamma": between("", 0, 1),
        "prior_weight": above("", 0),
        "n_EI_candidates": whole("", 1),
    },
    Algorithm.MULTIVARIATE_TPE: {**_SEED, "n_startup_trials": whole("", 0), "n_ei_candidates": whole("", 0)},
    Algorithm.CMAES: {**_SEED, "sigma": above("", 0), "restart_strategy": one_of("", "none", "ipop", "bipop")},
    Algorithm.BAYESIANOPTIMIZATION: {
        **_SEED,
        "n_initial_points": whole("", 0),
        "acq_func": one_of("", "gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"),
        "base_estimator": one_of("", "GP", "RF", "ET", "GBRT"),
        "acq_optimizer": one_of("", "auto", "sampling", "lbfgs"),
    },
    Algorithm.HYPERBAND: {
        "r_l": whole("r_l", 1),
        "eta": whole("eta", 2),
        "resource_name": Setting("resource_name", str, "a name"),
    },
}
"""The settings by algorithm; algorithms that are not here (pbt, enas, darts) are left to Katib."""
_STOPPING = {"medianstop": {"min_trials_required": whole("", 1), "start_step": whole("", 1)}}


def check_katib(spec: StudySpec) -> None:
    """Refuse a study that Katib would refuse, or could only fail with.

    Raises:
        AlgorithmError: A setting or the stopping rule does not exist there, or something that it needs is missing.
        DomainError: The algorithm cannot search a domain.
    """
    algorithm = Algorithm.of(spec.algorithm)
    if not algorithm.in_katib:
        raise AlgorithmError(f"Katib has no algorithm {algorithm}", "use --tuner jobs to search without Katib")
    for name, domain in spec.domains.items():
        if domain.conditions:
            raise DomainError(
                f"Katib has no conditional hyperparameters: {name}={domain!r}",
                "use --tuner jobs to search without Katib, or remove the condition",
            )
    if spec.pareto:
        raise AlgorithmError(
            "Katib optimizes one objective, not several together", "use --tuner jobs to search without Katib"
        )
    read_stopping_rule(spec, _STOPPING)
    if algorithm not in SETTINGS:
        return
    settings = read_settings(SETTINGS[algorithm], f"Katib's {algorithm}", spec.algorithm_settings)
    if algorithm is Algorithm.HYPERBAND:
        _check_hyperband(spec, settings)
    if algorithm is Algorithm.CMAES and sum(isinstance(d, Double | Integer) for d in spec.domains.values()) < 2:
        raise AlgorithmError(
            "Katib's cmaes needs at least two Double or Integer to search",
            "add another one, or use --algorithm tpe or bayesianoptimization",
        )
    for name, domain in spec.domains.items():
        if algorithm is Algorithm.GRID and isinstance(domain, Double) and domain.step is None:
            raise DomainError(
                f"grid cannot enumerate {name} = {domain!r}",
                "give it a step, as in Double(0, 1, step=0.1), list values with Discrete, or use another algorithm",
            )
        if algorithm is Algorithm.BAYESIANOPTIMIZATION and isinstance(domain, Double) and domain.min <= 0:
            raise DomainError(
                f"Katib's bayesianoptimization searches on a logarithmic scale, but {name} = {domain!r} is not above 0",
                "raise its minimum above 0, use --algorithm tpe, or --tuner jobs to search without Katib",
            )


def _check_hyperband(spec: StudySpec, settings: Mapping[str, object]) -> None:
    missing = [key for key in ("r_l", "resource_name") if key not in settings]
    if missing:
        raise AlgorithmError(
            f"Katib's hyperband needs {' and '.join(missing)}",
            "write --algorithm-setting r_l=27 --algorithm-setting resource_name=NAME, for a searched hyperparameter",
        )
    name = str(settings["resource_name"])
    if name not in spec.domains:
        raise AlgorithmError(
            f"hyperband: resource_name {name!r} is not searched", "it is one of " + ", ".join(spec.domains)
        )
    eta = int(str(settings.get("eta", 3)))
    least = eta ** int(math.log(int(str(settings["r_l"]))) / math.log(eta))
    if spec.parallel < least:
        raise AlgorithmError(
            f"Katib's hyperband needs {least} trials at a time for r_l = {settings['r_l']} and eta = {eta}, "
            f"not {spec.parallel}",
            f"write --parallel {least} and as many --trials at least, or a smaller r_l",
        )


def katib_remarks(spec: StudySpec) -> Iterator[str]:
    """Yield a sentence for everything in a study that Katib ignores."""
    algorithm = Algorithm.of(spec.algorithm)
    if spec.seed is not None and not takes_seed(algorithm):
        yield f"Katib's {algorithm} has no seed: --seed {spec.seed} is ignored."
    for name, domain in spec.domains.items():
        why = _ignored(algorithm, domain)
        if why:
            yield f"Katib's {algorithm} {why}: {name} = {domain!r}."


def takes_seed(algorithm: Algorithm) -> bool:
    """Whether Katib's algorithm has a seed."""
    return "random_state" in SETTINGS.get(algorithm, {}) and algorithm is not Algorithm.GRID


def _ignored(algorithm: Algorithm, domain: AnyDomain) -> str:
    log = isinstance(domain, Double | Integer) and domain.log
    if algorithm in _GOPTUNA and log:
        return "samples uniformly and ignores log=True"
    if algorithm is Algorithm.CMAES and isinstance(domain, Discrete | Categorical):
        return "samples choices at random"
    if algorithm is not Algorithm.BAYESIANOPTIMIZATION:
        return ""
    if isinstance(domain, Integer) and log:
        return "samples integers uniformly and ignores log=True"
    if isinstance(domain, Double | Integer) and domain.step is not None:
        return "ignores the step"
    if isinstance(domain, Double) and not log:
        return "searches on a logarithmic scale"
    return ""
