"""What third parties bring: targets and frameworks of other distributions, found by their entry points.

Ours stand in tables of their own, so that nothing is looked up for them: reading the entry points of all installed
distributions takes tens of milliseconds. A distribution offers a target named ``slurm`` like this::

    [project.entry-points."kaptain_magics.targets"]
    slurm = "my_package.slurm:SlurmTarget"

and a framework, named as its library's top-level package is, by a module with ``save(model, folder, options)`` (see
``runtime.savers``) and ``load(folder, config)`` (see ``serving.loaders.registry``)::

    [project.entry-points."kaptain_magics.frameworks"]
    catboost = "my_package.catboost"
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import ConfigError


def names(group: str, own: Iterable[str]) -> list[str]:
    """Return the names of our own and of all others of a group.

    Args:
        group: Name of the entry points' group, such as ``kaptain_magics.targets``.
        own: Our own by name.
    """
    return list(dict.fromkeys([*own, *(point.name for point in entry_points(group=group))]))


def load(group: str, own: Mapping[str, str], name: str, what: str) -> Any:
    """Import what a name stands for; ours go first, so that nobody else can take their names.

    Args:
        group: Name of the entry points' group.
        own: Our own by name, as ``module`` or ``module:attribute``.
        name: The name.
        what: What is looked for, such as ``target``.

    Raises:
        ConfigError: There is none of that name, or its distribution cannot be imported.
    """
    if name in own:
        module, _, attribute = own[name].partition(":")
        imported = importlib.import_module(module)
        return getattr(imported, attribute) if attribute else imported
    points = entry_points(group=group, name=name)
    if not points:
        known = names(group, own)
        raise ConfigError(f"unknown {what} {name!r}", did_you_mean(name, known) or "one of " + ", ".join(known))
    point = next(iter(points))
    try:
        return point.load()
    except Exception as error:  # somebody else's module
        raise ConfigError(
            f"{what} {name!r} cannot be imported from {point.value}: {type(error).__name__}: {error}",
            f"check the installation of {_distribution(point)}",
        ) from error


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
