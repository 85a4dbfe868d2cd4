"""What all metrics of features share: the check of their sets, and squared distances of some rows at a time."""

from collections.abc import Iterator

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.matrices import Matrix, raise_to_zero, squared_lengths

CHUNK = 1024


def check_features(*sets: np.ndarray) -> list[np.ndarray]:
    """Feature sets as float32 (where they are) or float64 `(n, d)` with one d.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.
    """
    arrays = [_floating(features) for features in sets]
    shapes = ", ".join(str(array.shape) for array in arrays)
    if any(array.ndim != 2 or len(array) < 2 for array in arrays) or len({array.shape[1] for array in arrays}) > 1:
        raise UserError(f"feature sets have shapes {shapes}; give (n, d) with one d and two samples or more each.")
    if not all(np.isfinite(part).all() for array in arrays for part in parts(array)):
        raise UserError(f"feature sets of shapes {shapes} hold values that are not finite; check the extractor.")
    return arrays


def parts(x: Matrix, size: int = CHUNK) -> Iterator[Matrix]:
    """Some rows at a time."""
    for start in range(0, len(x), size):
        yield x[start : start + size]


def squared_distances(x: Matrix, y: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """Squared distances of CHUNK rows of x to all of y at a time, so that memory is bounded by CHUNK x m.

    Differences of squares lose digits far from the origin, so give sets that are centred.
    """
    norms = squared_lengths(y)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        part = x[rows]
        squared = part @ y.T
        squared *= -2
        squared += norms
        squared += squared_lengths(part)[:, None]
        yield rows, raise_to_zero(squared)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows divided by their length.

    Raises:
        UserError: a row of length 0, which has no direction.
    """
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise UserError(f"{int((lengths == 0).sum())} of {len(x)} embeddings are all zero; check the extractor.")
    return np.asarray(x / lengths)


def _floating(features: np.ndarray) -> np.ndarray:
    array = np.asarray(features)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
