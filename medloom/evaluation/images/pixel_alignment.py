"""Grey levels of two images compared after the best flip and shift, by which copies are found that were changed so."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.metrics.privacy import Alignment

# Pixels that shifts reach, and their step, by the axes of an image.
REACH = {2: (1.5, 0.25), 3: (1.0, 0.5)}
BORDER = 2
PAIRS_AT_ONCE = 64


def unit_pixels(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Rows `(n, d)` with their mean removed and length 1."""
    centred = grey - grey.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # An image that is flat at this size has no direction; it gets one that no other image is close to.
    flat = lengths[:, 0] == 0
    centred[flat] = np.eye(1, centred.shape[1], dtype=np.float32)
    lengths[flat] = 1
    return np.asarray(centred / lengths, np.float32)


def pixel_alignment(size: tuple[int, ...]) -> Alignment:
    """For images of `size`, whose pixels are in one row each: as they are and flipped along each axis, shifted.

    The nearest image is found by shifts of a whole pixel; the pair is then compared at shifts of parts of a pixel,
    without a border, where a shifted copy shows what its original does not.
    """
    return Alignment(lambda values: pixel_views(values, size), _aligned(size))


def pixel_views(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Images as they are and flipped along each axis, each moved by up to one pixel: `(N, views, d)`.

    Args:
        values: `(N, d)`, the pixels of images of `size` in one row each.
        size: pixels along each axis; in 3-D images are moved along one axis at a time.
    """
    moves = [move for move in product((0, -1, 1), repeat=len(size)) if len(size) == 2 or sum(map(abs, move)) <= 1]
    views = [_moved(image, move).reshape(len(values), -1) for image in _flipped(values, size) for move in moves]
    return np.stack([unit_pixels(view) for view in views], axis=1)


def _flipped(values: NDArray[Any], size: tuple[int, ...]) -> list[NDArray[Any]]:
    images = values.reshape(len(values), *size)
    return [images, *(np.flip(images, axis) for axis in range(1, images.ndim))]


def _moved(images: NDArray[Any], move: Sequence[int]) -> NDArray[Any]:
    """Images moved by whole pixels; what comes in at a border repeats its pixels."""
    for axis, by in enumerate(move, 1):
        if by:
            places = np.clip(np.arange(images.shape[axis]) + by, 0, images.shape[axis] - 1)
            images = images.take(places, axis)
    return images


def _aligned(size: tuple[int, ...]) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]:
    reach, step = REACH[len(size)]
    shifts = np.arange(-reach, reach + step / 2, step)
    rows = [np.stack([_shift(length, by) for by in shifts]) for length in size]
    inside = (slice(None), *(slice(BORDER, length - BORDER) for length in size))

    def cosines(queries: NDArray[Any], matches: NDArray[Any]) -> NDArray[np.float64]:
        """Of each pair `(n, d)`, the greatest cosine `(n,)` over flips and shifts."""
        best = np.full(len(queries), -np.inf)
        for start in range(0, len(queries), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            whole = matches[part].reshape(-1, *size)[inside]
            match = unit_pixels(whole.reshape(len(whole), -1).copy())
            for image in _flipped(queries[part], size):
                best[part] = np.maximum(best[part], _best(image, rows, match))
        return best

    return cosines


def _best(images: NDArray[Any], shifts: Sequence[NDArray[Any]], match: NDArray[Any]) -> NDArray[Any]:
    """The greatest cosine of shifted images `(n, *size)`, without their border, to `match` `(n, d)`."""
    moved = images[None]
    # Each axis in turn: all shifts along it of all that was shifted along the axes before.
    for axis, table in enumerate(shifts):
        moved = np.moveaxis(np.tensordot(table, moved, (2, axis + 2)), 1, axis + 3)
        moved = moved.reshape(-1, *moved.shape[2:])
    flat = moved.reshape(len(moved), len(images), -1)
    centred = flat - flat.mean(axis=2, keepdims=True)
    lengths = np.linalg.norm(centred, axis=2)
    products = (centred * match).sum(axis=2) / np.where(lengths > 0, lengths, 1)
    return np.asarray(products.max(axis=0))


def _shift(length: int, by: float) -> NDArray[np.float32]:
    """Linear interpolation at the pixels within the border, moved by `by` pixels: `(length - 2 border, length)`."""
    places = np.arange(BORDER, length - BORDER) + by
    low = np.floor(places).astype(int)
    table = np.zeros((len(places), length), np.float32)
    table[np.arange(len(places)), low] = 1 - (places - low)
    table[np.arange(len(places)), low + 1] += places - low
    return table
