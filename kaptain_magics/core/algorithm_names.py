"""The names of search algorithms: Katib's, and those that other distributions bring."""

from __future__ import annotations

import re
from enum import StrEnum

from kaptain_magics.core import plugins
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import AlgorithmError

GROUP = "kaptain_magics.algorithms"  # of entry points
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Algorithm(StrEnum):
    """A search algorithm, by Katib's name; ``nsga2`` is Optuna's alone.

    Those of other distributions (see ``core.plugins``) are members too, made when they are named.
    """

    RANDOM = "random"
    GRID = "grid"
    TPE = "tpe"
    MULTIVARIATE_TPE = "multivariate-tpe"
    BAYESIANOPTIMIZATION = "bayesianoptimization"
    CMAES = "cmaes"
    SOBOL = "sobol"
    HYPERBAND = "hyperband"
    NSGA2 = "nsga2"
    PBT = "pbt"
    ENAS = "enas"
    DARTS = "darts"

    @classmethod
    def of(cls, name: str) -> Algorithm:
        """Return the algorithm of that name; case does not matter, and ``_`` may stand for ``-``.

        Raises:
            AlgorithmError: There is no such algorithm.
        """
        word = str(name).strip().lower()
        own = word.replace("_", "-")
        if own in cls.__members__.values():
            return cls(own)
        if word not in (choices := cls.names()):
            hint = did_you_mean(word, choices) or "one of " + ", ".join(choices)
            raise AlgorithmError(f"unknown algorithm {name!r}", hint)
        return cls(word)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of our own algorithms and of all others that are installed."""
        return plugins.names(GROUP, cls)

    @property
    def in_katib(self) -> bool:
        """Whether Katib has it; all others are searched by the loop of this package."""
        return self in type(self).__members__.values() and self is not Algorithm.NSGA2

    @classmethod
    def _missing_(cls, value: object) -> Algorithm | None:
        """Make a member for a name that is not ours: a record must be readable where its distribution is not."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = value.upper(), value
        return member
