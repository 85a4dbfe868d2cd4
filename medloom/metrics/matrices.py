"""Large matrices of features on the GPU where there is one, and what NumPy and PyTorch name differently."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

# A NumPy array, or a tensor on the GPU: the metrics are written for both.
Matrix = Any

DEVICES = ("auto", "cpu", "cuda")
# Multiplications from which it pays to move a matrix to the GPU.
WORTH_MOVING = 1e9

_device: ContextVar[str] = ContextVar("device", default="auto")


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Compute the metrics of large sets on a device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        ValueError: another device.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r}: allowed are {', '.join(DEVICES)}")
    before = _device.set(device)
    try:
        yield
    finally:
        _device.reset(before)


def placed(multiplications: float, *arrays: np.ndarray) -> list[Matrix]:
    """The arrays on the GPU in one precision, where there is one and as much is to be done; else as they are."""
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


def beside(x: np.ndarray, other: Matrix) -> Matrix:
    """An array where another matrix is."""
    return x if isinstance(other, np.ndarray) else moved(x, other.device)


def to_numpy(x: Matrix) -> np.ndarray:
    """A matrix as an array."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu().numpy())


def wide(x: Matrix) -> Matrix:
    """A matrix in float64."""
    return x.astype(np.float64, copy=False) if isinstance(x, np.ndarray) else x.double()


def squared_lengths(x: Matrix) -> Matrix:
    """The squared length of each row, `(n,)`."""
    return np.einsum("ij,ij->i", x, x) if isinstance(x, np.ndarray) else (x * x).sum(1)


def raise_to_zero(x: Matrix) -> Matrix:
    """What is below 0 becomes 0, in place."""
    return np.maximum(x, 0, out=x) if isinstance(x, np.ndarray) else x.clamp_(min=0)


def fill_diagonal(x: Matrix, value: float) -> None:
    """Set the diagonal, in place."""
    if isinstance(x, np.ndarray):
        places = np.arange(min(x.shape))
        x[places, places] = value
    else:
        x.diagonal().fill_(value)


def kth_smallest(x: Matrix, k: int) -> Matrix:
    """The k-th smallest value of each row, `(n,)`."""
    if isinstance(x, np.ndarray):
        return np.partition(x, k - 1, axis=1)[:, k - 1]
    return x.topk(k, dim=1, largest=False).values[:, -1]


def row_maxima(x: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each row, and where it is: `(n,)` each."""
    if isinstance(x, np.ndarray):
        return x.max(axis=1), x.argmax(axis=1)
    values, places = x.max(dim=1)
    return to_numpy(values), to_numpy(places)


def joined(matrices: Sequence[Matrix]) -> Matrix:
    """Matrices one under the other."""
    if isinstance(matrices[0], np.ndarray):
        return np.concatenate(matrices)
    import torch

    return torch.cat(list(matrices))


def triangle(x: Matrix) -> Matrix:
    """The triangle of a QR decomposition."""
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
