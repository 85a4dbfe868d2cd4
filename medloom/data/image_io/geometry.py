"""Where an array lies in the patient: affines, the two coordinate conventions, and bringing axes to an orientation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Image

# DICOM and ITK count mm to the patient's left and back, NIfTI and RAS affines to the right and front.
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SINGULAR = 1e-12  # mm^3 of a voxel


def voxel_spacing(affine: Affine) -> tuple[float, float, float]:
    """mm of a step along each of the three array axes of a `(4, 4)` affine."""
    first, second, third = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).tolist()
    return first, second, third


def axis_codes(affine: Affine) -> str:
    """The anatomical direction that each array axis points closest to, e.g. "RAS"."""
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(affine))


def to_orientation(
    array: NDArray[Any], affine: Affine, codes: str = "RAS", name: object = "the volume"
) -> tuple[NDArray[Any], Affine]:
    """Permute and flip the first three axes of `array` so that they point as `codes` says; no value is changed.

    Returns:
        The array and the affine of its new axes.

    Raises:
        UserError: the affine is singular, so that the axes have no direction.
    """
    from nibabel import orientations

    change = _axis_change(affine, codes, name)
    turned = orientations.apply_orientation(array, change)
    return np.ascontiguousarray(turned), affine @ orientations.inv_ornt_aff(change, array.shape[:3])


def turned_geometry(
    size: tuple[int, int, int], affine: Affine, codes: str, name: object
) -> tuple[tuple[int, ...], tuple[float, float, float], Affine]:
    """Size, spacing and affine that a volume will have once `to_orientation` has turned it.

    Raises:
        UserError: the affine is singular.
    """
    from nibabel import orientations

    change = _axis_change(affine, codes, name)
    order = np.argsort(change[:, 0].astype(int))
    turned: Affine = affine @ orientations.inv_ornt_aff(change, size)
    return tuple(size[axis] for axis in order), voxel_spacing(turned), turned


def _axis_change(affine: Affine, codes: str, name: object) -> NDArray[np.float64]:
    from nibabel import orientations

    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < SINGULAR:
        raise UserError(f"{name} has an affine that places no volume (singular or not finite); correct its header.")
    change: NDArray[np.float64] = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(codes)
    )
    return change


def reorient(image: Image, codes: str) -> Image:
    """A volume with its axes brought to `codes`; one without an affine, or already so, is returned as it is."""
    if image.affine is None or len(image.size) != 3 or axis_codes(image.affine) == codes:
        return image
    pixels, affine = to_orientation(np.moveaxis(image.pixels, 0, -1), image.affine, codes)
    padding = None if image.padding is None else to_orientation(image.padding, image.affine, codes)[0]
    return replace(
        image,
        pixels=np.ascontiguousarray(np.moveaxis(pixels, -1, 0)),
        affine=affine,
        padding=padding,
        spacing=voxel_spacing(affine),
    )


def axial_affine(spacing: Sequence[float]) -> Affine:
    """The affine declared for an image that knows none.

    In 3-D the axes are R, A, S. In 2-D rows go to the back and columns to the left, as an axial slice is shown.
    """
    if len(spacing) == 3:
        return np.diag([*spacing, 1.0])
    affine = np.eye(4)
    affine[:3, 0] = (0.0, -spacing[0], 0.0)
    affine[:3, 1] = (-spacing[1], 0.0, 0.0)
    return affine


def stated_affine(image: Image) -> Affine:
    """The image's affine, or where it has none the axial one at its spacing, or at 1 mm."""
    if image.affine is not None:
        return image.affine
    return axial_affine(image.spacing or (1.0,) * len(image.size))
