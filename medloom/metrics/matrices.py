"""Sets of features: their checks, distances, and matrix operations in NumPy or, for large sets, on the GPU."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from medloom.core.errors import UserError

# A NumPy array, or a tensor on the GPU: the metrics work with both.
Matrix = Any
# Rows per step where all pairs of rows would not fit into memory.
CHUNK = 1024

DEVICES = ("auto", "cpu", "cuda")
# Fewest multiplications for which moving a matrix to the GPU pays off.
WORTH_MOVING = 1e9

_device: ContextVar[str] = ContextVar("device", default="auto")


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Compute the metrics of large sets on a device: auto (a GPU if available), cpu or cuda.

    Raises:
        ValueError: an unknown device.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r}: allowed are {', '.join(DEVICES)}")
    before = _device.set(device)
    try:
        yield
    finally:
        _device.reset(before)


def one_thread_each() -> AbstractContextManager[object]:
    """Products of numpy use one thread within the block.

    For many small products: threads that share one wait for each other, up to a hundred times as long as it takes.
    """
    limit: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limit


def placed(multiplications: float, *arrays: np.ndarray) -> list[Matrix]:
    """The arrays on the GPU in one precision, if there is one and the work justifies it; otherwise unchanged."""
    if multiplications < WORTH_MOVING or _device.get() == "cpu":
        return list(arrays)
    import torch

    if not torch.cuda.is_available():
        return list(arrays)
    return [moved(array.astype(np.result_type(*arrays), copy=False), "cuda") for array in arrays]


def moved(x: np.ndarray, device: str) -> Matrix:
    """An array as a tensor on a device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(device)


def moved_like(x: np.ndarray, other: Matrix) -> Matrix:
    """An array on the device of another matrix."""
    return x if isinstance(other, np.ndarray) else moved(x, other.device)


def to_numpy(x: Matrix) -> np.ndarray:
    """A matrix as an array."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu().numpy())


def wide(x: Matrix) -> Matrix:
    """A matrix in float64."""
    return x.astype(np.float64, copy=False) if isinstance(x, np.ndarray) else x.double()


def squared_lengths(x: Matrix) -> Matrix:
    """The squared norm of each row, `(n,)`."""
    return np.einsum("ij,ij->i", x, x) if isinstance(x, np.ndarray) else (x * x).sum(1)


def fill_diagonal(x: Matrix, value: float) -> None:
    """Set the diagonal, in place."""
    if isinstance(x, np.ndarray):
        index = np.arange(min(x.shape))
        x[index, index] = value
    else:
        x.diagonal().fill_(value)


def kth_smallest(x: Matrix, k: int) -> Matrix:
    """The k-th smallest value of each row, `(n,)`."""
    if isinstance(x, np.ndarray):
        return np.partition(x, k - 1, axis=1)[:, k - 1]
    return x.topk(k, dim=1, largest=False).values[:, -1]


def row_maxima(x: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each row and its index: `(n,)` each."""
    if isinstance(x, np.ndarray):
        return x.max(axis=1), x.argmax(axis=1)
    values, indices = x.max(dim=1)
    return to_numpy(values), to_numpy(indices)


def joined(matrices: Sequence[Matrix]) -> Matrix:
    """Matrices stacked by rows."""
    if isinstance(matrices[0], np.ndarray):
        return np.concatenate(matrices)
    import torch

    return torch.cat(list(matrices))


def triangle(x: Matrix) -> Matrix:
    """The triangular factor of a QR decomposition."""
    return np.linalg.qr(x, mode="r") if isinstance(x, np.ndarray) else _linalg().qr(x, mode="r").R


def singular_values(x: Matrix) -> np.ndarray:
    """The singular values of a matrix."""
    return np.asarray(
        np.linalg.svd(x, compute_uv=False) if isinstance(x, np.ndarray) else to_numpy(_linalg().svdvals(x))
    )


def eigenvalues(x: Matrix) -> np.ndarray:
    """The eigenvalues of a symmetric matrix."""
    return np.asarray(np.linalg.eigvalsh(x) if isinstance(x, np.ndarray) else to_numpy(_linalg().eigvalsh(x)))


def _linalg() -> Any:
    import torch

    return torch.linalg


def check_features(*sets: np.ndarray) -> list[np.ndarray]:
    """Feature sets `(n, d)` of the same d; float32 stays, everything else becomes float64.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.
    """
    arrays = [np.asarray(x) if np.asarray(x).dtype == np.float32 else np.asarray(x, np.float64) for x in sets]
    shapes = ", ".join(str(array.shape) for array in arrays)
    if any(array.ndim != 2 or len(array) < 2 for array in arrays) or len({array.shape[1] for array in arrays}) > 1:
        raise UserError(
            f"feature sets have shapes {shapes}; give (n, d) with the same d and at least two samples each."
        )
    if not all(np.isfinite(part).all() for array in arrays for part in parts(array)):
        raise UserError(f"feature sets of shapes {shapes} hold values that are not finite; check the extractor.")
    return arrays


def parts(x: Matrix, size: int = CHUNK) -> Iterator[Matrix]:
    """The rows, `size` at a time."""
    for start in range(0, len(x), size):
        yield x[start : start + size]


def squared_distances(x: Matrix, y: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """Squared distances between CHUNK rows of x and all rows of y at a time: memory is bounded by CHUNK x m.

    Differences of squares lose precision far from the origin, so pass centred sets.
    """
    norms = squared_lengths(y)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        part = x[rows]
        squared = part @ y.T
        squared *= -2
        squared += norms
        squared += squared_lengths(part)[:, None]
        # Rounding leaves negative values.
        yield rows, np.maximum(squared, 0, out=squared) if isinstance(squared, np.ndarray) else squared.clamp_(min=0)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows normalised to length 1.

    Raises:
        UserError: a row of length 0.
    """
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise UserError(f"{int((lengths == 0).sum())} of {len(x)} embeddings are all zero; check the extractor.")
    return np.asarray(x / lengths)
