"""Grey levels of two images compared after the best flip and shift, which finds copies that were changed so."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from medloom.metrics.privacy import Alignment

# Largest shift in pixels, and the step of shifts, by the number of axes.
REACH = {2: (1.5, 0.25), 3: (1.0, 0.5)}
BORDER = 2
PAIRS_AT_ONCE = 64

Floats = NDArray[np.floating]


def unit_pixels(grey: Floats) -> NDArray[np.float32]:
    """Rows `(n, d)` with their mean removed and length 1."""
    centred = grey - grey.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # A flat image has no direction; it gets one that no other image is close to.
    flat = lengths[:, 0] == 0
    centred[flat] = np.eye(1, centred.shape[1], dtype=np.float32)
    lengths[flat] = 1
    return np.asarray(centred / lengths, np.float32)


def pixel_alignment(size: tuple[int, ...]) -> Alignment:
    """How images of `size`, with their pixels in one row each, are compared: unchanged and flipped, each one shifted.

    Shifts of whole pixels find the nearest image. The pair is then compared at shifts of parts of a pixel, without the
    border, where a shifted copy shows what its original does not.
    """
    reach, step = REACH[len(size)]
    shifts = np.arange(-reach, reach + step / 2, step)
    tables = [np.stack([_shift(length, by) for by in shifts]) for length in size]
    inside = (slice(None), *(slice(BORDER, length - BORDER) for length in size))

    def cosines(queries: Floats, matches: Floats) -> NDArray[np.float64]:
        """The greatest cosine `(n,)` of each pair `(n, d)` over flips and shifts."""
        best = np.full(len(queries), -np.inf)
        for start in range(0, len(queries), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            whole = matches[part].reshape(-1, *size)[inside]
            match = unit_pixels(whole.reshape(len(whole), -1).copy())
            for image in _flipped(queries[part], size):
                moved = image[None]
                # Each axis in turn: all shifts along it of everything that was shifted along the axes before.
                for axis, table in enumerate(tables):
                    moved = np.moveaxis(np.tensordot(table, moved, (2, axis + 2)), 1, axis + 3)
                    moved = moved.reshape(-1, *moved.shape[2:])
                flat = moved.reshape(len(moved), len(image), -1)
                centred = flat - flat.mean(axis=2, keepdims=True)
                lengths = np.linalg.norm(centred, axis=2)
                products = (centred * match).sum(axis=2) / np.where(lengths > 0, lengths, 1)
                best[part] = np.maximum(best[part], products.max(axis=0))
        return best

    return Alignment(lambda values: pixel_views(values, size), cosines)


def pixel_views(values: Floats, size: tuple[int, ...]) -> Floats:
    """Images unchanged and flipped along each axis, each moved by up to one pixel: `(N, views, d)`.

    Args:
        values: `(N, d)`, the pixels of images of `size` in one row each.
        size: pixels along each axis; 3-D images are moved along one axis at a time.
    """
    moves = [move for move in product((0, -1, 1), repeat=len(size)) if len(size) == 2 or sum(map(abs, move)) <= 1]
    views = []
    for image in _flipped(values, size):
        for move in moves:
            moved = image
            for axis, by in enumerate(move, 1):
                if by:
                    # What comes in at a border repeats the border's pixels.
                    moved = moved.take(np.clip(np.arange(moved.shape[axis]) + by, 0, moved.shape[axis] - 1), axis)
            views.append(unit_pixels(moved.reshape(len(values), -1)))
    return np.stack(views, axis=1)


def _flipped(values: Floats, size: tuple[int, ...]) -> list[Floats]:
    images = values.reshape(len(values), *size)
    return [images, *(np.flip(images, axis) for axis in range(1, images.ndim))]


def _shift(length: int, by: float) -> NDArray[np.float32]:
    """Linear interpolation at the pixels inside the border, moved by `by` pixels: `(length - 2 border, length)`."""
    positions = np.arange(BORDER, length - BORDER) + by
    low = np.floor(positions).astype(int)
    table = np.zeros((len(positions), length), np.float32)
    table[np.arange(len(positions)), low] = 1 - (positions - low)
    table[np.arange(len(positions)), low + 1] += positions - low
    return table
