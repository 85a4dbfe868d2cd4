import numpy as np
import pytest
import scipy.linalg

from medloom.core.errors import UserError
from medloom.metrics.frechet import frechet_distance, frechet_infinity


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def with_moments(x, mean, covariance):
    """Points whose sample mean and covariance are exactly these."""
    x = x - x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_known_answers():
    x = with_moments(normals(0, 50, 2), np.zeros(2), np.eye(2))
    assert frechet_distance(x, x + np.array([3, 4])) == pytest.approx(25, abs=1e-10)
    assert frechet_distance(x, with_moments(x, np.zeros(2), np.diag([4.0, 9.0]))) == pytest.approx(1 + 4, abs=1e-9)
    line = np.array([[0.0], [2.0]])  # mean 1, variance 2, against mean 4, variance 8
    assert frechet_distance(line, np.array([[2.0], [6.0]])) == pytest.approx(9 + 2, abs=1e-12)


def test_equals_the_matrix_root():
    x, y = normals(1, 80, 6) @ normals(2, 6, 6), normals(3, 90, 6) + 0.3
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 8), (20, 30, 64), (100, 12, 64)])
def test_invariances_and_fewer_samples_than_dimensions(n, m, d):
    x, y = normals(4, n, d), 1.5 * normals(5, m, d) + 1
    distance = frechet_distance(x, y)
    rotation = np.linalg.qr(normals(6, d, d))[0]
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(x @ rotation + 7, y @ rotation + 7) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-9)
    padded = [np.pad(z, ((0, 0), (0, 100))) for z in (x, y)]  # now always fewer samples than dimensions
    assert frechet_distance(*padded) == pytest.approx(distance, rel=1e-9)


def test_agrees_with_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.image.fid import _compute_fid

    x, y = normals(7, 200, 16), 1.2 * normals(8, 300, 16) + 0.1
    moments = [torch.tensor(value) for z in (x, y) for value in (z.mean(0), np.cov(z.T))]
    assert frechet_distance(x, y) == pytest.approx(_compute_fid(*moments).item(), rel=1e-6)


def test_infinity_takes_the_bias_off():
    at_null = [(normals([9, k], 400, 32), normals([10, k], 400, 32)) for k in range(5)]
    plain = np.mean([frechet_distance(x, y) for x, y in at_null])
    endless = np.mean([frechet_infinity(x, y, seed=0) for x, y in at_null])
    assert plain > 1 and abs(endless) < 0.1 * plain
    x, y = at_null[0]
    assert frechet_infinity(x, y, seed=0) == frechet_infinity(x, y, seed=0) != frechet_infinity(x, y, seed=1)


def test_bad_features_are_named():
    good = normals(11, 5, 3)
    for bad in (normals(12, 5, 4), normals(12, 1, 3), normals(12, 5)):
        with pytest.raises(UserError, match="feature sets have shapes"):
            frechet_distance(good, bad)
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(good, good * np.nan)
    with pytest.raises(UserError, match="FD-infinity"):
        frechet_infinity(good, good, seed=0, points=1)
