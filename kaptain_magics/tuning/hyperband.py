"""Hyperband's resource: the number of steps that a trial may take at most."""

from __future__ import annotations

from collections.abc import Mapping

from kaptain_magics.core.algorithm_settings import nearest
from kaptain_magics.core.domains import AnyDomain, Discrete, Value
from kaptain_magics.errors import AlgorithmError, DomainError
from kaptain_magics.tuning.space import ContinuousAxis, axis_of


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
                "hyperband needs r_l, the maximum number of steps that a trial reports",
                "write --algorithm-setting r_l=27, or resource_name=NAME for the hyperparameter that holds it",
            )
        return _as_int(settings["r_l"]), domains
    if not isinstance(name, str) or name not in domains:
        raise AlgorithmError(f"hyperband: resource_name {name!r} is not searched", nearest(str(name), domains))
    domain = domains[name]
    if domain.conditions:
        raise DomainError(f"hyperband: {name} = {domain!r} has a condition", "search it in every trial")
    axis = axis_of(domain)
    greatest: Value = axis.value(1.0) if isinstance(axis, ContinuousAxis) else axis.values[len(axis.values) - 1]
    try:
        budget = _as_int(settings.get("r_l", greatest))
    except ValueError:
        budget = 0
    if budget < 1 or not domain.contains(budget):
        raise DomainError(
            f"hyperband: {name} = {domain!r} does not contain r_l = {settings.get('r_l', greatest)}",
            f"write {name}=Integer(1, 27) with --algorithm-setting r_l=27",
        )
    fixed: Value = greatest if float(greatest) == budget else type(greatest)(budget)
    return budget, {**domains, name: Discrete((fixed,))}


def _as_int(value: object) -> int:
    number = float(str(value))
    if number != int(number):
        raise ValueError(value)
    return int(number)
