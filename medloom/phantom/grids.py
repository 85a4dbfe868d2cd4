"""The grids on which the thorax is rendered, and where they lie in the patient."""

import numpy as np

from medloom.core.image import Affine
from medloom.data.image_io.geometry import axial_affine
from medloom.phantom.anatomy import BASE, SLICE_LEVEL, TOP
from medloom.phantom.shapes import Points

ACROSS = 380.0  # mm of the field of view, left to right and front to back
UPWARD = 300.0  # mm of a volume, feet to head
MIDDLE = (TOP + BASE) / 2


def slice_points(size: int, level: float = SLICE_LEVEL) -> Points:
    """An axial slice of `size` x `size` pixels as it is shown: rows go to the back, columns to the patient's left."""
    step = ACROSS / size
    along = centred(size, step)
    return Points(along[None, :], along[:, None], np.full((1, 1), level), step)


def volume_points(size: int) -> Points:
    """A volume of `size` voxels an axis, in the order R, A, S."""
    step, up = ACROSS / size, UPWARD / size
    across = -centred(size, step)
    return Points(across[:, None, None], across[None, :, None], (centred(size, up) + MIDDLE)[None, None, :], step)


def slice_affine(size: int, level: float = SLICE_LEVEL) -> Affine:
    """From (row, column, 0) of `slice_points` to RAS mm."""
    step = ACROSS / size
    affine = axial_affine((step, step))
    first = centred(size, step)[0]
    affine[:3, 3] = (-first, -first, level)
    return affine


def volume_affine(size: int) -> Affine:
    """From an index of `volume_points` to RAS mm."""
    step, up = ACROSS / size, UPWARD / size
    affine = np.diag([step, step, up, 1.0])
    affine[:3, 3] = (centred(size, step)[0], centred(size, step)[0], centred(size, up)[0] + MIDDLE)
    return affine


def centred(count: int, step: float) -> np.ndarray:
    """Centres of `count` voxels of `step` mm around 0."""
    return (np.arange(count) - (count - 1) / 2) * step
