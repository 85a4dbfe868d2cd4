"""Grids of images as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.files import atomic_file

GAP = 2


def grid(images: Sequence[NDArray[np.float32] | None], columns: int) -> NDArray[np.uint8]:
    """Tile images.

    Args:
        images: each float32 `(C, H, W)` or `(C, X, Y, Z)` in [-1, 1]; a volume appears as its middle axial slice. None
            leaves a tile out; at least one is an image.
        columns: images per row.

    Returns:
        uint8 `(rows, columns, 3)`, gaps grey.
    """
    tiles = [None if image is None else levels_of(flat(image)) for image in images]
    height, width = (max(tile.shape[axis] for tile in tiles if tile is not None) for axis in (0, 1))
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 96, np.uint8)
    for number, tile in enumerate(tiles):
        if tile is None:
            continue
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas


def flat(image: NDArray[np.float32], level: int | None = None) -> NDArray[np.float32]:
    """A 2-D image `(C, H, W)` itself, or an axial slice `(C, H, W)` of a volume in RAS order.

    Args:
        image: `(C, *spatial)`.
        level: index of the slice from the feet; None for the middle one.
    """
    if image.ndim < 4:
        return image
    # Radiological convention: the patient's right on the left, anterior up.
    return image[:, ::-1, ::-1, image.shape[3] // 2 if level is None else level].transpose(0, 2, 1)


def levels_of(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A flat image `(C, H, W)` in [-1, 1] as uint8 `(H, W, 3)`."""
    levels = np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.moveaxis(np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels, 0, -1)


def save_grid(path: Path, images: Sequence[NDArray[np.float32] | None], columns: int, note: str = "") -> None:
    """Write a grid as PNG, marked as SYNTHETIC in its metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_text("SYNTHETIC", "YES")
    if note:
        information.add_text("note", note)
    with atomic_file(path) as temporary:
        Image.fromarray(grid(images, columns)).save(temporary, pnginfo=information)
