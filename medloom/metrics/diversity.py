"""How many different images a set holds: the Vendi score."""

import numpy as np

from medloom.metrics.feature_sets import check_features, parts, unit_rows

NEGLIGIBLE = 1e-12


def vendi_score(x: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of K / n, K being cosines (Friedman and Dieng 2023, eq. 3).

    1 for copies of one sample, n for samples that are all at right angles. K / n and the d x d matrix X'X / n have the
    same eigenvalues apart from zeros, so the smaller of the two is decomposed: n x n takes (n / d)^3 times as long.

    Args:
        x: features `(n, d)`, finite, no row of zeros.

    Returns:
        The effective number of different samples, 1 to n.

    Raises:
        UserError: wrong shapes, values that are not finite, or a row of zeros.
    """
    (x,) = check_features(x)
    x = unit_rows(x)
    if len(x) <= x.shape[1]:
        wide = x.astype(np.float64)
        matrix = wide @ wide.T
    else:
        matrix = np.zeros((x.shape[1], x.shape[1]))
        for part in parts(x):
            wide = part.astype(np.float64)
            matrix += wide.T @ wide
    eigenvalues = np.linalg.eigvalsh(matrix / len(x))
    kept = eigenvalues[eigenvalues > NEGLIGIBLE]
    return float(np.exp(-np.sum(kept * np.log(kept))))
