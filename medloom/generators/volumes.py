"""Whole images of any size from a network that sees windows: overlapping windows, blended with smooth weights.

`blended` is one pass over a whole array; any family can use it. A GAN makes an image in one such pass. A diffusion
model makes one at every step of its sampler, on the noisy whole (MultiDiffusion, Bar-Tal et al. 2023,
arXiv:2302.08113), so that windows agree before anything is decided and no seam is left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medloom.core.limits import check_limits, limited
from medloom.core.mask_spec import NO_MASK
from medloom.data.patches import position_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAP = 0.25


@dataclass(frozen=True)
class Window:
    """A box in a whole array.

    Attributes:
        start: index of its first element.
        size: elements of each axis.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def box(self) -> tuple[slice, ...]:
        """The box as slices."""
        return tuple(slice(first, first + length) for first, length in zip(self.start, self.size, strict=True))

    def of(self, whole: Tensor) -> Tensor:
        """The box of an array `(..., *size of the whole)`, a view."""
        leading = (slice(None),) * (whole.ndim - len(self.size))
        return whole[leading + self.box]


@dataclass(frozen=True)
class Tiling:
    """How a whole is covered by windows.

    Attributes:
        window: elements of each axis of a window.
        overlap: least share of a window's axis that neighbours share, 0 to below 1.
        batch: windows at a time.
    """

    window: tuple[int, ...]
    overlap: float = limited(OVERLAP, at_least=0, below=1)
    batch: int = limited(1, at_least=1)

    def __post_init__(self) -> None:
        check_limits(self, form="tiling: {} {}")

    def starts(self, whole: Sequence[int]) -> list[list[int]]:
        """Where windows begin along each axis of a whole of that size: evenly, the last one at the end."""
        return [_starts(axis, length, self.overlap) for axis, length in zip(whole, self.window, strict=True)]


def blended(predict: Callable[[Sequence[Window]], Tensor], whole: Sequence[int], tiling: Tiling) -> Tensor:
    """A whole array from what a network gives for windows of it.

    Each place is the mean of the windows that cover it, weighted by a Hann window of its place in them, so that a
    window's share fades to nothing at its edges. One array of the whole's size is held.

    Args:
        predict: gives `(B, C, *window)` for B windows.
        whole: elements of each axis, none below the window's (`WholeMask` pads).
        tiling: the windows.

    Returns:
        `(C, *whole)`, of the dtype and device of the predictions.
    """
    starts = tiling.starts(whole)
    shares = [_shares(axis, tiling.window[number], starts[number]) for number, axis in enumerate(whole)]
    numbers = list(product(*(range(len(along)) for along in starts)))
    result: Tensor | None = None
    for first in range(0, len(numbers), tiling.batch):
        chosen = numbers[first : first + tiling.batch]
        windows = [
            Window(tuple(along[k] for along, k in zip(starts, each, strict=True)), tiling.window) for each in chosen
        ]
        made = predict(windows)
        if result is None:
            result = torch.zeros((made.shape[1], *whole), dtype=made.dtype, device=made.device)
        for each, window, values in zip(chosen, windows, made, strict=True):
            window.of(result).add_(_weighted(values, [shares[axis][k] for axis, k in enumerate(each)]))
    if result is None:
        raise ValueError("a whole without a place")
    return result


@dataclass(frozen=True, eq=False)
class WholeMask:
    """The label map that a whole image is made for, and the windows that see it.

    An axis that is shorter than the window is padded on both sides, without a label, as patches are in training.

    Attributes:
        labels: int16 `(*size)`, -1 where nothing is known.
        tiling: the windows.
    """

    labels: "NDArray[np.int16]"
    tiling: Tiling

    @property
    def size(self) -> tuple[int, ...]:
        """Of the image."""
        return self.labels.shape

    @property
    def frame(self) -> tuple[int, ...]:
        """Of the image with its padding: what windows are cut from."""
        return tuple(max(axis, length) for axis, length in zip(self.size, self.tiling.window, strict=True))

    @property
    def inside(self) -> Window:
        """The image in the frame."""
        return Window(tuple((long - axis) // 2 for long, axis in zip(self.frame, self.size, strict=True)), self.size)

    @cached_property
    def _padded(self) -> Tensor:
        padded = torch.full(self.frame, NO_MASK, dtype=torch.int16)
        padded[self.inside.box] = torch.from_numpy(np.ascontiguousarray(self.labels, dtype=np.int16))
        return padded

    def labels_of(self, windows: Sequence[Window]) -> Tensor:
        """The labels in windows of the frame, int64 `(B, *window)`."""
        return torch.stack([window.of(self._padded) for window in windows]).long()

    def positions_of(self, windows: Sequence[Window]) -> Tensor:
        """Where windows of the frame lie in the image, float32 `(B, axes, 2)`; see `data.patches.position_of`."""
        offset = self.inside.start
        starts = [[first - gone for first, gone in zip(window.start, offset, strict=True)] for window in windows]
        return torch.from_numpy(np.stack([position_of(start, self.tiling.window, self.size) for start in starts]))

    def cropped(self, whole: Tensor) -> Tensor:
        """The image `(C, *size)` of an array `(C, *frame)`."""
        return self.inside.of(whole)


def _starts(axis: int, window: int, overlap: float) -> list[int]:
    if axis < window:
        raise ValueError(f"an axis of {axis} has to be padded to the window's {window}")
    # Of a window at least this many elements belong to its neighbour too.
    stride = max(1, window - round(overlap * window))
    count = -(-(axis - window) // stride) + 1
    return [round(number * (axis - window) / max(count - 1, 1)) for number in range(count)]


def _shares(axis: int, window: int, starts: Sequence[int]) -> list[Tensor]:
    """The weight of each window along one axis; where windows overlap, weights add to 1."""
    hann = torch.sin(torch.pi * (torch.arange(window, dtype=torch.float64) + 0.5) / window) ** 2
    total = torch.zeros(axis, dtype=torch.float64)
    for start in starts:
        total[start : start + window] += hann
    return [(hann / total[start : start + window]).float() for start in starts]


def _weighted(values: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """`(C, *window)` times the weights along each axis, which make the window's weights as a product."""
    for axis, share in enumerate(shares):
        shape = [1] * values.ndim
        shape[axis + 1] = -1
        values = values * share.to(values).view(shape)
    return values
