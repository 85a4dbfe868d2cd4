"""Reading DICOM: one frame in the values of the modality, with padding and geometry."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, Header, Image, channel_first, choose_frame
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE
from medloom.data.image_io.dicom_dataset import PIXEL_KEYWORDS, open_dataset, present
from medloom.data.image_io.geometry import LPS_RAS
from medloom.data.image_io.reading import explained_reading, require_sane_size

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
INVERTED = "MONOCHROME1"
GREYS = (INVERTED, "MONOCHROME2")
COLOURS = (
    "RGB",
    "PALETTE COLOR",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
    "YBR_PARTIAL_420",
    "YBR_PARTIAL_422",
)


def read_dicom(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read one frame: rescaled or mapped by the modality LUT, larger is brighter, palettes and YBR as RGB."""
    with explained_reading(path, "DICOM"):
        data = open_with_pixels(path)
        chosen = choose_frame(path, _header_of(data).frames, frame)
    return read_frame(path, data, chosen, frame)


def open_with_pixels(path: Path) -> "Dataset":
    """The data set of a file that holds an image.

    Raises:
        UserError: it holds none, or no pixels.
    """
    data = open_dataset(path, pixels=True)
    _require_image(path, data)
    if not any(keyword in data for keyword in PIXEL_KEYWORDS):
        raise UserError(f"{path} is cut short or only a header: it holds no pixel data; copy it again.")
    return data


def read_frame(path: Path, data: "Dataset", chosen: int, frame: int | None) -> Image:
    """One frame of an open data set; `frame` is the one that was asked for, if any."""
    from pydicom import uid

    from medloom.data.image_io import dicom_jpeg

    with explained_reading(path, "DICOM"):
        header = _header_of(data)
        # A fixed decoder: others that happen to be installed may round differently.
        syntax = data.file_meta.get("TransferSyntaxUID")
        plugin = (
            dicom_jpeg.PLUGIN if syntax in dicom_jpeg.DECODERS else "pillow" if syntax == uid.JPEGBaseline8Bit else ""
        )
        stored = _stored_values(path, data, chosen, plugin)
        image_unit, spacing = _unit(data, chosen), _spacing(data, chosen)
        values: NDArray[np.generic]
        if image_unit == COLOUR:
            if data.PhotometricInterpretation == "PALETTE COLOR":
                from pydicom.pixels import apply_color_lut

                stored = apply_color_lut(stored, data)[..., :3]
            values = stored.astype(np.float32) * np.float32(header.full_scale / (2**header.bits - 1))
        else:
            values = _modality_values(data, chosen, stored)
        return Image(
            channel_first(values),
            image_unit,
            header.full_scale,
            spacing,
            _affine(data, chosen, spacing),
            None if image_unit == COLOUR else _padding(data, stored),
            str(data.get("Modality", "")) or None,
            frame,
            directions=_directions(data),
            window=None if image_unit == COLOUR else _window(data, chosen),
        )


def dicom_header(path: Path, unit: str | None) -> Header:
    """The header of a DICOM file, with the unit and spacing of its first frame."""
    with explained_reading(path, "DICOM"):
        data = open_dataset(path, pixels=False)
        _require_image(path, data)
        return _header_of(data)


@dataclass(frozen=True, eq=False)
class Slice:
    """The position of one image of a DICOM file, read without decoding pixels.

    Attributes:
        path: the file.
        frame: the image's number in it, from 0.
        series: UID of its series.
        header: size, unit, pixel spacing.
        spacing: mm between rows and between columns.
        cosines: float64 `(2, 3)`, the directions along a row and along a column, in LPS.
        position: float64 `(3,)`, LPS mm of its first pixel.
        rounding: float64 `(3,)`, mm of the last digit to which the position is written.
    """

    path: Path
    frame: int
    series: str
    header: Header
    spacing: tuple[float, ...]
    cosines: NDArray[np.float64]
    position: NDArray[np.float64]
    rounding: NDArray[np.float64]

    @property
    def name(self) -> str:
        """How messages name it: by the file, and by the frame where the file has several."""
        return self.path.name if self.header.frames == 1 else f"{self.path.name}#{self.frame}"


def read_slice_position(path: Path) -> Slice | str:
    """The position of the single image of a DICOM file, or what it holds if no image: a report, a segmentation.

    Raises:
        UserError: no DICOM, a damaged image, several frames, or no position, orientation or pixel spacing.
    """
    with explained_reading(path, "DICOM"):
        data = open_dataset(path, pixels=False)
        kind = data.get("SOPClassUID")
        if kind is not None and ("Rows" not in data or kind in SEGMENTATIONS):
            return str(kind.name)
        _require_image(path, data)
        frames = _header_of(data).frames
    if frames > 1:
        raise UserError(
            f"{path} holds {frames} frames, but a series has one per file; name the file itself, with #all for one"
            " volume of its frames."
        )
    return frame_position(path, data, 0)


def frame_position(path: Path, data: "Dataset", frame: int) -> Slice:
    """The position of a frame of an open data set.

    Raises:
        UserError: no position, orientation or pixel spacing.
    """
    with explained_reading(path, "DICOM"):
        header = replace(_header_of(data), unit=_unit(data, frame), spacing=_spacing(data, frame))
        cosines = _frame_item(data, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
        position = _frame_item(data, frame, "PlanePositionSequence").get("ImagePositionPatient")
    if not cosines or not position or header.spacing is None:
        raise UserError(f"{path} does not state the position of its slice (position, orientation, pixel spacing).")
    return Slice(
        path,
        frame,
        str(data.get("SeriesInstanceUID", "")),
        header,
        header.spacing,
        np.asarray(cosines, dtype=np.float64).reshape(2, 3),
        np.asarray(position, dtype=np.float64),
        np.array([_last_digit(value) for value in position]),
    )


def _last_digit(value: object) -> float:
    """What one step of the last digit is worth that a number in a file has: 0.1 of 0.60, 0.001 of 1.2e-2."""
    digits = Decimal(str(getattr(value, "original_string", value)).strip()).normalize().as_tuple()
    return float(10.0 ** int(digits.exponent))


def _header_of(data: "Dataset") -> Header:
    unit, spacing = _unit(data, 0), _spacing(data, 0)
    bits = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        bits = int(data.RedPaletteColorLookupTableDescriptor[2])
    return Header(
        "DICOM",
        (int(data.Rows), int(data.Columns)),
        3 if unit == COLOUR else 1,
        bits,
        unit,
        int(data.get("NumberOfFrames") or 1),
        spacing,
        str(data.get("Modality", "")) or None,
        _affine(data, 0, spacing),
        _directions(data),
        frame_of_reference=str(data.get("FrameOfReferenceUID") or "") or None,
    )


def _require_image(path: Path, data: "Dataset") -> None:
    if "Rows" not in data or "Columns" not in data or "PhotometricInterpretation" not in data:
        if "SOPClassUID" not in data:
            raise UserError(f"{path} is cut short: it has neither a class nor an image; copy it again.")
        raise UserError(f"{path} holds no image (it is {data.SOPClassUID.name}); leave it out.")
    require_sane_size(path, (int(data.Rows), int(data.Columns)))
    if data.PhotometricInterpretation not in (*GREYS, *COLOURS):
        raise UserError(
            f"{path} stores colours as {data.PhotometricInterpretation}; known: {', '.join((*GREYS, *COLOURS))}."
        )


def _frame_item(data: "Dataset", frame: int, sequence: str) -> "Dataset":
    """The data set with a frame's attributes: its own functional group, the shared one, or the whole file."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*per_frame[frame : frame + 1], *(data.get("SharedFunctionalGroupsSequence") or [])]
    for group in groups:
        if group.get(sequence):
            return present(group[sequence].value[0])
    return data


def _unit(data: "Dataset", frame: int) -> str:
    if data.PhotometricInterpretation in COLOURS:
        return COLOUR
    item = _frame_item(data, frame, "PixelValueTransformationSequence")
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    if (
        str(data.get("Modality") or "").upper() == "CT"
        and slope is not None
        and str(item.get("RescaleType") or "HU").upper() in ("HU", "HU_MOD")
    ):
        return HU
    unchanged = float(slope or 1) == 1 and float(intercept or 0) == 0 and not item.get("ModalityLUTSequence")
    levels = data.BitsStored == 8 and data.PixelRepresentation == 0
    return GREY if unchanged and levels else RELATIVE


def _stored_values(path: Path, data: "Dataset", frame: int, plugin: str) -> NDArray[np.generic]:
    """A frame's values as they are stored, of the bits that count: old files have them at the upper end of a word."""
    import pydicom

    bits, unused = int(data.BitsStored), int(data.HighBit) + 1 - int(data.BitsStored)
    if unused < 0 or data.HighBit >= data.BitsAllocated or (unused and data.file_meta.TransferSyntaxUID.is_compressed):
        raise UserError(
            f"{path} states {bits} bits of {data.BitsAllocated} with high bit {data.HighBit}, which do not agree;"
            " correct its header, or leave it out."
        )
    # Bits above the high one hold overlays, and are cleared by the decoder; those below the lowest hold nothing.
    data.BitsStored = bits + unused
    stored = pydicom.pixels.pixel_array(data, index=frame, decoding_plugin=plugin)
    data.BitsStored = bits
    return np.asarray(np.right_shift(stored, unused) if unused else stored)


def _modality_values(data: "Dataset", frame: int, stored: NDArray[np.generic]) -> NDArray[np.generic]:
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(stored, _frame_item(data, frame, "PixelValueTransformationSequence"))
    inverted_about = _inverted_about(data, frame)
    return np.asarray(values if inverted_about is None else inverted_about - np.asarray(values, dtype=np.float64))


def _inverted_about(data: "Dataset", frame: int) -> float | None:
    """What values are taken from where less is brighter in the file: the ends of the storable range together.

    Not the ends of the image's own range, so that images of a set stay comparable.
    """
    from pydicom.pixels import apply_modality_lut

    if data.PhotometricInterpretation != INVERTED or _unit(data, frame) == HU:
        return None
    bits, signed = int(data.BitsStored), data.PixelRepresentation == 1
    lowest = -(2 ** (bits - 1)) if signed else 0
    ends = np.asarray((lowest, lowest + 2**bits - 1), np.int32 if signed else np.uint32)
    item = _frame_item(data, frame, "PixelValueTransformationSequence")
    return float(np.asarray(apply_modality_lut(ends, item), np.float64).sum())


def _window(data: "Dataset", frame: int) -> tuple[float, float] | None:
    """The first window that the file states, in the values of the image."""
    item = _frame_item(data, frame, "FrameVOILUTSequence")
    stated = [item.get(name) for name in ("WindowCenter", "WindowWidth")]
    if any(each is None or not np.size(each) for each in stated):
        return None
    centre, width = (float(np.atleast_1d(each)[0]) for each in stated)
    if not width > 0 or not math.isfinite(centre + width):
        return None
    low, high = centre - width / 2, centre + width / 2
    about = _inverted_about(data, frame)
    return (low, high) if about is None else (about - high, about - low)


def _padding(data: "Dataset", stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    if "PixelPaddingValue" not in data:
        return None
    # Writers often give the padding of signed pixels as if it were unsigned.
    bits, signed = int(data.BitsAllocated), data.PixelRepresentation == 1
    stated = (data.PixelPaddingValue, data.get("PixelPaddingRangeLimit", data.PixelPaddingValue))
    ends = [int(end) - 2**bits if signed and int(end) >= 2 ** (bits - 1) else int(end) for end in stated]
    mask = np.greater_equal(stored, min(ends)) & np.less_equal(stored, max(ends))
    return mask if mask.any() else None


def _spacing(data: "Dataset", frame: int) -> tuple[float, ...] | None:
    item = _frame_item(data, frame, "PixelMeasuresSequence")
    stated: Sequence[float] | None = item.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    if not stated or len(stated) != 2:
        return None
    rows, columns = (float(value) for value in stated)
    return (rows, columns) if rows > 0 and columns > 0 and math.isfinite(rows * columns) else None


def _directions(data: "Dataset") -> tuple[str, ...] | None:
    """Where rows and columns lead in the patient, as stated of projections; None where it is not."""
    stated = data.get("PatientOrientation")
    return tuple(map(str, stated)) if stated and len(stated) == 2 and all(stated) else None


def _affine(data: "Dataset", frame: int, spacing: tuple[float, ...] | None) -> Affine | None:
    """From (row, column, 0) to RAS mm (DICOM PS3.3, equation C.7.6.2.1-1); the third column is the slice's normal."""
    cosines = _frame_item(data, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    position = _frame_item(data, frame, "PlanePositionSequence").get("ImagePositionPatient")
    if spacing is None or not cosines or not position:
        return None
    along_columns, along_rows = np.asarray(cosines[:3], dtype=np.float64), np.asarray(cosines[3:], dtype=np.float64)
    measures = _frame_item(data, frame, "PixelMeasuresSequence")
    affine = np.eye(4)
    affine[:3, 0] = along_rows * spacing[0]
    affine[:3, 1] = along_columns * spacing[1]
    affine[:3, 2] = np.cross(along_columns, along_rows) * float(measures.get("SliceThickness") or 1.0)
    affine[:3, 3] = [float(value) for value in position]
    return LPS_RAS @ affine
