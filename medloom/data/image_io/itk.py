"""Reading and writing MetaImage (MHA, MHD) and NRRD; their LPS coordinates become RAS."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import atomic_file, temporary_folder
from medloom.core.image import Header, Image, choose_frame
from medloom.data.image_io.geometry import (
    LPS_RAS,
    StoredVolumes,
    has_right_angles,
    stated_affine,
    stored_volume,
    volume_header,
    volume_image,
    voxel_spacing,
)
from medloom.data.image_io.reading import MAX_VOXELS, explained_reading, require_sane_size

if TYPE_CHECKING:
    import SimpleITK

PROVENANCE = "provenance"
LONGEST_HEADER = 1 << 16
# Each of these states an orientation; a space without a name is LPS, as ITK has it.
ORIENTATION_FIELDS = ("space directions", "transformmatrix", "rotation", "orientation")


def read_itk(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a volume (or one of a series) in RAS order, `(1, X, Y, Z)`."""
    import SimpleITK

    kind = _kind(path)
    with explained_reading(path, kind):
        reader = _reader(path)
        volumes = _geometry(path, reader)
        chosen = choose_frame(path, volumes.frames, frame)
        stored = SimpleITK.GetArrayFromImage(reader.Execute())
        values = stored[chosen] if reader.GetDimension() == 4 else stored
        volume = values.T.reshape(volumes.shape).astype(np.float32)
    return volume_image(path, volume, volumes, values.dtype, unit, frame)


def itk_header(path: Path, unit: str | None) -> Header:
    """The header of a MetaImage or NRRD file, with size and spacing in RAS order."""
    import SimpleITK

    kind = _kind(path)
    with explained_reading(path, kind):
        reader = _reader(path)
        volumes = _geometry(path, reader)
        name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        width = next(word for word in name.split() if word.endswith("-bit")).removesuffix("-bit")
        stored = np.dtype(f"{'f' if 'float' in name else 'u' if 'unsigned' in name else 'i'}{int(width) // 8}")
        return volume_header(kind, path, volumes, stored, unit)


def segment_names(path: Path) -> dict[int, str]:
    """Label -> name of a segmentation that 3D Slicer wrote (.seg.nrrd); empty for any other file.

    Raises:
        UserError: segments in several layers, which overlap.
    """
    if _kind(path) != "NRRD":
        return {}
    with explained_reading(path, "NRRD"):
        reader = _reader(path)
        found = {}
        for key in reader.GetMetaDataKeys():
            if key.startswith("Segment") and key.endswith("_Name"):
                number = key.removesuffix("_Name")
                layer, label = (_metadata(reader, f"{number}_{what}") for what in ("Layer", "LabelValue"))
                if layer not in ("", "0"):
                    raise UserError(f"{path} has segments in several layers, which overlap; export it as a label map.")
                if label.isdecimal():
                    found[int(label)] = reader.GetMetaData(key).strip()
    return dict(sorted(found.items()))


def _metadata(reader: "SimpleITK.ImageFileReader", key: str) -> str:
    return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""


def write_itk(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write `.mha` or `.nrrd`: int16 for HU, float32 otherwise; geometry in LPS, provenance as metadata."""
    import SimpleITK

    written = _itk_image(path, image, provenance)
    with atomic_file(path) as temporary:
        SimpleITK.WriteImage(written, os.fspath(temporary), useCompression=True)


def write_mhd(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write a `.mhd` header and its `.raw` values, each atomically, the header last."""
    import SimpleITK

    written = _itk_image(path, image, provenance)
    # The header contains the name of the file of values, so both are first written to a folder of their own.
    with temporary_folder(path) as folder:
        SimpleITK.WriteImage(written, os.fspath(folder / path.name))
        for name in (path.with_suffix(".raw").name, path.name):
            with atomic_file(path.with_name(name)) as temporary:
                (folder / name).replace(temporary)


def itk_provenance(path: Path) -> dict[str, str]:
    """The provenance that `write_itk` wrote; otherwise empty."""
    with explained_reading(path, _kind(path)):
        reader = _reader(path)
        if not reader.HasMetaDataKey(PROVENANCE):
            return {}
        return dict(json.loads(reader.GetMetaData(PROVENANCE)))


def _kind(path: Path) -> str:
    return "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"


def _format(path: Path) -> str:
    """The format as ITK calls it."""
    return "Nrrd" if _kind(path) == "NRRD" else "Meta"


def _reader(path: Path) -> "SimpleITK.ImageFileReader":
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    # By its content alone a file might be read as another format, some of which have their values from other files.
    reader.SetImageIO(f"{_format(path)}ImageIO")
    reader.SetFileName(os.fspath(path))
    reader.ReadImageInformation()
    return reader


def _geometry(path: Path, reader: "SimpleITK.ImageFileReader") -> StoredVolumes:
    """What the header says of the volumes; a 2-D image lies in the plane of the first two axes."""
    axes = reader.GetDimension()
    if reader.GetNumberOfComponents() != 1 or not 2 <= axes <= 4:
        raise UserError(
            f"{path} has {axes} axes and {reader.GetNumberOfComponents()} values per voxel; only"
            " volumes and series of volumes with one value per voxel can be read."
        )
    columns, rows, slices, frames = (*(int(axis) for axis in reader.GetSize()), 1, 1)[:4]
    require_sane_size(path, (columns, rows, slices), MAX_VOXELS)
    require_sane_size(path, (frames,))
    direction = np.reshape(reader.GetDirection(), (axes, axes))
    used = min(axes, 3)
    affine = np.eye(4)
    affine[:used, :used] = direction[:used, :used] * np.asarray(reader.GetSpacing())[:used]
    affine[:used, 3] = reader.GetOrigin()[:used]
    return StoredVolumes((columns, rows, slices), frames, LPS_RAS @ affine, _states_orientation(path))


def _states_orientation(path: Path) -> bool:
    """Whether the text of a header says how the axes lie in the patient; ITK takes the identity where it does not."""
    with path.open("rb") as stream:
        text = stream.read(LONGEST_HEADER).decode("latin-1")
    fields = set()
    # A NRRD header ends with an empty line, a MetaImage's with the name of its data.
    for line in text.splitlines():
        name = line.replace("=", ":", 1).partition(":")[0].strip().casefold()
        if not line.strip() or name == "elementdatafile":
            break
        fields.add(name)
    return not fields.isdisjoint(ORIENTATION_FIELDS)


def _itk_image(path: Path, image: Image, provenance: Mapping[str, str]) -> "SimpleITK.Image":
    import SimpleITK

    if len(image.pixels) != 1:
        raise UserError(f"{path}: volumes hold one channel, the image has {len(image.pixels)}; write a .png or .tif.")
    if image.unoriented:
        raise UserError(f"{path}: the image states no orientation, which {_kind(path)} cannot say; write a .nii.gz.")
    affine = LPS_RAS @ stated_affine(image)
    if not has_right_angles(affine):
        raise UserError(
            f"{path}: the image's axes are not orthogonal, which {_kind(path)} cannot store; write a .nii.gz."
        )
    spacing = np.asarray(voxel_spacing(affine))
    direction = affine[:3, :3] / spacing
    written = SimpleITK.GetImageFromArray(np.ascontiguousarray(stored_volume(image).T))
    written.SetSpacing(spacing.tolist())
    written.SetDirection(direction.ravel().tolist())
    written.SetOrigin(affine[:3, 3].tolist())
    written.SetMetaData("SYNTHETIC", "YES")
    written.SetMetaData(PROVENANCE, json.dumps(dict(provenance)))
    return written
