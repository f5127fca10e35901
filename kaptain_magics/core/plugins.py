"""What third parties bring: targets, frameworks and algorithms of other distributions, found by their entry points.

Ours stand in tables of their own, so that nothing is looked up for them: reading the entry points of all installed
distributions takes tens of milliseconds. A distribution offers a target named ``slurm`` like this::

    [project.entry-points."kaptain_magics.targets"]
    slurm = "my_package.slurm:SlurmTarget"

and a framework, named as its library's top-level package is, by a module with ``save(model, folder, options)`` (see
``runtime.savers``) and ``load(folder, config)`` (see ``serving.loaders.load_model``)::

    [project.entry-points."kaptain_magics.frameworks"]
    catboost = "my_package.catboost"

and an algorithm, named as ``--algorithm`` takes it, by a ``tuning.algorithms.AlgorithmDefinition``::

    [project.entry-points."kaptain_magics.algorithms"]
    turbo = "my_package.turbo:TURBO"
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import ConfigError, KaptainError


def names(group: str, own: Iterable[str]) -> list[str]:
    """Return the names of our own and of all others of a group.

    Args:
        group: Name of the entry points' group, such as ``kaptain_magics.targets``.
        own: Our own by name.
    """
    return list(dict.fromkeys([*own, *(point.name for point in entry_points(group=group))]))


def load(group: str, own: Mapping[str, str], name: str, what: str, error: type[KaptainError] = ConfigError) -> Any:
    """Import what a name stands for; ours go first, so that no other distribution can take their names.

    Args:
        group: Name of the entry points' group.
        own: Our own by name, as ``module`` or ``module:attribute``.
        name: The name.
        what: What is looked for, such as ``target``.
        error: The class of the error, with the cause and the next step.

    Raises:
        KaptainError: There is none of that name, or its distribution cannot be imported.
    """
    if name in own:
        module, _, attribute = own[name].partition(":")
        imported = importlib.import_module(module)
        return getattr(imported, attribute) if attribute else imported
    points = entry_points(group=group, name=name)
    if not points:
        choices = names(group, own)
        raise error(f"unknown {what} {name!r}", did_you_mean(name, choices) or "one of " + ", ".join(choices))
    point = next(iter(points))
    try:
        return point.load()
    except Exception as cause:  # a third party's module
        raise error(
            f"{what} {name!r} cannot be imported from {point.value}: {type(cause).__name__}: {cause}",
            f"check the installation of {_distribution(point)}",
        ) from cause


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
