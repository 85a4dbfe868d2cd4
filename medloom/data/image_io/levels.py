"""Pixels as the whole numbers that raster and DICOM files store."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import HU, RELATIVE

ROUNDING = 1e-3  # share of the range by which computed values may leave it


def to_levels(path: Path, image: Image) -> NDArray[Any]:
    """uint8 or uint16 `(rows, columns)` or `(rows, columns, 3)`; relative values from 0 to 1 become 0 to 255.

    Raises:
        UserError: a volume, HU, or values outside the range of the unit.
    """
    if len(image.size) != 2:
        raise UserError(f"{path}: the image is a volume; write it as .nii.gz, .mha or .nrrd.")
    if image.unit == HU:
        raise UserError(f"{path}: HU have no levels to be written as; write the image as .dcm or .nii.gz.")
    top = 1.0 if image.unit == RELATIVE else image.full_scale
    low, high = float(image.pixels.min()), float(image.pixels.max())
    if not (low >= -ROUNDING * top and high <= top * (1 + ROUNDING)):
        raise UserError(
            f"{path}: {image.unit} values go from {low:g} to {high:g}, but 0 to {top:g} can be written as levels;"
            " write the image as .nii.gz or .tif."
        )
    scale = 255.0 if image.unit == RELATIVE else image.full_scale
    levels = np.rint(np.clip(image.pixels / top, 0, 1) * scale).astype(np.uint8 if scale == 255 else np.uint16)
    return levels[0] if len(levels) == 1 else np.ascontiguousarray(np.moveaxis(levels, 0, -1))
