"""Reading and writing images: PNG, JPEG, TIFF, DICOM (files and series), NIfTI, MetaImage and NRRD.

What a file says is kept: values in their own unit, mm, orientation, and where there are no data.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medloom.core.errors import UserError
from medloom.core.image import Affine, Header, Image
from medloom.data.image_io import dicom, dicom_series, dicom_write, itk, nifti, raster, raster_write, tiff
from medloom.data.image_io.reading import require_file

__all__ = [
    "READERS",
    "WRITERS",
    "Affine",
    "Header",
    "Image",
    "check_pixels",
    "read_header",
    "read_image",
    "read_provenance",
    "write_derived",
    "write_image",
]


class Reader(NamedTuple):
    """How files of one format are read.

    Attributes:
        image: (path, frame, unit) to Image.
        header: (path, unit) to Header, pixels not decoded.
        states_unit: whether the format says what its values are, so that a caller cannot.
    """

    image: Callable[[Path, int | None, str | None], Image]
    header: Callable[[Path, str | None], Header]
    states_unit: bool = True


class Writer(NamedTuple):
    """How files of one format are written, and how their provenance is read back.

    Attributes:
        image: writes (path, image, provenance); the file appears whole or not at all.
        provenance: path to what was written with the image, empty where the file does not say that it is synthetic.
    """

    image: Callable[[Path, Image, Mapping[str, str]], None]
    provenance: Callable[[Path], dict[str, str]]


_PNG = Reader(raster.read_png, raster.png_header)
_JPEG = Reader(raster.read_jpeg, raster.jpeg_header)
_TIFF = Reader(tiff.read_tiff, tiff.tiff_header)
_DICOM = Reader(dicom.read_dicom, dicom.dicom_header)
# A folder is read as one DICOM series.
_SERIES = Reader(dicom_series.read_series, dicom_series.series_header)
_NIFTI = Reader(nifti.read_nifti, nifti.nifti_header, states_unit=False)
_ITK = Reader(itk.read_itk, itk.itk_header, states_unit=False)

DERIVED_FORMATS = (".png", ".tiff", ".dcm", ".nii.gz")
READERS: dict[str, Reader] = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".dcm": _DICOM,
    ".dicom": _DICOM,
    ".ima": _DICOM,
    ".nii": _NIFTI,
    ".nii.gz": _NIFTI,
    ".mha": _ITK,
    ".mhd": _ITK,
    ".nrrd": _ITK,
}

WRITERS: dict[str, Writer] = {
    ".png": Writer(raster_write.write_png, raster_write.png_provenance),
    ".tif": Writer(raster_write.write_tiff, raster_write.tiff_provenance),
    ".tiff": Writer(raster_write.write_tiff, raster_write.tiff_provenance),
    ".dcm": Writer(dicom_write.write_dicom, dicom_write.dicom_provenance),
    ".nii": Writer(nifti.write_nifti, nifti.nifti_provenance),
    ".nii.gz": Writer(nifti.write_nifti, nifti.nifti_provenance),
    ".mha": Writer(itk.write_itk, itk.itk_provenance),
    ".mhd": Writer(itk.write_mhd, itk.itk_provenance),
    ".nrrd": Writer(itk.write_itk, itk.itk_provenance),
}


def read_image(path: Path, frame: int | None = None, unit: str | None = None) -> Image:
    """Read one image.

    Args:
        path: a file of a format in READERS; a file of any other name is read as DICOM if it starts like one; a folder
            is read as one DICOM series.
        frame: which image of a file that holds several, from 0.
        unit: what the values of a NIfTI, MetaImage or NRRD file are ("HU", say), which such files do not state.

    Returns:
        The image in the file's values; volumes in RAS order.

    Raises:
        UserError: missing, damaged, cut short, of an unknown format, of several frames and none named, or a folder that
            is not one whole series.
    """
    path = Path(path)
    return _reader(path, unit).image(path, frame, unit)


def read_header(path: Path, unit: str | None = None) -> Header:
    """Read what a file says of its image, without decoding pixels; `unit` as in `read_image`.

    Raises:
        UserError: missing, damaged or of an unknown format.
    """
    path = Path(path)
    return _reader(path, unit).header(path, unit)


def check_pixels(image: Image, path: Path) -> None:
    """Refuse an image from which nothing can be learnt.

    Raises:
        UserError: a value is not finite, or all values are equal (padding left out).
    """
    if not np.isfinite(image.pixels).all():
        count = int((~np.isfinite(image.pixels)).sum())
        raise UserError(
            f"{path} holds {count} values that are not finite (NaN or infinite); repair it or remove its row."
        )
    values = image.pixels if image.padding is None else image.pixels[:, ~image.padding]
    if values.size == 0 or values.min() == values.max():
        what = f"every pixel is {values.flat[0]:g}" if values.size else "every pixel is padding"
        raise UserError(f"{path} is constant ({what}); remove its row.")


def write_image(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write one synthetic image by the ending of its name; a reader sees the whole file or none.

    Args:
        path: a name that ends in one of WRITERS.
        image: `(C, *spatial)` in its unit. HU are written as DICOM, NIfTI, MetaImage and NRRD; relative values from
            0 to 1 become levels in PNG and DICOM. Where an image has no affine, axes R, A, S in 3-D and an
            axial slice in 2-D are declared, at its spacing or at 1 mm.
        provenance: model, seed and so on; `SYNTHETIC` = "YES" is put before it.

    Raises:
        UserError: a format that is not written or cannot hold the image.
    """
    path = Path(path)
    WRITERS[_suffix(path, WRITERS, "written")].image(path, image, {"SYNTHETIC": "YES", **provenance})


def write_derived(path: Path, image: Image, origin: str) -> None:
    """Write a patient's own image that was resampled; it does not say SYNTHETIC, and names nobody.

    Args:
        path: a name that ends in one of DERIVED_FORMATS.
        image: as for `write_image`.
        origin: how it was derived, in a few words.

    Raises:
        UserError: a format that is not written so, or cannot hold the image.
    """
    path = Path(path)
    formats = {suffix: WRITERS[suffix] for suffix in DERIVED_FORMATS}
    formats[_suffix(path, formats, "written for derived images")].image(path, image, {"DERIVED": origin})


def read_provenance(path: Path) -> dict[str, str]:
    """What `write_image` wrote beside the pixels, first `SYNTHETIC`; empty for a file that it did not write.

    Raises:
        UserError: missing, damaged, or of a format that is not written.
    """
    path = Path(path)
    require_file(path)
    return WRITERS[_suffix(path, WRITERS, "written")].provenance(path)


def states_unit(path: Path) -> bool:
    """Whether a file's format says what its values are; NIfTI, MetaImage and NRRD do not.

    Raises:
        UserError: missing, or of an unknown format.
    """
    return _reader(Path(path), None).states_unit


def _reader(path: Path, unit: str | None) -> Reader:
    reader = _SERIES if path.is_dir() else _file_reader(path)
    if unit is not None and reader.states_unit:
        raise UserError(
            f"{path} states its own unit; unit {unit!r} can be given for NIfTI, MetaImage and NRRD files only."
        )
    return reader


def _file_reader(path: Path) -> Reader:
    require_file(path)
    if not _known(path, READERS) and dicom.has_dicom_magic(path):
        return _DICOM
    return READERS[_suffix(path, READERS, "read")]


def _known(path: Path, table: Mapping[str, object]) -> list[str]:
    return [suffix for suffix in table if path.name.lower().endswith(suffix)]


def _suffix(path: Path, table: Mapping[str, object], done: str) -> str:
    known = _known(path, table)
    if not known:
        raise UserError(f"{path} is not of a format that is {done}; allowed endings: {', '.join(table)}.")
    return max(known, key=len)
