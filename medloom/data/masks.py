"""Segmentation masks: label maps of known classes on the grid of their image, brought to the model's grid."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Header, Image
from medloom.core.lookup import look_up
from medloom.core.mask_spec import BACKGROUND, NO_MASK, MaskSpec
from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.image_io.geometry import axis_codes
from medloom.data.images import read_header, read_image, readers_at_once
from medloom.data.laterality import swap_sides
from medloom.data.placement import frame_of, plan
from medloom.data.transforms import oriented

Labels = NDArray[np.int16]

# Grids whose corners differ by at most this fraction of a voxel are the same: files round affines to single precision.
SAME_GRID = 0.05
LARGEST_LABEL = int(np.iinfo(np.int16).max)
MOST_CLASSES = 100


def read_mask(path: Path | str) -> Image:
    """A label map with the labels and the grid of its file; volumes in RAS order.

    Args:
        path: an image file whose values are class labels.

    Raises:
        UserError: unreadable, in colour, or values that are not whole numbers from 0 to 32767.

    Examples:
        >>> import numpy as np
        >>> from medloom.data.masks import read_mask
        >>> np.unique(read_mask("masks/0.png").pixels).tolist()
        [0.0, 1.0, 2.0]
    """
    return check_labels(read_image(path), Path(path))


def check_labels(mask: Image, path: Path) -> Image:
    """The image itself, if it is a label map.

    Raises:
        UserError: the image is in colour, or has values that are not whole numbers from 0 to 32767.
    """
    values = mask.pixels
    if len(values) != 1 or not np.array_equal(values, np.round(values)):
        raise UserError(f"{path} is not a label map: it is in colour, or has values that are not whole numbers.")
    if values.min() < BACKGROUND or values.max() > LARGEST_LABEL:
        raise UserError(
            f"{path} is not a label map: its values range from {values.min():g} to {values.max():g}, labels from"
            f" {BACKGROUND} to {LARGEST_LABEL}."
        )
    return mask


def read_labels(path: Path, spec: ImageSpec, image: Path | None = None, masks: MaskSpec | None = None) -> Labels:
    """A label map on the model's grid, by nearest neighbour.

    Args:
        path: an image file whose values are class labels.
        spec: the model's space.
        image: the mask's image, or None for a mask without one.
        masks: the allowed classes, and which of them are visible to the model; None takes all labels as they are.

    Returns:
        int16 `(*size)`; with patches, of the whole image's size. -1 outside the image, and beyond a resampled mask.

    Raises:
        UserError: not a label map, on another grid than its image, or a label that is not among the classes.
    """
    masks = masks or MaskSpec()
    mask = read_mask(path)
    if image is not None:
        mask = on_image_grid(mask, path, read_header(image), image, masks.resample)
    return model_labels(mask, path, spec, masks)


def model_labels(mask: Image, path: Path, spec: ImageSpec, masks: MaskSpec) -> Labels:
    """As `read_labels`, for a mask in memory that lies on its image's grid.

    Raises:
        UserError: a number of axes other than the model's, or a label that is not among the classes.
    """
    require_axes(mask, path, spec)
    require_known(mask.pixels[0], path, masks)
    try:
        labels = nearest_labels(mask, spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    visible = labels.copy() if masks.hidden else labels
    for label, container in masks.hidden.items():
        visible[labels == label] = container
    return visible


def require_axes(mask: Image, path: Path, spec: ImageSpec) -> None:
    """Refuse a 2-D mask for a model of volumes, and vice versa.

    Raises:
        UserError: states both numbers of axes.
    """
    if len(mask.size) != spec.spatial_dims:
        raise UserError(
            f"{path} has {len(mask.size)} spatial axes and the model {spec.spatial_dims};"
            f" give a mask of {spec.spatial_dims} axes, or take a model of images with as many axes."
        )


def require_known(labels: NDArray[np.generic], path: Path, masks: MaskSpec) -> None:
    """Refuse labels that are not among the classes.

    Raises:
        UserError: names the file, the label and the classes.
    """
    known = (NO_MASK, BACKGROUND, *masks.names)
    found = np.unique(labels).astype(int).tolist() if masks.names else []
    if unknown := [label for label in found if label not in known]:
        listed = ", ".join(f"{label} {masks.name(label)}" for label in sorted(masks.names)[:12])
        more = "" if len(masks.names) <= 12 else f" and {len(masks.names) - 12} more"
        raise UserError(
            f"{path}: label {unknown[0]} is not one of the mask classes ({listed}{more}); add it to the classes, or"
            " correct the mask."
        )


def nearest_labels(mask: Image, spec: ImageSpec) -> Labels:
    """The labels of a mask on the model's grid and in its axes, by nearest neighbour; -1 in the border of padding.

    The geometry is exactly that of its image.
    """
    mask = oriented(mask, spec)
    placement = plan(mask.size, mask.spacing, spec)
    frame = frame_of(placement, spec)
    labels = mask.pixels[0].astype(np.int16)
    inside = placement.box(frame)
    for axis, (part, length) in enumerate(zip(inside, mask.size, strict=True)):
        index = np.arange(part.start, part.stop) * placement.scale[axis] + placement.shift[axis]
        # Half a pixel is rounded up on every axis; the margin covers rounding errors.
        labels = np.take(labels, np.clip(np.floor(index + 0.5 + 1e-6).astype(int), 0, length - 1), axis)
    placed = np.full(frame, NO_MASK, np.int16)
    placed[inside] = labels
    return placed


def on_image_grid(mask: Image, path: Path | str, image: Header, image_path: Path | str, resample: bool) -> Image:
    """The mask on the grid of its image; a mask without geometry takes the image's.

    Args:
        mask: the mask.
        path: its file.
        image: header of the image.
        image_path: its file.
        resample: resample a mask on another grid instead of refusing it.

    Raises:
        UserError: another grid, and no resampling or no affine; describes both grids.

    Examples:
        >>> from medloom.data.images import read_header
        >>> from medloom.data.masks import on_image_grid, read_mask
        >>> scan, seg = "scan.nii.gz", "seg.nii.gz"
        >>> mask, header = read_mask(seg), read_header(scan)
        >>> on_image_grid(mask, seg, header, scan, resample=True).spacing
        (1.0, 1.0, 2.5)
    """
    if len(mask.size) == len(image.size) and mask.size == image.size and _apart(mask, image) <= SAME_GRID:
        return replace(mask, spacing=image.spacing, affine=image.affine)
    where = f"{path}: a mask of {_described(mask)} for an image of {_described(image)} ({image_path})"
    if not resample:
        raise UserError(
            f"{where}; both must be on the same grid, or --resample-masks resamples the mask to the image's."
        )
    if len(mask.size) != 3 or len(image.size) != 3 or mask.affine is None or image.affine is None:
        raise UserError(f"{where}: only volumes with an affine can be resampled; give a mask on the image's grid.")
    # By nearest neighbour; -1 beyond the mask.
    matrix = np.linalg.inv(mask.affine) @ image.affine
    labels = np.full(image.size, NO_MASK, np.int16)
    source = mask.pixels[0]
    plane = np.stack(np.meshgrid(*map(np.arange, image.size[1:]), indexing="ij"))
    # Slab by slab: the coordinates of a whole volume would take six times its memory.
    for first in range(image.size[0]):
        index = (
            np.einsum("ab,b...->a...", matrix[:3, 1:3], plane) + (matrix[:3, 0] * first + matrix[:3, 3])[:, None, None]
        )
        nearest = np.floor(index + 0.5 + 1e-6).astype(int)
        inside = np.all(
            [(axis >= 0) & (axis < length) for axis, length in zip(nearest, mask.size, strict=True)], axis=0
        )
        labels[first][inside] = source[tuple(axis[inside] for axis in nearest)].astype(np.int16)
    return replace(mask, pixels=labels[None].astype(np.float32), spacing=image.spacing, affine=image.affine)


def read_classes(path: Path) -> dict[int, str]:
    """Label -> name from a YAML or JSON file, sorted by label.

    Raises:
        UserError: unreadable, not a table of labels and names, or a label that is not a whole number above 0.
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
    """Hidden label -> the label that replaces it, from `lesion=lung`, or `lesion` for background.

    Raises:
        UserError: an unknown class; names the closest one.
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
    """Pairs of visible classes that a left-right flip exchanges, by the side in their names.

    Raises:
        UserError: a class of one side without a class of the other side.
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


def mask_classes_of(samples: Sequence[Sample], given: Sequence[int], verbose: bool = True) -> tuple[int, ...]:
    """The labels of a model's mask classes, without background (0).

    Args:
        samples: the training samples.
        given: labels from the user; empty to take those found in the masks, sorted.
        verbose: show progress.

    Raises:
        UserError: no mask, a file that is not a label map, a given label that occurs twice, or masks with more than
            100 labels, which are images rather than label maps.
    """
    if twice := [label for number, label in enumerate(given) if label in given[:number] or label < 1]:
        raise UserError(f"network.mask_classes: {twice[0]} occurs twice or is below 1; name each label once.")
    masks = sorted({file for sample in samples if (file := sample.condition.mask_file) is not None})
    if not masks:
        raise UserError("no row of the manifest has a mask; name the masks' files in a column mask.")
    if given:
        # Each mask is checked when it is cached.
        return tuple(given)

    def labels_of(path: Path) -> set[int]:
        return {int(label) for label in np.unique(read_mask(path).pixels) if label > BACKGROUND}

    found: set[int] = set()
    with (
        ThreadPoolExecutor(readers_at_once(sample.path for sample in samples)) as pool,
        progress("reading masks", len(masks), "files", 0, verbose) as advance,
    ):
        for labels in pool.map(labels_of, masks):
            found |= labels
            advance()
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"the masks have {len(found)} labels, {min(found)} to {max(found)}: a model takes at most {MOST_CLASSES};"
            " give label maps, not images."
        )
    if not found:
        raise UserError("all masks are background (0); give masks with labels of 1 and above.")
    return tuple(sorted(found))


def _apart(mask: Image, image: Header) -> float:
    """Largest distance between the corners of two grids of one size, in voxels; 0 without geometry."""
    if mask.affine is None or image.affine is None:
        if mask.spacing is None or image.spacing is None:
            return 0.0
        errors = [abs(mine / theirs - 1) for mine, theirs in zip(mask.spacing, image.spacing, strict=True)]
        return max(error * length for error, length in zip(errors, mask.size, strict=True))
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
