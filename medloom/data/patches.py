"""Patches of whole images for training: where they are cut, and how they are turned, as functions of a generator.

A patch that reaches beyond its image has the lowest value there, -1, and no label (-1): what a network sees of a volume
that is smaller than the patch, in training as in whole-volume inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.mask_spec import NO_MASK
from medloom.core.spec import ImageSpec
from medloom.data.laterality import swap_mask_classes
from medloom.data.placement import OUTSIDE

AUGMENTATIONS = {"none": "as they are", "affine": "turned and scaled a little"}
# Of the affine augmentation: largest angle about each axis, and factor of size either way.
DEGREES, SCALE = 10.0, 1.1
FOREGROUND = 0.75
# The axis that runs between left and right: R in volumes in RAS order, columns of a 2-D image.
SIDES = {2: 1, 3: 0}


@dataclass(frozen=True)
class PatchRules:
    """How patches are cut.

    Attributes:
        spec: the model's space, of patches.
        foreground: share of patches that are centred on a pixel of a mask class, each class of the image with equal
            chance; the others lie anywhere.
        augment: a name in AUGMENTATIONS.
        flip: mirror every other patch between left and right.
    """

    spec: ImageSpec
    foreground: float = FOREGROUND
    augment: str = "none"
    flip: bool = False

    def __post_init__(self) -> None:
        look_up(AUGMENTATIONS, self.augment, "--augment")
        if not 0 <= self.foreground <= 1:
            raise UserError(f"--foreground {self.foreground}: a share of patches, from 0 to 1.")


@dataclass(frozen=True, eq=False)
class Crop:
    """A patch of an image.

    Attributes:
        start: index of the patch's first pixel in the image (mirrored, if so); below 0 where the image is smaller.
        size: pixels of each axis.
        mirrored: whether the image is mirrored between left and right first.
        turn: float64 `(axes, axes)`, from a step in the patch to one in the image, about the patch's centre; or None.
        edge: beyond the image its nearest pixel stands, as in a whole image that is shifted.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    mirrored: bool = False
    turn: NDArray[np.float64] | None = None
    edge: bool = False

    def place(self, whole: Sequence[int]) -> NDArray[np.float32]:
        """Where the patch's edges lie in an image of that size, -1 to 1 from edge to edge: `(axes, 2)`.

        Of a turned patch, where it would lie were it not turned: the network is shown an image that was turned.
        """
        return place_of(self.start, self.size, whole)


def place_of(start: Sequence[int], size: Sequence[int], whole: Sequence[int]) -> NDArray[np.float32]:
    """Where a patch's first and last edge lie in an image, -1 to 1 from edge to edge: float32 `(axes, 2)`."""
    ends = [(first, first + length) for first, length in zip(start, size, strict=True)]
    return np.array(
        [[2 * end / axis - 1 for end in pair] for pair, axis in zip(ends, whole, strict=True)], dtype=np.float32
    )


def draw_crop(
    rng: np.random.Generator, whole: Sequence[int], rules: PatchRules, places: Sequence[NDArray[np.int16]] = ()
) -> Crop:
    """Where to cut one patch of an image.

    Args:
        rng: all draws come from it, always as many, so that one option does not move the draws of another.
        whole: size of the image.
        rules: how patches are cut.
        places: for each mask class that the image has, indices of pixels `(count, axes)`.
    """
    axes = len(whole)
    chosen, which, pixel, side = rng.random(4)
    anywhere, angles, factor = rng.random(axes), rng.uniform(-1, 1, 3), rng.uniform(-1, 1)
    mirrored = rules.flip and side < 0.5
    size = rules.spec.size
    if places and chosen < rules.foreground:
        of_class = places[int(which * len(places))]
        centre = of_class[int(pixel * len(of_class))].astype(int)
        if mirrored:
            centre[SIDES[axes]] = whole[SIDES[axes]] - 1 - centre[SIDES[axes]]
        start = _about(centre.tolist(), size, whole)
    else:
        start = _anywhere(anywhere.tolist(), size, whole)
    turn = _turn(angles, SCALE**factor, rules.spec) if rules.augment == "affine" else None
    return Crop(start, size, mirrored, turn)


def draw_shift(rng: np.random.Generator, whole: Sequence[int], reach: int) -> Crop:
    """A whole image, shifted by up to `reach` pixels along each axis."""
    return Crop(tuple(rng.integers(-reach, reach + 1, len(whole)).tolist()), tuple(whole), edge=True)


def cut(image: NDArray[Any], crop: Crop) -> NDArray[np.float32]:
    """The patch of an image `(C, *whole)`: float32 `(C, *size)`, -1 beyond the image; a turned one linearly sampled."""
    whole = _mirrored(image, crop, 1)
    if crop.turn is None:
        return _block(whole, crop, OUTSIDE).astype(np.float32)
    return np.stack([_turned(channel, crop, crop.turn, 1, OUTSIDE) for channel in whole]).astype(np.float32)


def cut_labels(labels: NDArray[np.int16], crop: Crop, sides: Sequence[tuple[int, int]] = ()) -> NDArray[np.int16]:
    """The patch of a label map `(*whole)`: int16 `(*size)`, -1 beyond the image, by nearest neighbour.

    Args:
        labels: the label map.
        crop: the patch.
        sides: pairs of classes that change places in a mirrored patch.
    """
    whole = _mirrored(labels, crop, 0)
    turn = crop.turn
    patch = _block(whole[None], crop, NO_MASK)[0] if turn is None else _turned(whole, crop, turn, 0, NO_MASK)
    return swap_mask_classes(patch, sides) if crop.mirrored else patch


def _about(centre: Sequence[int], size: Sequence[int], whole: Sequence[int]) -> tuple[int, ...]:
    """The start of a patch about a pixel, moved so that no more than needed lies beyond the image."""
    return tuple(
        min(max(pixel - length // 2, min(0, axis - length)), max(0, axis - length))
        for pixel, length, axis in zip(centre, size, whole, strict=True)
    )


def _anywhere(u: Sequence[float], size: Sequence[int], whole: Sequence[int]) -> tuple[int, ...]:
    """A start that is anywhere in the image, or, along an axis that is shorter than the patch, has all of it inside."""
    return tuple(
        min(0, axis - length) + int(share * (abs(axis - length) + 1))
        for share, length, axis in zip(u, size, whole, strict=True)
    )


def _turn(angles: NDArray[np.float64], factor: float, spec: ImageSpec) -> NDArray[np.float64]:
    """A small rotation and a scale, in mm where the spacing is known, as a matrix on pixel steps."""
    axes = spec.spatial_dims
    radians = np.deg2rad(DEGREES) * angles
    rotation = np.eye(axes)
    planes = ((0, 1),) if axes == 2 else ((0, 1), (0, 2), (1, 2))
    for (first, second), angle in zip(planes, radians, strict=False):
        single = np.eye(axes)
        single[[first, second], [first, second]] = np.cos(angle)
        single[first, second], single[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ single
    mm = np.asarray(spec.spacing or (1.0,) * axes)
    return rotation * (mm[None, :] / mm[:, None]) / factor


def _mirrored(array: NDArray[Any], crop: Crop, leading: int) -> NDArray[Any]:
    # A view: of a memory-mapped volume only the patch is read.
    return np.flip(array, leading + SIDES[array.ndim - leading]) if crop.mirrored else array


def _block(array: NDArray[Any], crop: Crop, outside: float) -> NDArray[Any]:
    """The pixels `(C, *size)` of `(C, *whole)` from the crop's start on."""
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


def _turned(array: NDArray[Any], crop: Crop, turn: NDArray[np.float64], order: int, outside: float) -> NDArray[Any]:
    """The turned patch `(*size)` of `(*whole)`: only the part of the image that it needs is read."""
    from scipy.ndimage import affine_transform

    half = (np.asarray(crop.size) - 1) / 2
    centre = np.asarray(crop.start) + half
    reach = np.abs(turn) @ half + 1
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 1, array.shape)
    if (low >= high).any():
        return np.full(crop.size, outside, array.dtype)
    part = array[tuple(slice(first, last) for first, last in zip(low, high, strict=True))]
    values = part.astype(np.float32) if order else part
    start = centre - low - turn @ half
    turned: NDArray[Any] = affine_transform(values, turn, start, crop.size, order=order, mode="constant", cval=outside)
    return turned
