"""An image in memory, and the header of an image file."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.spec import COLOUR, GREY

FloatArray = NDArray[np.float32]
Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Image:
    """One image with the values, the unit and the geometry of its file.

    Attributes:
        pixels: float32 `(C, *spatial)` in `unit`; C is 1, or 3 in colour; two axes are rows and columns, three are
            R, A, S, or those of the file where it states no orientation.
        unit: one of `medloom.core.spec.UNITS`.
        full_scale: 255 or 65535, the largest level of grey and colour levels; nan for other units.
        spacing: mm of each spatial axis, or None if the file does not state it.
        affine: float64 `(4, 4)`, array index of the spatial axes (row, column, 0 in 2-D) to RAS+ mm, or None.
        padding: bool `(*spatial)`, True where the file marks pixels without data, or None.
        modality: the modality in the file (DICOM), or None.
        frame: the frame read from a multi-frame file, or None.
        stored_axes: axis codes of a volume in its file ("LPS"), before reorientation to RAS, or None.
        directions: of a 2-D image, where its rows and its columns lead in the patient, as DICOM's Patient Orientation
            states it (("L", "F"): to the left, to the feet), or None.
        unoriented: of a volume, whether its file does not state how its axes lie in the patient.
        partial: of a label map, whether it may cover only a part of its image's grid, with background elsewhere.
        frame_of_reference: UID of the coordinates of a DICOM image, or None.
        left_aside: of a folder of slices, the files in it that are none, each with the reason.
        window: the lowest and the highest value that the file states for showing it (DICOM), or None.
        series: of an image that is written, its study, its series and its number there, by any names; or None.
    """

    pixels: FloatArray
    unit: str
    full_scale: float = math.nan
    spacing: tuple[float, ...] | None = None
    affine: Affine | None = None
    padding: NDArray[np.bool_] | None = None
    modality: str | None = None
    frame: int | None = None
    stored_axes: str | None = None
    directions: tuple[str, ...] | None = None
    unoriented: bool = False
    partial: bool = False
    frame_of_reference: str | None = None
    left_aside: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    series: tuple[str, str, int] | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels of each spatial axis."""
        return self.pixels.shape[1:]


@dataclass(frozen=True)
class Header:
    """The header of an image file, read without decoding pixels.

    Attributes:
        kind: PNG, JPEG, TIFF, DICOM, DICOM series, NIfTI, MetaImage or NRRD.
        size: pixels of each spatial axis, as from `read_image`.
        channels: 1 or 3.
        bits: of one stored value.
        unit: one of `medloom.core.spec.UNITS`.
        frames: number of images in the file.
        spacing: mm of each spatial axis, or None.
        modality: the modality in the file (DICOM), or None.
        affine: as in `Image`, or None.
        directions: as in `Image`, or None.
        stored_axes: as in `Image`, of a file whose axes are those of an array (not of a DICOM series), or None.
        unoriented: as in `Image`.
        left_aside: as in `Image`.
        frame_of_reference: as in `Image`.
    """

    kind: str
    size: tuple[int, ...]
    channels: int
    bits: int
    unit: str
    frames: int
    spacing: tuple[float, ...] | None = None
    modality: str | None = None
    affine: Affine | None = field(default=None, compare=False)
    directions: tuple[str, ...] | None = None
    stored_axes: str | None = None
    unoriented: bool = False
    left_aside: tuple[str, ...] = ()
    frame_of_reference: str | None = field(default=None, compare=False)

    @property
    def full_scale(self) -> float:
        """The `full_scale` of the image: 255 or 65535 for levels, nan for other units."""
        return full_scale_of(self.bits) if self.unit in (GREY, COLOUR) else math.nan


def full_scale_of(bits: int) -> float:
    """The largest level of values with this many bits after scaling: 255 up to 8 bits, else 65535."""
    return 255.0 if bits <= 8 else 65535.0


def channel_first(pixels: NDArray[np.generic]) -> FloatArray:
    """`(rows, columns)` or `(rows, columns, C)` of any dtype as float32 `(C, rows, columns)`."""
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(planes, dtype=np.float32)


def choose_frame(path: object, frames: int, frame: int | None) -> int:
    """The frame to read.

    Raises:
        UserError: several frames and none is named, or no such frame.
    """
    if frame is None and frames > 1:
        raise UserError(
            f"{path} holds {frames} frames; name one, 0 to {frames - 1}: in the table's column frame, by --frame, or"
            " after the path, as in file.dcm#0."
        )
    if frame is not None and not 0 <= frame < frames:
        raise UserError(f"{path} has no frame {frame}: it holds {frames}; name one, 0 to {frames - 1}.")
    return frame or 0
