"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of feature sets."""

from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.feature_sets import check_features, squared_distances
from medloom.metrics.matrices import Matrix, fill_diagonal, joined, kth_smallest, placed, to_numpy


@dataclass(frozen=True)
class PRDC:
    """The four shares.

    Attributes:
        precision: share of synthetic samples within reach of a real one, 0 to 1.
        recall: share of real samples within reach of a synthetic one, 0 to 1.
        density: how many real samples a synthetic one is within reach of, over k; about 1 for equal sets.
        coverage: share of real samples with a synthetic one within their reach, 0 to 1.
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
        k: neighbours.

    Raises:
        UserError: wrong shapes, values that are not finite, or a set of k samples or fewer.
    """
    real, synthetic = check_features(real, synthetic)
    if not 1 <= k < min(len(real), len(synthetic)):
        raise UserError(f"k = {k} neighbours in sets of {len(real)} and {len(synthetic)}; each must hold more than k.")
    centre = real.mean(axis=0, dtype=np.float64).astype(real.dtype)
    # Centred, since the distances are differences of squares and would lose digits far from the origin.
    work = (len(real) + len(synthetic)) ** 2 * real.shape[1]
    x, y = placed(work, real - centre, synthetic - centre)
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
    """Squared distance to the k-th neighbour, the sample itself not counted: `(n,)`."""
    return joined([_kth(squared, rows, k) for rows, squared in squared_distances(x, x)])


def _kth(squared: Matrix, rows: slice, k: int) -> Matrix:
    fill_diagonal(squared[:, rows], np.inf)
    return kth_smallest(squared, k)
