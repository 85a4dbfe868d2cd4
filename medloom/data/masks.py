"""Segmentation masks: label maps of known classes on the grid of their image, brought to the model's grid."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.frames import file_of
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.core.mask_spec import BACKGROUND, NO_MASK, MaskSpec
from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.image_io.dicom_seg import read_segmentation
from medloom.data.image_io.itk import segment_names
from medloom.data.image_io.label_maps import LARGEST_LABEL, check_labels, stored_labels
from medloom.data.images import read_header, read_image, readers_at_once
from medloom.data.laterality import swap_sides
from medloom.data.mask_grids import on_image_grid
from medloom.data.placement import frame_of, plan
from medloom.data.transforms import oriented

Labels = NDArray[np.int16]

LOSSY = (".jpg", ".jpeg")
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
    return read_named_mask(Path(path))[0]


def read_named_mask(path: Path) -> tuple[Image, dict[int, str]]:
    """As `read_mask`, and label -> name where the file says it: a DICOM segmentation, or one of 3D Slicer.

    Raises:
        UserError: as `read_mask`.
    """
    if segmentation := read_segmentation(path):
        return check_labels(segmentation[0], path), segmentation[1]
    # Before the labels are read: layers that overlap are refused by their own name.
    names = _header_names(path)
    mask = check_labels(stored_labels(path) or read_image(path), path)
    if file_of(path).suffix.lower() in LOSSY and len(np.unique(mask.pixels)) > 2:
        raise UserError(f"{path} is a JPEG, whose compression changes labels; save the mask as PNG.")
    return mask, names


def stated_names(path: Path) -> dict[int, str]:
    """Label -> name, where a mask's file says it, of which only a DICOM segmentation is read whole; else empty."""
    segmentation = read_segmentation(path)
    return segmentation[1] if segmentation else _header_names(path)


def _header_names(path: Path) -> dict[int, str]:
    file = file_of(path)
    return segment_names(file) if file.suffix.lower() == ".nrrd" else {}


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
    mask = by_names(*read_named_mask(path), path, masks)
    if image is not None:
        mask = on_image_grid(mask, path, read_header(image), image, masks.resample)
    return model_labels(mask, path, spec, masks)


def by_names(mask: Image, names: Mapping[int, str], path: Path, masks: MaskSpec) -> Image:
    """A mask with the labels that its classes have by the names in its file, if any; numbers of files may differ.

    Raises:
        UserError: a name that is not among the classes.
    """
    if not names or all(name == f"label {label}" for label, name in masks.names.items()):
        return mask
    try:
        changed = {label: masks.label(name) for label, name in names.items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    labels = mask.pixels
    return replace(mask, pixels=np.select([labels == old for old in changed], list(changed.values()), labels))


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


def unknown_labels(labels: NDArray[np.generic], masks: MaskSpec) -> list[int]:
    """The labels that are not among the classes; none where no classes are known."""
    known = (NO_MASK, BACKGROUND, *masks.names)
    found = np.unique(labels).astype(int).tolist() if masks.names else []
    return [label for label in found if label not in known]


def require_known(labels: NDArray[np.generic], path: Path, masks: MaskSpec) -> None:
    """Refuse labels that are not among the classes.

    Raises:
        UserError: names the file, the label and the classes.
    """
    if unknown := unknown_labels(labels, masks):
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


def named_classes(samples: Sequence[Sample]) -> dict[int, str]:
    """Classes by the names that the masks' files state, numbered in the order of the names; empty if none states any.

    Raises:
        UserError: some masks state names and others do not, so that their labels cannot be compared.
    """
    paths = sorted({file for sample in samples if (file := sample.condition.mask_file) is not None})
    stated = [stated_names(path) for path in paths]
    if not any(stated):
        return {}
    if nameless := [path for path, names in zip(paths, stated, strict=True) if not names]:
        raise UserError(
            f"{len(nameless)} of {len(paths)} masks do not name their segments, first {nameless[0]}, and others do, so"
            " that labels may differ; name the classes with --classes."
        )
    return dict(enumerate(sorted({name for names in stated for name in names.values()}), 1))
