"""The Frechet distance between two sets of features, and its limit for infinite sets."""

import math

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.matrices import Matrix, check_features, joined, parts, placed, singular_values, triangle, wide

# Rows that are decomposed at once.
ROWS = 4096


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """FD = |mu_x - mu_y|^2 + Tr(Sx + Sy - 2 (Sx Sy)^(1/2)), not its square root (Heusel et al. 2017, eq. 6).

    With Sx = A'A and Sy = B'B the trace of (Sx Sy)^(1/2) is the sum of the singular values of A B'. This needs no
    matrix root and is exact even with fewer samples than dimensions.

    Args:
        x: features `(n, d)`, finite, n >= 2.
        y: features `(m, d)`, finite, m >= 2.

    Returns:
        The distance, non-negative up to rounding. It is biased upwards by about a constant over n, which
        `frechet_infinity` removes; be wary if n < 10 d.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.

    Examples:
        >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(medloom.metrics.frechet_distance(x, x + [3.0, 0.0]), 2)
        9.0
    """
    x, y = check_features(x, y)
    x, y = placed((len(x) + len(y)) * x.shape[1] * min(*x.shape, *y.shape), x, y)
    factor_x, factor_y = _factor(x), _factor(y)
    shift = float(((_mean(x) - _mean(y)) ** 2).sum())
    traces = float((factor_x**2).sum() + (factor_y**2).sum())
    return shift + traces - 2 * float(singular_values(factor_x @ factor_y.T).sum())


def frechet_infinity(x: np.ndarray, y: np.ndarray, seed: int, points: int = 15, smallest: float = 0.25) -> float:
    """FD of infinite sets: the intercept of a line through FD against 1/n (Chong and Forsyth 2020, section 4).

    Both sets are finite, so both are subsampled without replacement by the same fraction. The bias is then a constant
    over that fraction.

    Args:
        x: features `(n, d)`.
        y: features `(m, d)`.
        seed: of the subsamples.
        points: number of fractions, evenly spaced from `smallest` to 1.
        smallest: the smallest fraction, above 0 and below 1.

    Raises:
        UserError: as `frechet_distance`, or `points` or `smallest` out of range.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 2000, 2))
        >>> round(medloom.metrics.frechet_infinity(x, y + [3.0, 0.0], seed=0))
        9
    """
    x, y = check_features(x, y)
    if points < 2 or not 0 < smallest < 1 or smallest * min(len(x), len(y)) < 2:
        raise UserError(
            f"FD-infinity with {points} points from {smallest} of {min(len(x), len(y))} samples:"
            " give at least two points, and a fraction below 1 that leaves at least two samples."
        )
    rng = numpy_generator("frechet-infinity", seed)
    fractions = np.linspace(smallest, 1, points)
    distances = [frechet_distance(_subset(x, part, rng), _subset(y, part, rng)) for part in fractions]
    return float(np.polyfit(1 / fractions, distances, 1)[1])


def _factor(x: Matrix) -> Matrix:
    """A with A'A the covariance of x, and at most min(n, d) rows; float64.

    With more samples than dimensions, A is the triangular factor of a QR decomposition that is updated with blocks of
    rows (Golub and Van Loan 2013, section 5.2.2), which avoids a second copy of x.
    """
    mean, scale = _mean(x), math.sqrt(len(x) - 1)
    if len(x) <= x.shape[1]:
        return (wide(x) - mean) / scale
    factor = wide(x[:0])
    for part in parts(x, max(4 * x.shape[1], ROWS)):
        factor = triangle(joined([factor, (wide(part) - mean) / scale]))
    return factor


def _mean(x: Matrix) -> Matrix:
    return sum(wide(part).sum(axis=0) for part in parts(x, ROWS)) / len(x)


def _subset(x: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    return x[rng.permutation(len(x))[: round(fraction * len(x))]]
