"""Reading and writing NIfTI."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Header, Image, choose_frame
from medloom.data.image_io.geometry import StoredVolumes, stated_affine, stored_volume, volume_header, volume_image
from medloom.data.image_io.reading import MAX_VOXELS, explained_reading, require_sane_size

if TYPE_CHECKING:
    from nibabel import Nifti1Image

COMMENT = 6  # The NIfTI standard's extension code of plain text.
DESCRIPTION = "SYNTHETIC image, not of a patient"
DERIVED = "DERIVED: a resampled image of a patient"
EDITED = "SYNTHETIC edit of a patient's image, may contain its pixels"
# By the NIfTI standard's codes of spatial units; unknown ones are mm, as ITK has it.
UNIT_BITS = 0x07
MM_PER_UNIT = {1: 1000.0, 3: 0.001}


def read_nifti(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a volume (or one of a series) in RAS order, `(1, X, Y, Z)`, with the header's scale applied."""
    with explained_reading(path, "NIfTI"):
        opened, volumes = _opened(path)
        chosen = choose_frame(path, volumes.frames, frame)
        stored = opened.dataobj[:, :, :, chosen] if len(opened.shape) > 3 else opened.dataobj
        values = np.asarray(stored, dtype=np.float32).reshape(volumes.shape)
    return volume_image(path, values, volumes, opened.get_data_dtype(), unit, frame)


def nifti_header(path: Path, unit: str | None) -> Header:
    """The header of a NIfTI file, with size and spacing in RAS order."""
    with explained_reading(path, "NIfTI"):
        opened, volumes = _opened(path)
        return volume_header("NIfTI", path, volumes, opened.get_data_dtype(), unit)


def write_nifti(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write `.nii` or `.nii.gz`: int16 for HU, float32 otherwise; provenance in a comment extension.

    The geometry is the image's; of one without orientation both codes are 0.
    """
    import nibabel

    if len(image.pixels) != 1:
        raise UserError(f"{path}: NIfTI holds one channel, the image has {len(image.pixels)}; write a .png or .tif.")
    written = nibabel.Nifti1Image(stored_volume(image), stated_affine(image))
    written.header.set_xyzt_units("mm")
    written.set_sform(written.affine, code=0 if image.unoriented else 1)
    written.set_qform(written.affine, code=0 if image.unoriented else 1)
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


def _opened(path: Path) -> "tuple[Nifti1Image, StoredVolumes]":
    """The file without its values, and what its header says."""
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
    units = int(opened.header["xyzt_units"]) & UNIT_BITS if "xyzt_units" in opened.header else 0
    scale = MM_PER_UNIT.get(units, 1.0)
    affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(opened.affine, dtype=np.float64)
    # With both codes 0, and in an Analyze header, the file states no orientation, and nibabel's affine is a guess.
    codes = [int(opened.header[name]) for name in ("qform_code", "sform_code") if name in opened.header]
    return opened, StoredVolumes((rows, columns, slices), frames, affine, any(code > 0 for code in codes))
