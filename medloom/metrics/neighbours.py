"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of feature sets."""

from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.matrices import (
    Matrix,
    check_features,
    fill_diagonal,
    joined,
    kth_smallest,
    placed,
    squared_distances,
    to_numpy,
)


@dataclass(frozen=True)
class PRDC:
    """The four metrics.

    Attributes:
        precision: fraction of synthetic samples within reach of a real one, 0 to 1.
        recall: fraction of real samples within reach of a synthetic one, 0 to 1.
        density: mean number of real samples within whose reach a synthetic one lies, over k; about 1 for equal sets.
        coverage: fraction of real samples with a synthetic one within their reach, 0 to 1.

    Examples:
        >>> x = np.array([[0.0], [1.0], [3.0]])
        >>> medloom.metrics.prdc(x, x, k=1).recall
        1.0
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, synthetic: np.ndarray, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage; a sample's reach is the distance to its k-th neighbour in its own set.

    Args:
        real: features `(n, d)`.
        synthetic: features `(m, d)`.
        k: number of neighbours.

    Raises:
        UserError: wrong shapes, values that are not finite, or a set of k samples or fewer.

    Examples:
        >>> real = np.array([[0.0], [1.0], [5.0], [6.0]])
        >>> synthetic = np.array([[0.0], [0.5], [1.0]])
        >>> scores = medloom.metrics.prdc(real, synthetic, k=1)
        >>> scores.precision, scores.coverage
        (1.0, 0.5)
    """
    real, synthetic = check_features(real, synthetic)
    if not 1 <= k < min(len(real), len(synthetic)):
        raise UserError(f"k = {k} neighbours in sets of {len(real)} and {len(synthetic)}; each must hold more than k.")
    centre = real.mean(axis=0, dtype=np.float64).astype(real.dtype)
    # Centred, because distances are differences of squares, which lose precision far from the origin.
    x, y = placed((len(real) + len(synthetic)) ** 2 * real.shape[1], real - centre, synthetic - centre)
    real_reach, synthetic_reach = _reach(x, k), _reach(y, k)
    balls, recalled, covered = np.zeros(len(synthetic)), [], []
    for rows, squared in squared_distances(x, y):
        within = squared <= real_reach[rows, None]
        balls += to_numpy(within.sum(axis=0))
        covered.append(to_numpy(within.any(axis=1)))  # Naeem et al. 2020, eq. 6
        recalled.append(to_numpy((squared <= synthetic_reach).any(axis=1)))  # Kynkaanniemi et al. 2019, eq. 2
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(balls.mean() / k),  # Naeem et al. 2020, eq. 5
        coverage=float(np.concatenate(covered).mean()),
    )


def _reach(x: Matrix, k: int) -> Matrix:
    """Squared distance to the k-th neighbour, excluding the sample itself: `(n,)`."""
    found: list[Matrix] = []
    for rows, squared in squared_distances(x, x):
        fill_diagonal(squared[:, rows], np.inf)
        found.append(kth_smallest(squared, k))
    return joined(found)
