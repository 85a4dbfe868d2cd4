"""The effective number of different images in a set: the Vendi score."""

import numpy as np

from medloom.metrics.matrices import check_features, eigenvalues, parts, placed, unit_rows, wide

NEGLIGIBLE = 1e-12


def vendi_score(x: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of K / n, where K holds cosines (Friedman and Dieng 2023, eq. 3).

    1 for copies of one sample, n for n orthogonal samples. K / n and the d x d matrix X'X / n have the same nonzero
    eigenvalues, so the smaller of the two is decomposed: n x n takes (n / d)^3 times as long.

    Args:
        x: features `(n, d)`, finite, no row of zeros.

    Returns:
        The effective number of samples, 1 to n.

    Raises:
        UserError: wrong shapes, values that are not finite, or a row of zeros.

    Examples:
        >>> round(medloom.metrics.vendi_score(np.eye(4)), 2)
        4.0
        >>> round(medloom.metrics.vendi_score(np.ones((4, 4))), 2)
        1.0
    """
    (x,) = check_features(x)
    (rows,) = placed(len(x) * x.shape[1] * min(x.shape), unit_rows(x))
    if len(x) <= x.shape[1]:
        rows = wide(rows)
        matrix = rows @ rows.T
    else:
        matrix = sum(part.T @ part for part in map(wide, parts(rows)))
    found = eigenvalues(matrix / len(x))
    positive = found[found > NEGLIGIBLE]
    return float(np.exp(-np.sum(positive * np.log(positive))))
