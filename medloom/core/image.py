"""What is read from an image file and what is known of it before its pixels are read."""

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
    """One image in the values that its file states, with its geometry.

    Attributes:
        pixels: float32 `(C, *spatial)` in `unit`; C is 1, or 3 in colour; two axes are rows and columns, three are
            R, A, S.
        unit: one of `medloom.core.spec.UNITS`.
        full_scale: 255 or 65535, the largest level of grey and colour levels; nan for other units.
        spacing: mm of each spatial axis, or None where the file does not say.
        affine: float64 `(4, 4)`, array index of the spatial axes (row, column, 0 in 2-D) to RAS+ mm, or None.
        padding: bool `(*spatial)`, True where the file says that there are no data, or None.
        modality: the modality that the file names (DICOM), or None.
        frame: the frame that was read of a file of several, or None.
        stored_axes: axis codes of a volume's file ("LPS"), before it was brought to RAS order, or None.
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

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels of each spatial axis."""
        return self.pixels.shape[1:]


@dataclass(frozen=True)
class Header:
    """What a file says of its image, read without decoding pixels.

    Attributes:
        kind: PNG, JPEG, TIFF, DICOM, DICOM series, NIfTI, MetaImage or NRRD.
        size: pixels of each spatial axis, as `read_image` would give them.
        channels: 1 or 3.
        bits: bits of one stored value.
        unit: one of `medloom.core.spec.UNITS`.
        frames: images in the file.
        spacing: mm of each spatial axis, or None.
        modality: the modality that the file names (DICOM), or None.
        affine: as that of the image, or None.
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

    @property
    def full_scale(self) -> float:
        """The `full_scale` of the image: 255 or 65535 for levels, nan for other units."""
        return full_scale_of(self.bits) if self.unit in (GREY, COLOUR) else math.nan


def full_scale_of(bits: int) -> float:
    """The largest level that values of so many bits are brought to: 255 up to 8 bits, else 65535."""
    return 255.0 if bits <= 8 else 65535.0


def channel_first(pixels: NDArray[np.generic]) -> FloatArray:
    """`(rows, columns)` or `(rows, columns, C)` of any dtype as float32 `(C, rows, columns)`."""
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(planes, dtype=np.float32)


def choose_frame(path: object, frames: int, frame: int | None) -> int:
    """The frame to read.

    Raises:
        UserError: the file holds several and none is named, or it does not hold the one that is named.
    """
    if frame is None and frames > 1:
        raise UserError(f"{path} holds {frames} frames; name one, 0 to {frames - 1}.")
    if frame is not None and not 0 <= frame < frames:
        raise UserError(f"{path} has no frame {frame}: it holds {frames}; name one, 0 to {frames - 1}.")
    return frame or 0
