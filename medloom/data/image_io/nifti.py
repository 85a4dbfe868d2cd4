"""Reading and writing NIfTI."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Affine, Header, Image, choose_frame
from medloom.data.image_io.geometry import stated_affine, stored_volume, turned_geometry, volume_image, volume_unit
from medloom.data.image_io.reading import MAX_VOXELS, explained_reading, require_sane_size

if TYPE_CHECKING:
    from nibabel import Nifti1Image

COMMENT = 6  # The NIfTI standard's extension code of plain text.
DESCRIPTION = "SYNTHETIC image, not of a patient"
DERIVED = "DERIVED: a resampled image of a patient"
EDITED = "SYNTHETIC edit of a patient's image, may contain its pixels"
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a volume (or one of a series) in RAS order, `(1, X, Y, Z)`, with the header's scale applied."""
    with explained_reading(path, "NIfTI"):
        opened, shape, frames, affine = _opened(path)
        chosen = choose_frame(path, frames, frame)
        stored = opened.dataobj[:, :, :, chosen] if len(opened.shape) > 3 else opened.dataobj
        values = np.asarray(stored, dtype=np.float32).reshape(shape)
    return volume_image(path, values, affine, opened.get_data_dtype(), unit, frame)


def nifti_header(path: Path, unit: str | None) -> Header:
    """The header of a NIfTI file, with size and spacing in RAS order."""
    with explained_reading(path, "NIfTI"):
        opened, shape, frames, stated_in_mm = _opened(path)
        size, spacing, affine = turned_geometry(shape, stated_in_mm, "RAS", path)
        stored = opened.get_data_dtype()
    stated = volume_unit(path, stored, unit)
    return Header("NIfTI", size, 1, stored.itemsize * 8, stated, frames, spacing, affine=affine)


def write_nifti(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write `.nii` or `.nii.gz`: int16 for HU, float32 otherwise; same affine, provenance in a comment extension."""
    import nibabel

    if len(image.pixels) != 1:
        raise UserError(f"{path}: NIfTI holds one channel, the image has {len(image.pixels)}; write a .png or .tif.")
    written = nibabel.Nifti1Image(stored_volume(image), stated_affine(image))
    written.header.set_xyzt_units("mm")
    written.set_sform(written.affine, code=1)
    written.set_qform(written.affine, code=1)
    written.header["descrip"] = _description(provenance).encode("ascii")
    text = json.dumps(dict(provenance)).encode("ascii")
    written.header.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT, text))
    with atomic_file(path) as temporary:
        nibabel.save(written, temporary)


def _description(provenance: Mapping[str, str]) -> str:
    """What the header says of the image."""
    if "SYNTHETIC" not in provenance:
        return DERIVED
    return EDITED if "DERIVED" in provenance else DESCRIPTION


def nifti_provenance(path: Path) -> dict[str, str]:
    """The provenance that `write_nifti` wrote; otherwise empty."""
    import nibabel

    with explained_reading(path, "NIfTI"):
        header = nibabel.load(path).header
        comments = [entry.get_content() for entry in header.extensions if entry.get_code() == COMMENT]
        synthetic = bytes(header["descrip"]).startswith(b"SYNTHETIC")
        if not synthetic or not comments:
            return {}
        text = comments[0] if isinstance(comments[0], str) else bytes(comments[0]).decode("utf-8")
        return dict(json.loads(text.rstrip("\x00 ")))


def _opened(path: Path) -> "tuple[Nifti1Image, tuple[int, int, int], int, Affine]":
    """The file without its values, the shape of a volume, the number of volumes, and the affine to RAS mm."""
    import nibabel

    opened = nibabel.load(path)
    if opened.get_data_dtype().kind not in "iufb":
        raise UserError(f"{path} holds {opened.get_data_dtype()} values; only volumes of real numbers can be read.")
    shape = tuple(int(axis) for axis in opened.shape)
    if len(shape) > 4 and max(shape[4:]) > 1:
        raise UserError(
            f"{path} has {len(shape)} axes {shape}; only volumes and series of volumes (4 axes) can be read."
        )
    rows, columns, slices, frames = (*shape[:4], 1, 1, 1)[:4]
    require_sane_size(path, (rows, columns, slices), MAX_VOXELS)
    require_sane_size(path, (frames,))
    scale = MM_PER_UNIT[opened.header.get_xyzt_units()[0]]
    affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(opened.affine, dtype=np.float64)
    return opened, (rows, columns, slices), frames, affine
