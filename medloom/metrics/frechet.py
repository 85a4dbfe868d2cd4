"""The Frechet distance between two sets of features, and its limit for endless sets."""

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """FD = |mu_x - mu_y|^2 + Tr(Sx + Sy - 2 (Sx Sy)^(1/2)), not its square root (Heusel et al. 2017, eq. 6).

    With Sx = A'A and Sy = B'B the trace of (Sx Sy)^(1/2) is the sum of singular values of A B', which needs no root of
    a matrix and stays exact where there are fewer samples than dimensions.

    Args:
        x: features `(n, d)`, finite, n >= 2.
        y: features `(m, d)`, finite, m >= 2.

    Returns:
        The distance, 0 or more up to rounding. It is biased upwards by about a constant over n: see
        `frechet_infinity`, and be wary when n < 10 d.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.
    """
    x, y = check_features(x, y)
    factor_x, factor_y = _factor(x), _factor(y)
    shift = float(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2))
    traces = float(np.sum(factor_x**2) + np.sum(factor_y**2))
    return shift + traces - 2 * float(np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum())


def frechet_infinity(x: np.ndarray, y: np.ndarray, seed: int, points: int = 15, smallest: float = 0.25) -> float:
    """FD of endless sets: the intercept of a line through FD against 1/n (Chong and Forsyth 2020, section 4).

    Both sets are finite, so both are subsampled, without replacement, by the same fraction; the bias is a constant over
    that fraction.

    Args:
        x: features `(n, d)`.
        y: features `(m, d)`.
        seed: of the subsamples.
        points: number of fractions, evenly spaced from `smallest` to 1.
        smallest: the smallest fraction, above 0 and below 1.

    Raises:
        UserError: as `frechet_distance`, or `points` or `smallest` out of range.
    """
    x, y = check_features(x, y)
    if points < 2 or not 0 < smallest < 1 or smallest * min(len(x), len(y)) < 2:
        raise UserError(
            f"FD-infinity with {points} points from {smallest} of {min(len(x), len(y))} samples:"
            " give two points or more and a fraction below 1 that leaves two samples."
        )
    rng = numpy_generator("frechet-infinity", seed)
    fractions = np.linspace(smallest, 1, points)
    distances = [frechet_distance(_subset(x, part, rng), _subset(y, part, rng)) for part in fractions]
    return float(np.polyfit(1 / fractions, distances, 1)[1])


def check_features(*sets: np.ndarray) -> list[np.ndarray]:
    """Feature sets as float64 `(n, d)` with one d.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.
    """
    arrays = [np.asarray(features, dtype=np.float64) for features in sets]
    shapes = ", ".join(str(array.shape) for array in arrays)
    if any(array.ndim != 2 or len(array) < 2 for array in arrays) or len({array.shape[1] for array in arrays}) > 1:
        raise UserError(f"feature sets have shapes {shapes}; give (n, d) with one d and two samples or more each.")
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"feature sets of shapes {shapes} hold values that are not finite; check the extractor.")
    return arrays


def _factor(x: np.ndarray) -> np.ndarray:
    """A with A'A the covariance of x, and no more rows than min(n, d)."""
    centred: np.ndarray = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return centred if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _subset(x: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    return x[rng.permutation(len(x))[: round(fraction * len(x))]]
