"""Reading a folder of DICOM slices as one volume, sorted by position; an incomplete stack is refused."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Header, Image
from medloom.data.image_io.content import is_dicom
from medloom.data.image_io.dicom import (
    Slice,
    dicom_header,
    frame_position,
    open_with_pixels,
    read_dicom,
    read_frame,
    read_slice_position,
)
from medloom.data.image_io.dicom_dataset import open_dataset
from medloom.data.image_io.geometry import LPS_RAS, axis_codes, to_orientation, turned_geometry, voxel_spacing
from medloom.data.image_io.reading import MAX_VOXELS, explained_reading, require_sane_size

if TYPE_CHECKING:
    from pydicom import Dataset

KIND = "DICOM series"
ENDINGS = (".dcm", ".dicom", ".ima")
# What operating systems and archives leave in folders; names that begin with a dot are passed over as well.
LITTER = ("dicomdir", "thumbs.db", "desktop.ini")
# Largest difference between cosines of one plane: directions are written with few digits.
SAME_DIRECTION = 1e-3
# Largest difference between steps, as a fraction of a step; beyond it a slice is missing.
SAME_STEP = 0.05
# Largest sideways shift per slice, as a fraction of the step; beyond it (0.6 degrees) the gantry was tilted.
TILT = 0.01
# Steps of so many last digits tell a rounded grid from one with a gap.
MOST_ROUNDED = 4
# Slices closer than this, in mm, have the same position.
SAME_POSITION = 1e-3


def read_series(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a folder's slices as one volume in RAS order, `(1, X, Y, Z)`, rescaled (CT in HU), with its padding.

    Raises:
        UserError: not one complete stack of slices; see `stack_of`.
    """
    if frame is not None:
        raise UserError(f"{path} is a series of slices and has no frame {frame}; leave the frame out.")
    slices, affine, aside = stack_of(path)
    return _volume(path, [read_dicom(entry.path, None, None) for entry in slices], affine, aside)


def read_frames(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read all frames of a file (enhanced CT or MR) as one volume, as `read_series` those of a folder.

    Raises:
        UserError: not one complete stack of frames.
    """
    data, slices, affine = _stack_of_frames(path, pixels=True)
    return _volume(path, [read_frame(path, data, entry.frame, None) for entry in slices], affine, ())


def frames_header(path: Path, unit: str | None) -> Header:
    """The header of the volume of a file's frames, size and spacing in RAS order.

    Raises:
        UserError: not one complete stack of frames.
    """
    _, slices, affine = _stack_of_frames(path, pixels=False)
    return _header(path, slices, affine, ())


def _stack_of_frames(path: Path, pixels: bool) -> "tuple[Dataset, list[Slice], Affine]":
    header = dicom_header(path, None)
    if header.frames == 1:
        raise UserError(f"{path} holds one frame, and no volume; name the file itself for a 2-D image.")
    with explained_reading(path, "DICOM"):
        data = open_with_pixels(path) if pixels else open_dataset(path, pixels=False)
    slices = [frame_position(path, data, number) for number in range(header.frames)]
    return data, *_stacked(path, slices)


def _volume(path: Path, images: Sequence[Image], affine: Affine, aside: tuple[str, ...]) -> Image:
    """The volume of slices in their order."""
    _require_one({image.unit for image in images}, path, "units")
    values = np.stack([image.pixels[0] for image in images], axis=-1)
    padding = None
    if any(image.padding is not None for image in images):
        nothing = np.zeros(images[0].size, bool)
        padding = np.stack([nothing if image.padding is None else image.padding for image in images], axis=-1)
    volume, turned = to_orientation(values, affine, "RAS", path)
    turned_padding = None if padding is None else to_orientation(padding, affine, "RAS", path)[0]
    first = images[0]
    return Image(
        volume[None],
        first.unit,
        first.full_scale,
        voxel_spacing(turned),
        turned,
        turned_padding,
        first.modality,
        stored_axes=axis_codes(affine),
        left_aside=aside,
        window=images[len(images) // 2].window,
    )


def series_header(path: Path, unit: str | None) -> Header:
    """The header of a folder's volume, size and spacing in RAS order.

    Raises:
        UserError: not one complete stack of slices; see `stack_of`.
    """
    slices, affine, aside = stack_of(path)
    return _header(path, slices, affine, aside)


def _header(path: Path, slices: Sequence[Slice], affine: Affine, aside: tuple[str, ...]) -> Header:
    first = slices[0].header
    rows, columns = first.size
    size, spacing, turned = turned_geometry((rows, columns, len(slices)), affine, "RAS", path)
    return Header(
        KIND,
        size,
        1,
        first.bits,
        first.unit,
        1,
        spacing,
        first.modality,
        turned,
        left_aside=aside,
        frame_of_reference=first.frame_of_reference,
    )


def slices_of(folder: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of a folder, and the files that are none, each with the reason.

    A file counts as DICOM by its ending or by its first bytes, with a preamble or without.

    Raises:
        UserError: an empty file, which may be a slice that was not copied, or one that cannot be read.
    """
    slices: list[Slice] = []
    aside = [f"{path.name} (a folder)" for path in sorted(folder.iterdir()) if path.is_dir()]
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.name.startswith(".") or path.name.lower() in LITTER:
            aside.append(f"{path.name} (no image by its name)")
        elif path.stat().st_size == 0:
            raise UserError(
                f"{path} is empty (0 bytes), perhaps a slice that was not copied; copy it again or remove it."
            )
        elif path.suffix.lower() not in ENDINGS and not is_dicom(path):
            aside.append(f"{path.name} (no DICOM)")
        elif isinstance(found := read_slice_position(path), str):
            aside.append(f"{path.name} ({found})")
        else:
            slices.append(found)
    return slices, tuple(aside)


def stack_of(folder: Path) -> tuple[list[Slice], Affine, tuple[str, ...]]:
    """The slices of a folder in order along their normal, and the affine from (row, column, slice) to RAS mm.

    The third are the files that are none, as of `slices_of`.

    The distance between slices is that of their positions, not their stated thickness.

    Raises:
        UserError: no or one slice, an empty or unreadable file, colour, several series, sizes, units or directions, a
            missing or repeated slice, or a tilted gantry.
    """
    slices, aside = slices_of(folder)
    if not slices:
        raise UserError(f"{folder} holds no DICOM image; name an image file, or a folder with one DICOM series.")
    if len(slices) == 1:
        raise UserError(f"{folder} holds one slice, {slices[0].name}; name the file itself for a 2-D image.")
    return *_stacked(folder, slices), aside


def _stacked(folder: Path, slices: list[Slice]) -> tuple[list[Slice], Affine]:
    """Slices in order along their normal, and the affine of their volume; see `stack_of`."""
    _require_one({entry.series for entry in slices}, folder, "series", "put each into a folder of its own")
    _require_one({entry.header.size for entry in slices}, folder, "sizes of slices", "remove the scout images")
    _require_one({entry.header.unit for entry in slices}, folder, "units", "put each kind into a folder of its own")
    first = slices[0]
    if first.header.channels != 1:
        raise UserError(f"{folder} holds slices in colour; a volume has one value per voxel.")
    for entry in slices:
        if np.abs(entry.cosines - first.cosines).max() > SAME_DIRECTION:
            raise UserError(
                f"{folder} holds slices of several directions ({first.name} and {entry.name}): scout images"
                " or several series; put each into a folder of its own."
            )
        if not np.allclose(entry.spacing, first.spacing, rtol=SAME_DIRECTION):
            raise UserError(
                f"{folder} holds slices of several pixel spacings ({first.name} and {entry.name});"
                " put each series into a folder of its own."
            )
    # The unit normal of all slices, in LPS.
    normal = np.cross(first.cosines[0], first.cosines[1])
    slices.sort(key=lambda entry: float(entry.position @ normal))
    require_sane_size(folder, (*slices[0].header.size, len(slices)), MAX_VOXELS)
    # From (row, column, slice) to RAS mm (DICOM PS3.3, equation C.7.6.2.1-1).
    first = slices[0]
    affine = np.eye(4)
    affine[:3, 0] = first.cosines[1] * first.spacing[0]
    affine[:3, 1] = first.cosines[0] * first.spacing[1]
    affine[:3, 2] = _step(folder, slices, normal)
    affine[:3, 3] = first.position
    return slices, LPS_RAS @ affine


def _require_one(found: Set[object], folder: Path, what: str, advice: str = "correct the files") -> None:
    if len(found) > 1:
        raise UserError(
            f"{folder} holds {len(found)} {what} ({', '.join(sorted(map(str, found))[:3])}), but a volume has one;"
            f" {advice}."
        )


def _step(folder: Path, slices: Sequence[Slice], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector from slice to slice in LPS mm, which must be the same between all of them.

    Raises:
        UserError: slices with the same position, a gap, or steps that are not along the normal.
    """
    steps = np.diff([entry.position for entry in slices], axis=0)
    distances = steps @ normal
    if (same := np.flatnonzero(distances < SAME_POSITION)).size:
        first = int(same[0])
        raise UserError(
            f"{folder} holds two slices with one position, {slices[first].name} and {slices[first + 1].name}"
            f" ({same.size} such pairs): copies, or several time points; keep one of each."
        )
    usual = float(np.median(distances))
    uneven = np.flatnonzero(np.abs(distances - usual) > SAME_STEP * usual)
    if uneven.size and not _rounded(slices, normal):
        first = int(uneven[np.argmax(distances[uneven])])
        raise UserError(
            f"{folder}: slices are {usual:g} mm apart, but {distances[first]:g} mm between {slices[first].name}"
            f" and {slices[first + 1].name} ({uneven.size} such gaps): slices are missing or unevenly spaced."
        )
    sideways = np.linalg.norm(steps - distances[:, None] * normal, axis=1) / usual
    # Rounding moves a step by up to its last digit, and not all steps together.
    whole = slices[-1].position - slices[0].position
    rounding = float(np.linalg.norm(np.min([entry.rounding for entry in slices], axis=0)))
    drift = float(np.linalg.norm(whole - (whole @ normal) * normal)) - rounding
    if sideways.max() > TILT + rounding / usual or drift > TILT * float(whole @ normal):
        degrees = np.degrees(np.arctan(np.median(sideways)))
        raise UserError(
            f"{folder}: each slice is shifted sideways from the one before it, by {degrees:.1f} degrees (a tilted"
            " gantry); correct the tilt by converting to NIfTI (dcm2niix does it)."
        )
    return normal * ((slices[-1].position - slices[0].position) @ normal / (len(slices) - 1))


def _rounded(slices: Sequence[Slice], normal: NDArray[np.float64]) -> bool:
    """Whether positions are those of an even grid, rounded to the digits that they are written with.

    Each is then at most half a last digit from the grid, in every direction. A step must have at least MOST_ROUNDED
    of these digits, so that a missing slice cannot pass for rounding.
    """
    places = np.array([entry.position for entry in slices]) @ normal
    # The coarsest digit that is written anywhere is the one that all were rounded to.
    half = 0.5 * float(np.min([entry.rounding for entry in slices], axis=0) @ np.abs(normal))
    numbers = np.arange(len(places))
    # The even grid from which the farthest position is nearest: the middle of the narrowest band about a line.
    steps = (places[:, None] - places) / np.where(np.eye(len(places)) == 1, np.inf, numbers[:, None] - numbers)
    candidates = np.unique(steps[np.triu_indices(len(places), 1)])
    bands = [np.ptp(places - step * numbers) / 2 for step in candidates]
    best = int(np.argmin(bands))
    return bool(bands[best] <= half * (1 + SAME_DIRECTION) and candidates[best] >= MOST_ROUNDED * 2 * half)
