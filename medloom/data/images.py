"""Reading and writing images: PNG, JPEG, TIFF, DICOM (files and series), NIfTI, MetaImage and NRRD.

Everything that a file states is preserved: values in their unit, mm, orientation, and padding.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medloom.core.errors import UserError
from medloom.core.frames import ALL, file_of, split_frame
from medloom.core.image import Header, Image, choose_frame
from medloom.data.image_io import dicom, dicom_series, dicom_series_write, dicom_write, itk, nifti, raster, tiff
from medloom.data.image_io.content import content_of, is_dicom
from medloom.data.image_io.reading import require_file


class Reader(NamedTuple):
    """Reads files of one format.

    Attributes:
        image: maps (path, frame, unit) to an Image.
        header: maps (path, unit) to a Header, without decoding pixels.
        states_unit: whether the format states the unit of its values, so that a caller must not.
    """

    image: Callable[[Path, int | None, str | None], Image]
    header: Callable[[Path, str | None], Header]
    states_unit: bool = True


class Writer(NamedTuple):
    """Writes files of one format, and reads their provenance back.

    Attributes:
        image: writes (path, image, provenance) atomically.
        provenance: maps a path to its provenance; empty if the file is not marked as synthetic.
    """

    image: Callable[[Path, Image, Mapping[str, str]], None]
    provenance: Callable[[Path], dict[str, str]]


_PNG = Reader(raster.read_png, raster.png_header)
_JPEG = Reader(raster.read_jpeg, raster.jpeg_header)
_TIFF = Reader(tiff.read_tiff, tiff.tiff_header)
_DICOM = Reader(dicom.read_dicom, dicom.dicom_header)
# All frames of one file.
_FRAMES = Reader(dicom_series.read_frames, dicom_series.frames_header)
# A folder is read as one DICOM series.
_SERIES = Reader(dicom_series.read_series, dicom_series.series_header)
_NIFTI = Reader(nifti.read_nifti, nifti.nifti_header, states_unit=False)
_ITK = Reader(itk.read_itk, itk.itk_header, states_unit=False)

# Threads that read files, and the bytes from which a file is worth one: decoding releases the interpreter's lock, all
# else does not. Slices of 9 kB are read twice as fast by one thread as by four.
READERS_AT_ONCE, LARGE = 4, 100_000

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
    ".hdr": _NIFTI,
    ".img": _NIFTI,
    ".mha": _ITK,
    ".mhd": _ITK,
    ".nrrd": _ITK,
    ".nhdr": _ITK,
}

WRITERS: dict[str, Writer] = {
    ".png": Writer(raster.write_png, raster.png_provenance),
    ".tif": Writer(raster.write_tiff, raster.tiff_provenance),
    ".tiff": Writer(raster.write_tiff, raster.tiff_provenance),
    ".dcm": Writer(dicom_write.write_dicom, dicom_write.dicom_provenance),
    ".nii": Writer(nifti.write_nifti, nifti.nifti_provenance),
    ".nii.gz": Writer(nifti.write_nifti, nifti.nifti_provenance),
    ".mha": Writer(itk.write_itk, itk.itk_provenance),
    ".mhd": Writer(itk.write_mhd, itk.itk_provenance),
    ".nrrd": Writer(itk.write_itk, itk.itk_provenance),
}


def readers_at_once(paths: Iterable[Path]) -> int:
    """How many threads read files fastest, judged by the first of them."""
    first = next(map(file_of, paths), None)
    large = first is not None and (first.is_dir() or (first.is_file() and first.stat().st_size >= LARGE))
    return READERS_AT_ONCE if large else 1


def read_image(path: Path | str, frame: int | str | None = None, unit: str | None = None) -> Image:
    """Read one image.

    Args:
        path: a file in a format of READERS; a file with another ending is read as DICOM if it starts like one; a folder
            is read as one DICOM series.
        frame: number of the image in a file with several, from 0, or `all` for one volume of all frames (enhanced CT
            and MR); a path can name it too, as `heart.dcm#3`.
        unit: unit of the values of a NIfTI, MetaImage or NRRD file (e.g. "HU"), which such files do not state.

    Returns:
        The image in the file's values; volumes in RAS order.

    Raises:
        UserError: missing, damaged, cut short, in an unknown format, with several frames and none named, or a folder
            that is not one complete series.

    Examples:
        >>> from medloom.data.images import read_image
        >>> image = read_image("scan.nii.gz", unit="HU")
        >>> image.pixels.shape, image.unit, image.spacing
        ((1, 6, 5, 4), 'HU', (1.0, 1.0, 2.5))
    """
    path, named = split_frame(path)
    chosen = named if frame is None else frame
    if chosen == ALL:
        return _volume(path, unit).image(path, None, unit)
    if isinstance(chosen, str):
        raise UserError(f"{path}: frame {chosen!r} is neither a number from 0 nor {ALL}.")
    return _reader(path, unit).image(path, chosen, unit)


def read_header(path: Path | str, unit: str | None = None) -> Header:
    """Read the description of a file's image without decoding pixels.

    Args:
        path: as in `read_image`.
        unit: as in `read_image`.

    Raises:
        UserError: missing, damaged or in an unknown format.

    Examples:
        >>> from medloom.data.images import read_header
        >>> header = read_header("scan.nii.gz", unit="HU")
        >>> header.kind, header.size, header.spacing
        ('NIfTI', (6, 5, 4), (1.0, 1.0, 2.5))
    """
    path, frame = split_frame(path)
    if frame == ALL:
        return _volume(path, unit).header(path, unit)
    header = _reader(path, unit).header(path, unit)
    if isinstance(frame, int):
        choose_frame(path, header.frames, frame)
    return header


def check_pixels(image: Image, path: Path) -> None:
    """Refuse an image that is useless for training.

    Raises:
        UserError: a value is not finite, or all values outside of padding are equal.
    """
    if not np.isfinite(image.pixels).all():
        count = int((~np.isfinite(image.pixels)).sum())
        raise UserError(
            f"{path} holds {count} values that are not finite (NaN or infinite); repair it or leave it out."
        )
    values = image.pixels if image.padding is None else image.pixels[:, ~image.padding]
    if values.size == 0 or values.min() == values.max():
        what = f"every pixel is {values.flat[0]:g}" if values.size else "every pixel is padding"
        raise UserError(f"{path} is constant ({what}); leave it out.")


def write_image(path: Path | str, image: Image, provenance: Mapping[str, str]) -> None:
    """Write one synthetic image atomically, in the format of its ending.

    Args:
        path: a name with an ending in WRITERS.
        image: `(C, *spatial)` in its unit. HU are written as DICOM, NIfTI, MetaImage and NRRD; relative values from
            0 to 1 become levels in PNG and DICOM. DICOM states the geometry that is known. The other formats need one:
            an image without an affine gets the axes R, A, S in 3-D, or an axial slice in 2-D, at its spacing or 1 mm.
        provenance: model, seed and so on; `SYNTHETIC` = "YES" is added in front.

    Raises:
        UserError: a format that cannot be written or cannot hold the image, or a value that is not finite.

    Examples:
        >>> import numpy as np
        >>> from medloom.core.image import Image
        >>> from medloom.data.images import read_provenance, write_image
        >>> image = Image(np.zeros((1, 8, 8, 8), np.float32), "HU")
        >>> write_image("flat.nii.gz", image, {"model": "mine"})
        >>> read_provenance("flat.nii.gz")
        {'SYNTHETIC': 'YES', 'model': 'mine'}
    """
    path = Path(path)
    _require_finite(path, image)
    WRITERS[_suffix(path, WRITERS, "written")].image(path, image, {"SYNTHETIC": "YES", **provenance})


def write_series(path: Path | str, image: Image, provenance: Mapping[str, str]) -> None:
    """Write one synthetic volume as a DICOM series, a folder with a file for each axial slice, atomically.

    Args:
        path: a new folder.
        image: `(1, *spatial)` with an affine. HU are rounded to whole ones; relative values from 0 to 1 become levels.
        provenance: as for `write_image`; every slice has it.

    Raises:
        UserError: what a series cannot hold (`require_series`), a value that is not finite, or a folder in use.

    Examples:
        >>> import numpy as np
        >>> from medloom.core.image import Image
        >>> from medloom.data.images import read_image, write_series
        >>> image = Image(np.zeros((1, 8, 8, 4), np.float32), "HU", affine=np.diag([1.0, 1.0, 2.5, 1.0]))
        >>> write_series("slices", image, {"model": "mine"})
        >>> back = read_image("slices")
        >>> back.size, back.unit, back.spacing
        ((8, 8, 4), 'HU', (1.0, 1.0, 2.5))
    """
    path = Path(path)
    _require_finite(path, image)
    dicom_series_write.write_dicom_series(path, image, {"SYNTHETIC": "YES", **provenance})


def require_series(path: Path | str, image: Image) -> None:
    """Refuse an image that `write_series` cannot write.

    Args:
        path: of the folder, for the message.
        image: the image.

    Raises:
        UserError: no volume of several slices with one value per voxel, no position or orientation, axes that are not
            at right angles, or values outside the range of their unit.
    """
    dicom_series_write.require_series(Path(path), image)


def write_derived(path: Path, image: Image, origin: str) -> None:
    """Write a resampled image of a patient; it is not marked SYNTHETIC and contains no patient data.

    Args:
        path: a name with an ending in DERIVED_FORMATS.
        image: as for `write_image`.
        origin: how it was derived, in a few words.

    Raises:
        UserError: a format that is not allowed or cannot hold the image, or a value that is not finite.
    """
    path = Path(path)
    _require_finite(path, image)
    formats = {suffix: WRITERS[suffix] for suffix in DERIVED_FORMATS}
    formats[_suffix(path, formats, "written for derived images")].image(path, image, {"DERIVED": origin})


def _require_finite(path: Path, image: Image) -> None:
    if not np.isfinite(image.pixels).all():
        raise UserError(
            f"{path} would hold values that are not finite (NaN or infinite): the model or the image that it was made"
            " from is broken; nothing is written."
        )


def read_provenance(path: Path) -> dict[str, str]:
    """The provenance that `write_image` wrote with the pixels, first `SYNTHETIC`; empty for other files.

    That of a folder is what `write_series` wrote, and empty if one of its slices has another or none.

    Raises:
        UserError: missing, damaged, or in a format that cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        return dicom_series_write.series_provenance(path)
    require_file(path)
    return WRITERS[_suffix(path, WRITERS, "written")].provenance(path)


def states_unit(path: Path) -> bool:
    """Whether a file's format states the unit of its values; NIfTI, MetaImage and NRRD do not.

    Raises:
        UserError: missing, or in an unknown format.
    """
    return _reader(file_of(path), None).states_unit


def _volume(path: Path, unit: str | None) -> Reader:
    """The reader of all frames of a file as one volume.

    Raises:
        UserError: the file is no DICOM.
    """
    if _reader(path, unit) is not _DICOM:
        raise UserError(f"{path}: all frames are one volume in DICOM files only; name a frame by its number.")
    return _FRAMES


def _reader(path: Path, unit: str | None) -> Reader:
    if path.is_dir():
        reader = _SERIES
    else:
        require_file(path)
        known = _endings(path, READERS)
        reader = _DICOM if not known and is_dicom(path) else READERS[_suffix(path, READERS, "read")]
    if unit is not None and reader.states_unit:
        raise UserError(
            f"{path} states its own unit; a unit ({unit!r}) can be given for NIfTI, MetaImage and NRRD files only."
        )
    return reader


def _endings(path: Path, table: Mapping[str, object]) -> list[str]:
    return [suffix for suffix in table if path.name.lower().endswith(suffix)]


def _suffix(path: Path, table: Mapping[str, object], done: str) -> str:
    if not (known := _endings(path, table)):
        content = content_of(path) if path.is_file() else None
        what = f"; by its first bytes it is {content}" if content else ""
        raise UserError(f"{path} is not in a format that can be {done}{what}; allowed endings: {', '.join(table)}.")
    return max(known, key=len)
