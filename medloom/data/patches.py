"""Patches of whole images for training, cut at random positions, rotated and mirrored.

Where a patch reaches beyond its image, its value is the lowest, -1, and its label is -1 (none). Training and
whole-volume inference treat volumes smaller than the patch alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up
from medloom.core.mask_spec import NO_MASK
from medloom.core.spec import ImageSpec
from medloom.data.laterality import swap_mask_classes
from medloom.data.placement import OUTSIDE

AUGMENTATIONS = {"none": "as they are", "affine": "slightly rotated and scaled"}
# Affine augmentation: largest angle about each axis, largest factor of size either way.
DEGREES, SCALE = 10.0, 1.1
FOREGROUND = 0.75
# Number of axes -> the axis from left to right: the columns of a 2-D image, R of volumes in RAS order.
SIDES = {2: 1, 3: 0}

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class PatchRules:
    """How patches are cut.

    Attributes:
        spec: the model's space, of patches.
        foreground: fraction of patches centred on a pixel of a mask class, all classes in the image being equally
            likely; the others lie anywhere.
        augment: a name in AUGMENTATIONS.
        flip: mirror each patch between left and right with probability 0.5.
    """

    spec: ImageSpec
    foreground: float = limited(FOREGROUND, at_least=0, at_most=1, setting=True)
    augment: str = "none"
    flip: bool = False

    def __post_init__(self) -> None:
        look_up(AUGMENTATIONS, self.augment, "--augment")
        check_limits(self)


@dataclass(frozen=True, eq=False)
class Crop:
    """A patch of an image.

    Attributes:
        start: index of the patch's first pixel in the (mirrored) image; negative where the image is smaller.
        size: pixels of each axis.
        mirrored: the image is mirrored between left and right first.
        turn: float64 `(axes, axes)`, maps steps in the patch to steps in the image, about the patch's centre; or None.
        edge: beyond the image, repeat its nearest pixel.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    mirrored: bool = False
    turn: NDArray[np.float64] | None = None
    edge: bool = False

    def position(self, whole: Sequence[int]) -> NDArray[np.float32]:
        """Positions of the patch's edges in an image of size `whole`; see `position_of`. Rotation is ignored."""
        return position_of(self.start, self.size, whole)


def position_of(start: Sequence[int], size: Sequence[int], whole: Sequence[int]) -> NDArray[np.float32]:
    """Positions of a patch's first and last edges in an image, float32 `(axes, 2)`; the image spans [-1, 1]."""
    ends = [(first, first + length) for first, length in zip(start, size, strict=True)]
    return np.array(
        [[2 * end / axis - 1 for end in pair] for pair, axis in zip(ends, whole, strict=True)], dtype=np.float32
    )


def draw_crop(
    rng: np.random.Generator, whole: Sequence[int], rules: PatchRules, positions: Sequence[NDArray[np.int16]] = ()
) -> Crop:
    """A random patch of an image.

    Args:
        rng: source of all draws; their number does not depend on the rules, so one option leaves the other draws
            as they are.
        whole: size of the image.
        rules: how patches are cut.
        positions: indices of pixels `(count, axes)` for each mask class in the image.
    """
    axes = len(whole)
    chosen, which, pixel, side = rng.random(4)
    anywhere, angles, factor = rng.random(axes), rng.uniform(-1, 1, 3), rng.uniform(-1, 1)
    mirrored = rules.flip and side < 0.5
    size = rules.spec.size
    if positions and chosen < rules.foreground:
        of_class = positions[int(which * len(positions))]
        centre = of_class[int(pixel * len(of_class))].astype(int)
        if mirrored:
            centre[SIDES[axes]] = whole[SIDES[axes]] - 1 - centre[SIDES[axes]]
        # About the pixel, moved so that no more than necessary lies beyond the image.
        start = tuple(
            min(max(at - length // 2, min(0, axis - length)), max(0, axis - length))
            for at, length, axis in zip(centre.tolist(), size, whole, strict=True)
        )
    else:
        # Anywhere in the image; along an axis shorter than the patch, the patch contains the whole axis.
        start = tuple(
            min(0, axis - length) + int(fraction * (abs(axis - length) + 1))
            for fraction, length, axis in zip(anywhere.tolist(), size, whole, strict=True)
        )
    turn = _turn(angles, SCALE**factor, rules.spec) if rules.augment == "affine" else None
    return Crop(start, size, mirrored, turn)


def draw_shift(rng: np.random.Generator, whole: Sequence[int], reach: int, edge: bool = True) -> Crop:
    """A whole image shifted at random by up to `reach` pixels along each axis; `edge` is that of the crop."""
    return Crop(tuple(rng.integers(-reach, reach + 1, len(whole)).tolist()), tuple(whole), edge=edge)


def cut(image: NDArray[np.floating], crop: Crop) -> NDArray[np.float32]:
    """The patch of an image `(C, *whole)`: float32 `(C, *size)`, -1 beyond the image; linear if rotated."""
    whole = _mirrored(image, crop, 1)
    if crop.turn is None:
        return _block(whole, crop, OUTSIDE).astype(np.float32)
    return np.stack([_turned(channel, crop, crop.turn, 1, OUTSIDE) for channel in whole]).astype(np.float32)


def cut_labels(labels: NDArray[np.int16], crop: Crop, sides: Sequence[tuple[int, int]] = ()) -> NDArray[np.int16]:
    """The patch of a label map `(*whole)`: int16 `(*size)`, -1 beyond the image, by nearest neighbour.

    Args:
        labels: the label map.
        crop: the patch.
        sides: pairs of classes that swap in a mirrored patch.
    """
    whole = _mirrored(labels, crop, 0)
    turn = crop.turn
    patch = _block(whole[None], crop, NO_MASK)[0] if turn is None else _turned(whole, crop, turn, 0, NO_MASK)
    return swap_mask_classes(patch, sides) if crop.mirrored else patch


def _turn(angles: NDArray[np.float64], factor: float, spec: ImageSpec) -> NDArray[np.float64]:
    """Rotation and scale, in mm where the spacing is known, as a matrix on pixel steps."""
    axes = spec.spatial_dims
    radians = np.deg2rad(DEGREES) * angles
    rotation = np.eye(axes)
    planes = ((0, 1),) if axes == 2 else ((0, 1), (0, 2), (1, 2))
    for (first, second), angle in zip(planes, radians, strict=False):
        single = np.eye(axes)
        single[[first, second], [first, second]] = np.cos(angle)
        single[first, second], single[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ single
    mm = np.asarray(spec.spacing or (1.0,) * axes, np.float64)
    return rotation * (mm[None, :] / mm[:, None]) / factor


def _mirrored(array: NDArray[Scalar], crop: Crop, leading: int) -> NDArray[Scalar]:
    # A view: only the patch of a memory-mapped volume is read.
    return np.flip(array, leading + SIDES[array.ndim - leading]) if crop.mirrored else array


def _block(array: NDArray[Scalar], crop: Crop, outside: float) -> NDArray[Scalar]:
    """The pixels `(C, *size)` of `(C, *whole)` from the crop's start."""
    if crop.edge:
        steps = zip(crop.start, crop.size, array.shape[1:], strict=True)
        indices = [np.clip(np.arange(first, first + length), 0, axis - 1) for first, length, axis in steps]
        return array[np.ix_(np.arange(len(array)), *indices)]
    patch = np.full((len(array), *crop.size), outside, array.dtype)
    ends = [(first, first + length) for first, length in zip(crop.start, crop.size, strict=True)]
    inside = tuple(
        slice(max(0, first), min(axis, last)) for (first, last), axis in zip(ends, array.shape[1:], strict=True)
    )
    target = tuple(slice(part.start - first, part.stop - first) for part, (first, _) in zip(inside, ends, strict=True))
    patch[(slice(None), *target)] = array[(slice(None), *inside)]
    return patch


def _turned(
    array: NDArray[Scalar], crop: Crop, turn: NDArray[np.float64], order: int, outside: float
) -> NDArray[Scalar]:
    """The rotated patch `(*size)` of `(*whole)`; only the part of the image that it needs is read."""
    from scipy.ndimage import affine_transform

    half = (np.asarray(crop.size) - 1) / 2
    centre = np.asarray(crop.start) + half
    reach = np.abs(turn) @ half + 1
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 1, array.shape)
    if (low >= high).any():
        return np.full(crop.size, outside, array.dtype)
    part = array[tuple(slice(first, last) for first, last in zip(low, high, strict=True))]
    values: NDArray[np.generic] = part.astype(np.float32) if order else part
    start = centre - low - turn @ half
    turned: NDArray[Scalar] = affine_transform(
        values, turn, start, crop.size, order=order, mode="constant", cval=outside
    )
    return turned
