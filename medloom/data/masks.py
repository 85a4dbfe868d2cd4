"""Segmentation masks: label maps that lie on their image's grid, hold known classes, and follow it to the model's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Header, Image
from medloom.core.lookup import look_up
from medloom.core.mask_spec import BACKGROUND, NO_MASK, MaskSpec
from medloom.core.spec import ImageSpec
from medloom.data.image_io.geometry import axis_codes
from medloom.data.images import read_header, read_image
from medloom.data.laterality import swap_sides
from medloom.data.placement import frame_of, plan
from medloom.data.transforms import oriented

Labels = NDArray[np.int16]

# Writers round affines to single precision: grids whose corners lie within this share of a voxel are one.
SAME_GRID = 0.05
LARGEST_LABEL = int(np.iinfo(np.int16).max)


def read_mask(path: Path) -> Image:
    """A label map as its file has it; volumes in RAS order.

    Raises:
        UserError: unreadable, in colour, or with values that are not whole numbers from 0 to 32767.
    """
    return check_labels(read_image(path), path)


def check_labels(mask: Image, path: Path) -> Image:
    """The image, where it is a label map.

    Raises:
        UserError: it is in colour, or has values that are not whole numbers from 0 to 32767.
    """
    values = mask.pixels
    if len(values) != 1 or not np.array_equal(values, np.round(values)):
        raise UserError(f"{path} is not a label map: it has colours or values that are not whole numbers.")
    if values.min() < BACKGROUND or values.max() > LARGEST_LABEL:
        raise UserError(
            f"{path} is not a label map: its values go from {values.min():g} to {values.max():g}, and labels from"
            f" {BACKGROUND} to {LARGEST_LABEL}."
        )
    return mask


def read_labels(path: Path, spec: ImageSpec, image: Path | None = None, masks: MaskSpec | None = None) -> Labels:
    """A label map on the model's grid, by nearest neighbour.

    Args:
        path: an image file whose values are class labels.
        spec: the model's space.
        image: the image that the mask belongs to, or None where the mask stands alone.
        masks: the classes that it may have, and what the model is told of them; None takes all labels as they are.

    Returns:
        int16 `(*size)`, with patches `(*size of the whole image)`; -1 outside of the image, and where a resampled mask
        does not reach.

    Raises:
        UserError: not a label map, on another grid than its image, or a label that is not among the classes.
    """
    masks = masks or MaskSpec()
    mask = read_mask(path)
    if image is not None:
        mask = on_image_grid(mask, path, read_header(image), image, masks.resample)
    return model_labels(mask, path, spec, masks)


def model_labels(mask: Image, path: Path, spec: ImageSpec, masks: MaskSpec) -> Labels:
    """As `read_labels`, for a mask that was read and lies where it should.

    Raises:
        UserError: another number of axes than the model has, or a label that is not among the classes.
    """
    require_axes(mask, path, spec)
    require_known(mask.pixels[0], path, masks)
    try:
        labels = nearest_labels(mask, spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return told(labels, masks)


def require_axes(mask: Image, path: Path, spec: ImageSpec) -> None:
    """Refuse a 2-D mask for a model of volumes, or the other way round.

    Raises:
        UserError: names both sides.
    """
    if len(mask.size) != spec.spatial_dims:
        raise UserError(
            f"{path} has {len(mask.size)} spatial axes and the model {spec.spatial_dims};"
            f" give a mask of {spec.spatial_dims} axes, or a model of {len(mask.size)}."
        )


def require_known(labels: NDArray[Any], path: Path, masks: MaskSpec) -> None:
    """Refuse labels that are not classes.

    Raises:
        UserError: the file, the label, and the classes.
    """
    if not masks.names:
        return
    found = [int(label) for label in np.unique(labels)]
    unknown = [label for label in found if label not in (NO_MASK, BACKGROUND, *masks.names)]
    if unknown:
        listed = ", ".join(f"{label} {masks.name(label)}" for label in sorted(masks.names)[:12])
        more = "" if len(masks.names) <= 12 else f" and {len(masks.names) - 12} more"
        raise UserError(
            f"{path}: label {unknown[0]} is not one of the mask classes ({listed}{more}); add it to the classes, or"
            " mend the mask."
        )


def told(labels: Labels, masks: MaskSpec) -> Labels:
    """The labels that the model is told: hidden classes as the class that contains them."""
    if not masks.hidden:
        return labels
    shown = labels.copy()
    for label, instead in masks.hidden.items():
        shown[labels == label] = instead
    return shown


def nearest_labels(mask: Image, spec: ImageSpec) -> Labels:
    """The labels of a mask on the model's grid, its axes brought to the spec's; -1 in the border that padding adds.

    Nearest neighbour, in exactly the geometry in which its image is placed.
    """
    mask = oriented(mask, spec)
    placement = plan(mask.size, mask.spacing, spec)
    frame = frame_of(placement, spec)
    labels = mask.pixels[0].astype(np.int16)
    inside = placement.box(frame)
    for axis, (shown, length) in enumerate(zip(inside, mask.size, strict=True)):
        index = np.arange(shown.start, shown.stop) * placement.scale[axis] + placement.shift[axis]
        # Half a pixel is rounded up, whatever the axis; a little is left for rounding.
        nearest = np.clip(np.floor(index + 0.5 + 1e-6).astype(int), 0, length - 1)
        labels = np.take(labels, nearest, axis)
    placed = np.full(frame, NO_MASK, np.int16)
    placed[inside] = labels
    return placed


def on_image_grid(mask: Image, path: Path, image: Header, image_path: Path, resample: bool) -> Image:
    """The mask on the grid of its image; one that states no geometry takes the image's.

    Args:
        mask: the mask.
        path: its file.
        image: header of the image.
        image_path: its file.
        resample: resample a mask of another grid, in place of refusing it.

    Raises:
        UserError: another grid, and it is not to be resampled or does not say where it lies; names both sides.
    """
    if len(mask.size) == len(image.size) and mask.size == image.size and _apart(mask, image) <= SAME_GRID:
        return replace(mask, spacing=image.spacing, affine=image.affine)
    where = f"{path}: a mask of {_described(mask)} for an image of {_described(image)} ({image_path})"
    if not resample:
        raise UserError(f"{where}; they have to lie on one grid, or --resample-masks brings the mask to the image's.")
    if len(mask.size) != 3 or len(image.size) != 3 or mask.affine is None or image.affine is None:
        raise UserError(f"{where}: only volumes that say where they lie can be resampled; give a mask of its grid.")
    labels = resampled_labels(mask, image.size, image.affine)
    return replace(mask, pixels=labels[None].astype(np.float32), spacing=image.spacing, affine=image.affine)


def resampled_labels(mask: Image, size: Sequence[int], affine: Affine) -> Labels:
    """The labels of a volume at the voxels of another grid, by nearest neighbour.

    Args:
        mask: with an affine.
        size: voxels of the grid.
        affine: `(4, 4)`, index of the grid to RAS mm.

    Returns:
        int16 `(*size)`; -1 where the mask does not reach: nothing is known there.
    """
    if mask.affine is None:
        raise ValueError("a mask without an affine cannot be resampled")
    matrix = np.linalg.inv(mask.affine) @ affine
    labels = np.full(tuple(size), NO_MASK, np.int16)
    source = mask.pixels[0]
    plane = np.stack(np.meshgrid(*map(np.arange, size[1:]), indexing="ij"))
    # Slab by slab: coordinates of a whole volume would take six times its memory.
    for first in range(size[0]):
        index = (
            np.einsum("ab,b...->a...", matrix[:3, 1:3], plane) + (matrix[:3, 0] * first + matrix[:3, 3])[:, None, None]
        )
        nearest = np.floor(index + 0.5 + 1e-6).astype(int)
        inside = np.all(
            [(axis >= 0) & (axis < length) for axis, length in zip(nearest, mask.size, strict=True)], axis=0
        )
        labels[first][inside] = source[tuple(axis[inside] for axis in nearest)].astype(np.int16)
    return labels


def read_classes(path: Path) -> dict[int, str]:
    """Label -> name from a YAML or JSON file, sorted by label.

    Raises:
        UserError: unreadable, not a table of labels and names, or a label that is no whole number above 0.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--classes {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict) or not values:
        raise UserError(f"--classes {path}: give a label and its name on each line, as `1: left lung`.")
    names: dict[int, str] = {}
    for label, name in values.items():
        number = int(label) if str(label).isdecimal() else 0
        if not BACKGROUND < number <= LARGEST_LABEL or not isinstance(name, str) or not name.strip():
            raise UserError(f"--classes {path}: {label!r}: {name!r} is not a label above 0 and its name.")
        names[number] = name.strip()
    return dict(sorted(names.items()))


def hidden_classes(given: Sequence[str], masks: MaskSpec) -> dict[int, int]:
    """Label -> the label told in its place, from words `lesion=lung`, or `lesion` for background.

    Raises:
        UserError: a class that is not known; with the closest one.
    """
    hidden: dict[int, int] = {}
    for word in given:
        name, _, container = (part.strip() for part in word.partition("="))
        try:
            hidden[masks.label(name)] = masks.label(container) if container else BACKGROUND
        except UserError as error:
            raise UserError(f"--hide-classes {word}: {error}") from error
    return hidden


def opposite_classes(masks: MaskSpec) -> list[tuple[int, int]]:
    """The pairs of told classes that a flip between left and right exchanges, by the side in their names.

    Raises:
        UserError: a class of one side whose other side is no class.
    """
    by_name: Mapping[str, int] = {masks.name(label).casefold(): label for label in masks.visible}
    pairs: list[tuple[int, int]] = []
    for label in masks.visible:
        name = masks.name(label)
        other = swap_sides(name)
        if other == name:
            continue
        try:
            opposite = look_up(by_name, other.casefold(), "mask class")
        except UserError as error:
            raise UserError(f"--flip: mask class {name!r} has no class for the other side ({error})") from error
        if label < opposite:
            pairs.append((label, opposite))
    return pairs


def _apart(mask: Image, image: Header) -> float:
    """How far the corners of two grids of one size lie apart, in voxels; 0 where either does not say where it lies."""
    if mask.affine is None or image.affine is None:
        if mask.spacing is None or image.spacing is None:
            return 0.0
        shares = [abs(mine / theirs - 1) for mine, theirs in zip(mask.spacing, image.spacing, strict=True)]
        return max(share * length for share, length in zip(shares, mask.size, strict=True))
    ends = [(0, length - 1) for length in mask.size] + [(0,)] * (3 - len(mask.size))
    corners = np.array([(*corner, 1) for corner in product(*ends)], dtype=np.float64).T
    distance = np.linalg.norm(((mask.affine - image.affine) @ corners)[:3], axis=0).max()
    steps = np.linalg.norm(image.affine[:3, : len(mask.size)], axis=0)
    return float(distance / steps.min())


def _described(grid: Image | Header) -> str:
    size = " x ".join(map(str, grid.size))
    if grid.spacing is None:
        return f"{size} pixels"
    spacing = " x ".join(f"{mm:.4g}" for mm in grid.spacing)
    text = f"{size} pixels of {spacing} mm"
    if grid.affine is None or len(grid.size) < 3:
        return text
    origin = ", ".join(f"{mm:.4g}" for mm in grid.affine[:3, 3])
    return f"{text}, axes {axis_codes(grid.affine)}, first voxel at ({origin}) mm"
