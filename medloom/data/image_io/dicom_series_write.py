"""Writing a volume as a DICOM series: a folder with a file for each axial slice, which says where the slice lies."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder
from medloom.core.image import Affine, Image
from medloom.core.spec import HU
from medloom.data.image_io.dicom_series import slices_of
from medloom.data.image_io.dicom_write import (
    content_hash,
    decimal,
    derived_uid,
    dicom_provenance,
    marked_dataset,
    place_slice,
    save_dataset,
    stated_comments,
    stored_pixels,
)
from medloom.data.image_io.geometry import LPS_RAS, has_right_angles, to_orientation, turned_geometry, voxel_spacing
from medloom.data.image_io.raster import require_levels

# Rows lead to the back, columns to the left, and slices to the head: how axial slices are stored and shown.
AXIAL = "PLS"
OTHERS = "write a .nii.gz"


def write_dicom_series(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write a volume as a folder of slices `0001.dcm` and so on, from the feet to the head.

    Values are stored, and said to be synthetic, as those of a slice are by `write_dicom`: HU as CT Image Storage,
    levels as Secondary Capture, which here states the position and the orientation of each slice too.

    Raises:
        UserError: what `require_series` refuses, provenance that is too long, or a folder in use.
    """
    affine = require_series(path, image)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there already, and a series has a folder of its own; name a new folder.")
    comments = stated_comments(path, provenance)
    values, turned = to_orientation(image.pixels[0], affine, AXIAL, path)
    placed = LPS_RAS @ turned
    stored = [stored_pixels(path, _slice(image, values[..., number])) for number in range(values.shape[-1])]
    # Without names of its own a volume is alone in its study; with them its place tells it from others of the series.
    alone = content_hash(path, comments, stored)
    study, *place = image.series or (alone, alone)
    series = derived_uid("series", study, *map(str, place))
    frame_of_reference = derived_uid("frame of reference", study, json.dumps(placed.tolist()))
    step = voxel_spacing(placed)[2]
    with atomic_folder(path) as folder:
        for number, pixels in enumerate(stored):
            data = marked_dataset(provenance, comments, image.unit, is_ct=image.unit == HU)
            data.SOPInstanceUID = derived_uid("instance", alone, str(number))
            data.StudyInstanceUID, data.SeriesInstanceUID = derived_uid("study", study), series
            data.InstanceNumber = number + 1
            data.FrameOfReferenceUID = frame_of_reference
            data.PositionReferenceIndicator = None
            place_slice(data, _shifted(placed, number))
            data.SliceThickness = data.SpacingBetweenSlices = decimal(step)
            save_dataset(folder / f"{number + 1:04d}.dcm", data, pixels, image.unit)


def require_series(path: Path, image: Image) -> Affine:
    """Refuse an image that cannot be a DICOM series; returns the affine of one that can.

    Raises:
        UserError: no volume of several slices with one value per voxel, no position or orientation, axes that are not
            at right angles, or values outside the range of their unit.
    """
    if len(image.size) != 3 or len(image.pixels) != 1:
        raise UserError(f"{path}: a DICOM series holds a volume with one value per voxel; write a .dcm or .png.")
    if image.affine is None or image.unoriented:
        raise UserError(
            f"{path}: each slice of a DICOM series states its position, orientation and size in mm, which are not known"
            f" of this volume; {OTHERS}."
        )
    if not has_right_angles(image.affine):
        raise UserError(f"{path}: the axes of the volume are not at right angles, as those of slices are; {OTHERS}.")
    first, second, third = image.size
    size, _, _ = turned_geometry((first, second, third), image.affine, AXIAL, path)
    if size[2] == 1:
        raise UserError(f"{path}: the volume has one axial slice, and a series has several; {OTHERS}.")
    if image.unit != HU:
        require_levels(path, image)
    return image.affine


def series_provenance(path: Path) -> dict[str, str]:
    """The provenance that all slices of a folder have; empty if one of them is not marked as synthetic."""
    found = [dicom_provenance(entry.path) for entry in slices_of(path)[0]]
    return found[0] if found and all(each == found[0] for each in found) else {}


def _slice(image: Image, values: NDArray[np.float32]) -> Image:
    """A slice of a volume, with the unit and without the geometry."""
    return Image(values[None], image.unit, image.full_scale)


def _shifted(affine: Affine, number: int) -> Affine:
    """The affine of a slice, whose own index is 0."""
    shifted = affine.copy()
    shifted[:3, 3] += number * affine[:3, 2]
    return shifted
