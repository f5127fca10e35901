"""The Gaussian process against scikit-learn's: the same kernel must give the same predictions and likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from kaptain_magics.tuning.gaussian import _Process

LENGTHS = np.array([0.3, 1.2, 0.7])
NOISE = 1e-2


@pytest.fixture(params=range(3))
def data(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(request.param)
    x = rng.random((40, 3))
    y = np.sin(5 * x[:, 0]) + x[:, 1] ** 2 - x[:, 2] + rng.normal(0, 0.1, 40)
    return x, (y - y.mean()) / y.std(), rng.random((25, 3))


def ours(x: np.ndarray, y: np.ndarray) -> _Process:
    return _Process(x, y, np.log(np.append(LENGTHS, NOISE)), np.arange(3))


def theirs(x: np.ndarray, y: np.ndarray, amplitude: float) -> GaussianProcessRegressor:
    """The same process: our noise is relative to the amplitude, scikit-learn's ``alpha`` is not."""
    kernel = ConstantKernel(amplitude) * Matern(LENGTHS, nu=2.5)
    return GaussianProcessRegressor(kernel, alpha=amplitude * (NOISE + 1e-8), optimizer=None).fit(x, y)


def test_mean_and_deviation_are_scikit_learns(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, new = data
    process = ours(x, y)
    mean, deviation = process.predict(new)
    expected, spread = theirs(x, y, process._amplitude).predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(deviation, spread, atol=1e-6)


def test_the_amplitude_is_the_likeliest_one_and_its_likelihood_scikit_learns(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = data
    process = ours(x, y)

    def likelihood(amplitude: float) -> float:
        return float(theirs(x, y, amplitude).log_marginal_likelihood_value_)

    best = likelihood(process._amplitude)
    assert best >= max(likelihood(process._amplitude * factor) for factor in (0.9, 0.99, 1.01, 1.1))
    prior = -0.5 * float(np.sum((np.log(LENGTHS) - math.log(0.5)) ** 2)) / 1.5**2
    constant = -0.5 * len(y) * (1 + math.log(2 * math.pi))  # what does not depend on the length scales is left out
    assert process.likelihood - prior + constant == pytest.approx(best, abs=1e-6)
