"""Solids with soft edges, and random textures that are functions of the place alone.

Points are in mm: x to the patient's left, y to the back, z to the head. A shape gives its signed distance to points, to
first order (negative inside); `inside` turns that into the share of a voxel that it fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator

Array = NDArray[np.float64]
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Points:
    """Where an image is evaluated.

    Attributes:
        x: mm to the patient's left, of a shape that broadcasts with the others.
        y: mm to the back.
        z: mm to the head.
        edge: mm over which an edge is soft: the size of a voxel.
    """

    x: Array
    y: Array
    z: Array
    edge: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image."""
        return np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape)

    def moved(self, shift: Sequence[float], turn: float) -> "Points":
        """The same image of a patient who lies `shift` mm off (x, y, z) and turned by `turn` radians about z."""
        x, y = self.x - shift[0], self.y - shift[1]
        cosine, sine = np.cos(turn), np.sin(turn)
        return Points(cosine * x + sine * y, cosine * y - sine * x, self.z - shift[2], self.edge)


def inside(distance: Array, edge: float) -> Array:
    """Share of a voxel, 0 to 1, that a solid fills whose surface is `distance` mm from the voxel's centre."""
    return np.asarray(np.clip(0.5 - distance / edge, 0.0, 1.0))


def ellipsoid(points: Points, centre: Sequence[float | Array], axes: Sequence[float | Array]) -> Array:
    """Signed distance to an ellipsoid; an axis of infinite length makes it a cylinder."""
    offsets = (points.x - centre[0], points.y - centre[1], points.z - centre[2])
    scaled = [offset / axis for offset, axis in zip(offsets, axes, strict=True)]
    radius = np.sqrt(sum(part**2 for part in scaled) + TINY)
    slope = np.sqrt(sum((part / axis) ** 2 for part, axis in zip(scaled, axes, strict=True)) + TINY**2) / radius
    return np.asarray((radius - 1) / np.maximum(slope, TINY))


def superellipse(x: Array, y: Array, across: float | Array, deep: float | Array, power: float) -> Array:
    """Signed distance in a plane to |x/across|^p + |y/deep|^p = 1."""
    u, v = np.abs(x) / across, np.abs(y) / deep
    total = u**power + v**power + TINY
    radius = total ** (1 / power)
    slope = np.hypot(u ** (power - 1) / across, v ** (power - 1) / deep) * radius / total
    return np.asarray((radius - 1) / np.maximum(slope, TINY))


def smooth_noise(
    points: Points, wavelength: float, waves: int, *name: int | str, squeeze: Sequence[float] = (1.0, 1.0, 1.0)
) -> Array:
    """A smooth random field with mean 0 and deviation 1: a sum of plane waves (Shinozuka and Deodatis 1991).

    The same place has the same value on any grid, up to waves that a voxel averages away.

    Args:
        points: where.
        wavelength: mm, of the typical wave.
        waves: how many.
        name: seeds the field.
        squeeze: factors on the wavelength in x, y and z.
    """
    rng = numpy_generator("texture", *name)
    directions = rng.standard_normal((waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength * rng.uniform(0.7, 1.5, waves)
    vectors = 2 * np.pi * directions / lengths[:, None] / np.asarray(squeeze)
    phases = rng.uniform(0, 2 * np.pi, waves)
    seen = np.prod(np.sinc(vectors * points.edge / (2 * np.pi)), axis=1)
    total = np.zeros(points.shape)
    for (kx, ky, kz), phase, share in zip(vectors, phases, seen, strict=True):
        total += share * np.cos(kx * points.x + ky * points.y + kz * points.z + phase)
    return total * np.sqrt(2 / waves)
