"""What the volume formats share: they state no unit, and hold one value a voxel."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Image, full_scale_of
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE, UNITS
from medloom.data.image_io.geometry import axis_codes, to_orientation, voxel_spacing


def volume_image(
    path: Path, values: NDArray[np.float32], affine: Affine, stored: np.dtype[Any], unit: str | None, frame: int | None
) -> Image:
    """The Image of float32 values `(X, Y, Z)` in file order and their affine to RAS mm, brought to RAS order."""
    stated = volume_unit(path, stored, unit)
    volume, turned = to_orientation(values, affine, "RAS", path)
    scale = full_scale_of(stored.itemsize * 8) if stated == GREY else math.nan
    return Image(
        volume[None], stated, scale, voxel_spacing(turned), turned, frame=frame, stored_axes=axis_codes(affine)
    )


def volume_unit(path: Path, stored: np.dtype[Any], unit: str | None) -> str:
    """The unit that the caller names, or relative: volume files state none.

    Raises:
        UserError: not a unit of one channel, or grey levels of values that are not of 8 or 16 unsigned bits.
    """
    if unit is None:
        return RELATIVE
    if unit not in UNITS or unit == COLOUR:
        raise UserError(f"{path}: unit {unit!r} is not one of a volume; allowed: {HU}, {GREY}, {RELATIVE}.")
    if unit == GREY and (stored.kind not in "ub" or stored.itemsize > 2):
        raise UserError(
            f"{path} holds {stored} values, which are not grey levels of 8 or 16 bits; name {HU} or {RELATIVE}."
        )
    return unit


def stored_volume(image: Image) -> NDArray[Any]:
    """The `(X, Y, Z)` values to write: int16 rounded HU, float32 otherwise; a 2-D image is a volume of one slice."""
    volume = image.pixels[0] if len(image.size) == 3 else image.pixels[0][..., None]
    if image.unit != HU:
        return volume
    limits = np.iinfo(np.int16)
    return np.rint(np.clip(volume, limits.min, limits.max)).astype(np.int16)
