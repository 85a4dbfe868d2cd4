"""Mistakes of published evaluations, each put back into a copy of the function: the check of its name has to catch it.

Every check takes the function to be judged, holds for ours, and fails for the copy with the mistake.
"""

import numpy as np
import pytest
import scipy.linalg

from medloom.core.errors import UserError
from medloom.metrics.classification import auroc
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.inception import inception_score
from medloom.metrics.kernel import squared_mmd
from medloom.metrics.structural import psnr
from medloom.metrics.uncertainty import Interval, subsample_interval


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def caught(check, wrong):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(wrong)


def check_square_root(distance):
    x = normals(0, 60, 3)
    assert distance(x, x + np.array([3, 4, 0])) == pytest.approx(25)


def test_square_root_of_the_frechet_distance():
    check_square_root(frechet_distance)
    caught(check_square_root, lambda x, y: np.sqrt(frechet_distance(x, y)))


def check_real_part(distance):
    # Fewer samples than dimensions: the product of covariances is singular, and its matrix root is not exact.
    x, y = normals(1, 12, 40), normals(2, 15, 40)
    rows = np.linalg.qr(np.concatenate([x, y]).T)[0].T
    assert distance(x, y) == pytest.approx(frechet_distance(x @ rows.T, y @ rows.T), rel=1e-6)
    assert distance(x, x) == pytest.approx(0, abs=1e-6)


def test_matrix_root_of_a_singular_product():
    def wrong(x, y):
        root = scipy.linalg.sqrtm((np.cov(x.T) + 1e-3 * np.eye(40)) @ (np.cov(y.T) + 1e-3 * np.eye(40))).real
        shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
        return shift + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)

    check_real_part(frechet_distance)
    caught(check_real_part, wrong)


def check_probabilities(score):
    logits = normals(3, 200, 5) * 4
    with pytest.raises(UserError, match="not probabilities"):
        score(logits)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert 1 <= score(softmax) <= 5


def test_inception_score_without_probabilities():
    def wrong(p):
        p = np.abs(p)
        marginal = p.mean(axis=0)
        return np.exp((p * (np.log(p) - np.log(marginal))).sum(axis=1).mean())

    check_probabilities(lambda p: inception_score(p, seed=0).mean)
    caught(check_probabilities, wrong)


def check_wrapping(similarity):
    dark, light = np.zeros((1, 16, 16), np.uint8), np.full((1, 16, 16), 200, np.uint8)
    # 0 - 200 is 56 in uint8, and its square wraps again.
    assert similarity(dark, light) == pytest.approx(similarity(light, dark))
    assert similarity(dark, light) == pytest.approx(10 * np.log10(255**2 / 200**2))


def test_subtraction_of_uint8_that_wraps():
    def wrong(x, y):
        return 10 * np.log10(255**2 / np.mean((x - y) ** 2))

    check_wrapping(lambda x, y: psnr(x, y, 255))
    caught(check_wrapping, wrong)


def check_own_estimate(interval):
    x, y = normals(4, 150, 32), normals(5, 150, 32) + 0.1
    found = interval(x, y)
    assert found.low <= frechet_distance(x, y) <= found.high


def test_bootstrap_interval_that_excludes_its_own_estimate():
    def ours(x, y):
        rows = np.arange(len(x))
        return subsample_interval(lambda i, j: frechet_distance(x[i], y[j]), rows, rows, seed=0, at="n", repeats=50)

    def wrong(x, y):
        rng = np.random.default_rng(0)
        draws = [frechet_distance(*(z[rng.integers(0, len(z), len(z))] for z in (x, y))) for _ in range(50)]
        return Interval(frechet_distance(x, y), *np.quantile(draws, [0.025, 0.975]), len(x))

    check_own_estimate(ours)
    caught(check_own_estimate, wrong)


def check_pairs_with_itself(mmd):
    found = [mmd(normals([6, k], 12, 4), normals([7, k], 12, 4)) for k in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_kernel_distance_that_counts_pairs_of_a_sample_with_itself():
    def wrong(x, y):
        kernel = [((a @ b.T) / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
        return kernel[0].mean() + kernel[1].mean() - 2 * kernel[2].mean()

    check_pairs_with_itself(squared_mmd)
    caught(check_pairs_with_itself, wrong)


def check_one_class(area):
    with pytest.raises(UserError, match="both 0 and 1 must occur"):
        area(np.ones(5), np.linspace(0, 1, 5))
    assert area(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])) == 1


def test_area_of_a_single_class_taken_for_chance():
    def wrong(truth, scores):
        return 0.5 if len(set(truth)) < 2 else auroc(truth, scores)

    check_one_class(auroc)
    caught(check_one_class, wrong)
