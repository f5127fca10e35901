"""Every algorithm of this package."""

from __future__ import annotations

from kaptain_magics.testing.algorithm import AlgorithmSuite
from kaptain_magics.tuning.algorithms import ALGORITHMS


class TestRandom(AlgorithmSuite):
    algorithm = "random"


class TestGrid(AlgorithmSuite):
    algorithm = "grid"
    refuses = ("double", "log", "log_integer")
    draws = False
    finite = True


class TestSobol(AlgorithmSuite):
    algorithm = "sobol"


class TestTpe(AlgorithmSuite):
    algorithm = "tpe"
    learns = True


class TestMultivariateTpe(AlgorithmSuite):
    algorithm = "multivariate-tpe"
    learns = True


class TestCmaes(AlgorithmSuite):
    algorithm = "cmaes"
    learns = True


class TestBayesianOptimization(AlgorithmSuite):
    algorithm = "bayesianoptimization"
    learns = True


class TestHyperband(AlgorithmSuite):
    algorithm = "hyperband"
    settings = {"r_l": "9"}  # noqa: RUF012 - a constant of the suite


class TestNsga2(AlgorithmSuite):
    algorithm = "nsga2"
    settings = {"population_size": "8"}  # noqa: RUF012 - a constant of the suite


def test_every_algorithm_is_here() -> None:
    assert {suite.algorithm for suite in AlgorithmSuite.__subclasses__()} >= set(ALGORITHMS)
