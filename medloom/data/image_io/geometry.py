"""The position of arrays in the patient: affines, coordinate conventions, orientations; and images of volume files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Header, Image, full_scale_of
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE, UNITS

Value = TypeVar("Value", bound=np.generic)

# DICOM and ITK measure mm to the patient's left and back, NIfTI and RAS affines to the right and front.
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SINGULAR = 1e-12  # mm^3 of a voxel
SQUARENESS = 1e-3  # largest cosine between two axes that count as orthogonal


def voxel_spacing(affine: Affine) -> tuple[float, float, float]:
    """mm per step along each of the three array axes of a `(4, 4)` affine."""
    first, second, third = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).tolist()
    return first, second, third


def has_right_angles(affine: Affine) -> bool:
    """Whether the array axes of a `(4, 4)` affine are orthogonal, and none of them is of no length."""
    spacing = np.asarray(voxel_spacing(affine))
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        return False
    direction = affine[:3, :3] / spacing
    return bool(np.allclose(direction.T @ direction, np.eye(3), atol=SQUARENESS))


def axis_codes(affine: Affine) -> str:
    """The anatomical direction that each array axis points closest to, e.g. "RAS"."""
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(affine))


def to_orientation(
    array: NDArray[Value], affine: Affine, codes: str = "RAS", name: object = "the volume"
) -> tuple[NDArray[Value], Affine]:
    """Permute and flip the first three axes of `array` to the orientation `codes`, without changing values.

    Returns:
        The array and the affine of its new axes.

    Raises:
        UserError: the affine is singular, so that the axes have no direction.
    """
    from nibabel.orientations import apply_orientation

    change, turned = _axis_change(array.shape[:3], affine, codes, name)
    return np.ascontiguousarray(apply_orientation(array, change)), turned


def turned_geometry(
    size: tuple[int, int, int], affine: Affine, codes: str, name: object
) -> tuple[tuple[int, ...], tuple[float, float, float], Affine]:
    """Size, spacing and affine of a volume after `to_orientation`.

    Raises:
        UserError: the affine is singular.
    """
    change, turned = _axis_change(size, affine, codes, name)
    order = np.argsort(change[:, 0].astype(int))
    return tuple(size[axis] for axis in order), voxel_spacing(turned), turned


def _axis_change(size: tuple[int, ...], affine: Affine, codes: str, name: object) -> tuple[NDArray[np.float64], Affine]:
    """How axes of `size` change to the orientation `codes`, in nibabel's terms, and the affine of the new axes."""
    from nibabel import orientations

    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < SINGULAR:
        raise UserError(f"{name} has an invalid affine (singular or not finite); correct its header.")
    change = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(codes))
    return change, affine @ orientations.inv_ornt_aff(change, size)


def reorient(image: Image, codes: str) -> Image:
    """A volume with its axes in the orientation `codes`; unchanged without an affine or if it already is."""
    if image.affine is None or len(image.size) != 3 or axis_codes(image.affine) == codes:
        return image
    pixels, affine = to_orientation(np.moveaxis(image.pixels, 0, -1), image.affine, codes)
    return replace(
        image,
        pixels=np.ascontiguousarray(np.moveaxis(pixels, -1, 0)),
        affine=affine,
        padding=None if image.padding is None else to_orientation(image.padding, image.affine, codes)[0],
        spacing=voxel_spacing(affine),
    )


def turned_from(image: Image, codes: str) -> Image:
    """A volume without orientation, whose axes are said to be `codes`, with its axes in the order R, A, S."""
    from nibabel import orientations

    change = orientations.ornt_transform(orientations.axcodes2ornt(codes), orientations.axcodes2ornt("RAS"))
    values = orientations.apply_orientation(np.moveaxis(image.pixels, 0, -1), change)
    order = np.argsort(change[:, 0].astype(int))
    spacing = None if image.spacing is None else tuple(image.spacing[axis] for axis in order)
    pixels = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    return replace(image, pixels=pixels, spacing=spacing, unoriented=False)


def axial_affine(spacing: Sequence[float]) -> Affine:
    """The default affine of an image without one.

    In 3-D the axes are R, A, S. In 2-D rows go to the back and columns to the left, like a displayed axial slice.
    """
    if len(spacing) == 3:
        return np.diag([*spacing, 1.0])
    affine = np.eye(4)
    affine[:3, 0] = (0.0, -spacing[0], 0.0)
    affine[:3, 1] = (-spacing[1], 0.0, 0.0)
    return affine


def stated_affine(image: Image) -> Affine:
    """The image's affine, or the axial one at its spacing, or at 1 mm."""
    return axial_affine(image.spacing or (1.0,) * len(image.size)) if image.affine is None else image.affine


@dataclass(frozen=True, eq=False)
class StoredVolumes:
    """What the header of a volume file says.

    Attributes:
        shape: `(X, Y, Z)` in file order.
        frames: number of volumes.
        affine: from array index to RAS mm; of a file that states no orientation, its spacing alone counts.
        oriented: whether the file states how its axes lie in the patient.
    """

    shape: tuple[int, int, int]
    frames: int
    affine: Affine
    oriented: bool


def volume_image(
    path: Path,
    values: NDArray[np.float32],
    volumes: StoredVolumes,
    stored: np.dtype[np.generic],
    unit: str | None,
    frame: int | None,
) -> Image:
    """An Image from float32 values in file order: in RAS order, or as it is where the file states no orientation."""
    stated = volume_unit(path, stored, unit)
    scale = full_scale_of(stored.itemsize * 8) if stated == GREY else math.nan
    if not volumes.oriented:
        return Image(values[None], stated, scale, _stated_spacing(volumes), frame=frame, unoriented=True)
    volume, turned = to_orientation(values, volumes.affine, "RAS", path)
    return Image(
        volume[None], stated, scale, voxel_spacing(turned), turned, frame=frame, stored_axes=axis_codes(volumes.affine)
    )


def volume_header(
    kind: str, path: Path, volumes: StoredVolumes, stored: np.dtype[np.generic], unit: str | None
) -> Header:
    """The header of a volume file, with size and spacing in the order of `volume_image`."""
    stated, bits = volume_unit(path, stored, unit), stored.itemsize * 8
    if not volumes.oriented:
        return Header(kind, volumes.shape, 1, bits, stated, volumes.frames, _stated_spacing(volumes), unoriented=True)
    size, spacing, affine = turned_geometry(volumes.shape, volumes.affine, "RAS", path)
    axes = axis_codes(volumes.affine)
    return Header(kind, size, 1, bits, stated, volumes.frames, spacing, affine=affine, stored_axes=axes)


def _stated_spacing(volumes: StoredVolumes) -> tuple[float, float, float] | None:
    spacing = voxel_spacing(volumes.affine)
    return spacing if min(spacing) > 0 and np.isfinite(spacing).all() else None


def volume_unit(path: Path, stored: np.dtype[np.generic], unit: str | None) -> str:
    """The unit given by the caller, or relative: volume files state none.

    Raises:
        UserError: not a unit of one channel, or grey levels for values that do not have 8 or 16 unsigned bits.
    """
    if unit is None:
        return RELATIVE
    if unit not in UNITS or unit == COLOUR:
        raise UserError(f"{path}: unit {unit!r} is not valid for a volume; allowed: {HU}, {GREY}, {RELATIVE}.")
    if unit == GREY and (stored.kind not in "ub" or stored.itemsize > 2):
        raise UserError(
            f"{path} holds {stored} values, which are not grey levels of 8 or 16 bits; give {HU} or {RELATIVE}."
        )
    return unit


def stored_volume(image: Image) -> NDArray[np.int16] | NDArray[np.float32]:
    """The values `(X, Y, Z)` to write: int16 for rounded HU, else float32; a 2-D image is a volume of one slice."""
    volume: NDArray[np.float32] = image.pixels[0] if len(image.size) == 3 else image.pixels[0][..., None]
    if image.unit != HU:
        return volume
    limits = np.iinfo(np.int16)
    return np.asarray(np.rint(np.clip(volume, limits.min, limits.max)), np.int16)
