"""Slices of volumes in three planes, for models of images of two axes.

Slices lie at the quartiles of a volume's brightness along each axis, which are its quarters where it is evenly bright:
an empty border, which volumes of few slices or of long sides have in a cubic frame, moves none of them. Voxels keep
their number, as in the rest of the evaluation: no spacing in mm is used.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medloom.core.plots import planar
from medloom.core.spec import ImageSpec
from medloom.data.placement import frame_of, place, plan

# Along an axis, the fractions of a volume's brightness that lie below its slices.
QUARTILES = (0.25, 0.5, 0.75)
AT_ONCE = 64

Volumes = NDArray[np.floating]


def levels(volumes: Volumes, axis: int) -> NDArray[np.intp]:
    """Where slices lie along an axis: `(N, 3)`.

    Args:
        volumes: `(N, C, X, Y, Z)` in [-1, 1]; one that is black has slices at the quarters of its frame.
        axis: 0, 1 or 2.
    """
    others = tuple(each for each in range(1, 5) if each != axis + 2)
    mass = np.asarray(volumes, np.float64).mean(axis=others) + 1
    mass[mass.max(axis=1) <= 0] = 1
    # Of a voxel itself the half counts, so that slices of a constant volume lie as far from both ends.
    below = (np.cumsum(mass, axis=1) - mass / 2) / mass.sum(axis=1, keepdims=True)
    return np.stack([np.abs(below - quartile).argmin(axis=1) for quartile in QUARTILES], axis=1)


def slices(volumes: Volumes, axis: int, spec: ImageSpec) -> NDArray[np.float32]:
    """Slices of volumes in the space of a model of two axes: float32 `(3 N, C, *size)`, three of each volume.

    Args:
        volumes: `(N, C, X, Y, Z)` in [-1, 1].
        axis: that the slices lie across, 0, 1 or 2.
        spec: of two axes, whose size and resize rule are used.
    """
    cuts = [
        np.asarray(planar(np.asarray(volume, np.float32), axis, int(level)))
        for volume, own in zip(volumes, levels(volumes, axis), strict=True)
        for level in own
    ]
    placement = plan(cuts[0].shape[1:], None, spec)
    return np.stack([place(cut, placement, frame_of(placement, spec)) for cut in cuts])


def by_slices(
    model: Callable[[NDArray[np.float32]], NDArray[np.float32]], axis: int, spec: ImageSpec
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A map of volumes to the mean features of their slices.

    Args:
        model: maps images `(N, C, *size)` to features `(N, d)`.
        axis: that the slices lie across.
        spec: see `slices`.

    Returns:
        A map of volumes `(N, C, X, Y, Z)` in [-1, 1] to features `(N, d)`.
    """

    def features(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
        each = AT_ONCE // len(QUARTILES)
        parts = [volumes[start : start + each] for start in range(0, len(volumes), each)]
        found = np.concatenate([model(slices(part, axis, spec)) for part in parts])
        return np.asarray(found.reshape(len(volumes), len(QUARTILES), -1).mean(axis=1), np.float32)

    return features


def plane_spec(spec: ImageSpec, size: tuple[int, int], resize: str) -> ImageSpec:
    """The space of slices: that of the volumes with two axes, a size and a resize rule."""
    return replace(spec, size=size, resize=resize, spacing=None, orientation=None)
