"""Grids of points, solids with soft edges, and random textures that are functions of the position only.

Points are in mm: x to the patient's left, y to the back, z to the head. A shape is its signed distance from points, to
first order (negative inside); `inside` turns the distance into the fraction of a voxel that the solid fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.image import Affine
from medloom.core.seeds import numpy_generator
from medloom.data.image_io.geometry import axial_affine
from medloom.phantom.anatomy import BASE, SLICE_LEVEL, TOP

Array = NDArray[np.float64]
TINY = 1e-9
ACROSS = 380.0  # mm of the field of view, left to right and front to back
UPWARD = 300.0  # mm of a volume, feet to head
MIDDLE = (TOP + BASE) / 2


@dataclass(frozen=True, eq=False)
class Points:
    """The points at which an image is evaluated.

    Attributes:
        x: mm to the patient's left; x, y and z broadcast with each other.
        y: mm to the back.
        z: mm to the head.
        edge: width of soft edges in mm: the size of a voxel.
    """

    x: Array
    y: Array
    z: Array
    edge: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape)

    def moved(self, shift: Sequence[float], turn: float) -> "Points":
        """The points for a patient who is shifted by `shift` mm (x, y, z) and rotated by `turn` radians about z."""
        x, y = self.x - shift[0], self.y - shift[1]
        cosine, sine = np.cos(turn), np.sin(turn)
        return Points(cosine * x + sine * y, cosine * y - sine * x, self.z - shift[2], self.edge)


def inside(distance: Array, edge: float) -> Array:
    """The fraction of a voxel, 0 to 1, inside a solid whose surface is `distance` mm from the voxel's centre."""
    return np.asarray(np.clip(0.5 - distance / edge, 0.0, 1.0))


def ellipsoid(points: Points, centre: Sequence[float | Array], axes: Sequence[float | Array]) -> Array:
    """Signed distance from an ellipsoid; an axis of infinite length makes it a cylinder."""
    offsets = (points.x - centre[0], points.y - centre[1], points.z - centre[2])
    scaled = [offset / axis for offset, axis in zip(offsets, axes, strict=True)]
    radius = np.sqrt(sum(part**2 for part in scaled) + TINY)
    slope = np.sqrt(sum((part / axis) ** 2 for part, axis in zip(scaled, axes, strict=True)) + TINY**2) / radius
    return np.asarray((radius - 1) / np.maximum(slope, TINY))


def superellipse(x: Array, y: Array, across: float | Array, deep: float | Array, power: float) -> Array:
    """Signed distance in a plane from |x/across|^p + |y/deep|^p = 1."""
    u, v = np.abs(x) / across, np.abs(y) / deep
    total = u**power + v**power + TINY
    radius = total ** (1 / power)
    slope = np.hypot(u ** (power - 1) / across, v ** (power - 1) / deep) * radius / total
    return np.asarray((radius - 1) / np.maximum(slope, TINY))


def smooth_noise(points: Points, wavelength: float, waves: int, *name: int | str) -> Array:
    """A smooth random field of mean 0 and standard deviation 1: plane waves (Shinozuka and Deodatis 1991).

    A position has the same value on any grid, up to waves that a voxel averages out.

    Args:
        points: where to evaluate the field.
        wavelength: typical wavelength in mm.
        waves: number of waves.
        name: seed of the field.
    """
    rng = numpy_generator("texture", *name)
    directions = rng.standard_normal((waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength * rng.uniform(0.7, 1.5, waves)
    vectors = 2 * np.pi * directions / lengths[:, None]
    phases = rng.uniform(0, 2 * np.pi, waves)
    weights = np.prod(np.sinc(vectors * points.edge / (2 * np.pi)), axis=1)
    total = np.zeros(points.shape)
    for (kx, ky, kz), phase, weight in zip(vectors, phases, weights, strict=True):
        total += weight * np.cos(kx * points.x + ky * points.y + kz * points.z + phase)
    return np.asarray(total * np.sqrt(2 / waves))


def slice_points(size: int, level: float = SLICE_LEVEL) -> Points:
    """An axial slice of `size` x `size` pixels as displayed: rows go to the back, columns to the patient's left."""
    step = ACROSS / size
    along = centred(size, step)
    return Points(along[None, :], along[:, None], np.full((1, 1), level), step)


def volume_points(size: int) -> Points:
    """A volume of `size` voxels per axis, in the order R, A, S."""
    step, up = ACROSS / size, UPWARD / size
    across = -centred(size, step)
    return Points(across[:, None, None], across[None, :, None], (centred(size, up) + MIDDLE)[None, None, :], step)


def slice_affine(size: int, level: float = SLICE_LEVEL) -> Affine:
    """From (row, column, 0) of `slice_points` to RAS mm."""
    step = ACROSS / size
    affine, first = axial_affine((step, step)), centred(size, step)[0]
    affine[:3, 3] = (-first, -first, level)
    return affine


def volume_affine(size: int) -> Affine:
    """From an index of `volume_points` to RAS mm."""
    step, up = ACROSS / size, UPWARD / size
    affine = np.diag([step, step, up, 1.0])
    affine[:3, 3] = (centred(size, step)[0], centred(size, step)[0], centred(size, up)[0] + MIDDLE)
    return affine


def centred(count: int, step: float) -> Array:
    """Centres of `count` voxels of `step` mm around 0."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * step, np.float64)
