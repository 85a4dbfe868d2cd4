"""Writing DICOM that is marked as synthetic, or as derived from a patient's image, without any patient data."""

import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Affine, Image
from medloom.core.spec import COLOUR, HU
from medloom.data.image_io.geometry import LPS_RAS, voxel_spacing
from medloom.data.image_io.raster import to_levels
from medloom.data.image_io.reading import explained_reading

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.valuerep import DSfloat

CT_INTERCEPT = -1024
CT_BITS = 16
GENERATED = "SYNTHETIC image made by a generative model; not an image of a patient"
MAX_COMMENT = 10240  # characters of a long text (LT)
# Type 2 attributes of the two classes: present, and empty because there is no patient.
EMPTY = (
    "PatientID",
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "PatientSex",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "Manufacturer",
    "PatientOrientation",
    "Laterality",
)
# A reader takes a thickness that is not stated for 1 mm; one that is 1 mm may therefore never have been stated.
UNSTATED_THICKNESS = 1.0
EMPTY_CT = ("KVP", "AcquisitionNumber", "PositionReferenceIndicator", "PatientPosition")


def write_dicom(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write a 2-D image: CT Image Storage for HU (stored as HU + 1024, 16 bits), Secondary Capture for levels.

    CT Image Storage requires the position, the orientation and the spacing of the pixels. HU of which these are not
    known are written as Secondary Capture too, which requires none of them, with the same rescaling to HU.

    Raises:
        UserError: a volume, more than one channel of HU, or provenance that is too long for the file.
    """
    if len(image.size) != 2:
        raise UserError(f"{path}: a DICOM file holds one slice, but the image is a volume; write a .nii.gz.")
    comments = stated_comments(path, provenance)
    stored = stored_pixels(path, image)
    is_ct = image.unit == HU and image.affine is not None
    data = marked_dataset(provenance, comments, image.unit, is_ct)
    # Images that belong together are named together; any other is alone in its study.
    alone = content_hash(path, comments, [stored])
    study, series, number = image.series or (alone, alone, 1)
    data.SOPInstanceUID = derived_uid("instance", alone)
    data.StudyInstanceUID, data.SeriesInstanceUID = derived_uid("study", study), derived_uid("series", study, series)
    data.InstanceNumber = number
    if image.directions is not None:
        data.PatientOrientation = list(image.directions)
    if is_ct and image.affine is not None:
        affine = LPS_RAS @ image.affine
        data.FrameOfReferenceUID = derived_uid("frame of reference", study, json.dumps(affine.tolist()))
        place_slice(data, affine)
        thickness = voxel_spacing(affine)[2]
        stated = not math.isclose(thickness, UNSTATED_THICKNESS, rel_tol=1e-6)
        data.SliceThickness = decimal(thickness) if stated else None
    elif image.spacing is not None:
        spacing = [decimal(value) for value in image.spacing]
        data.NominalScannedPixelSpacing, data.PixelSpacing = spacing, spacing
    save_dataset(path, data, stored, image.unit)


def stated_comments(path: Path, provenance: Mapping[str, str]) -> str:
    """The provenance as the text of Image Comments.

    Raises:
        UserError: it is too long for a file.
    """
    comments = json.dumps(dict(provenance))
    if len(comments) > MAX_COMMENT:
        raise UserError(
            f"{path}: the provenance has {len(comments)} characters, but DICOM holds {MAX_COMMENT}; shorten it."
        )
    return comments


def stored_pixels(path: Path, image: Image) -> NDArray[np.unsignedinteger]:
    """The values to store of a 2-D image: whole HU + 1024, or levels.

    Raises:
        UserError: values outside the range of the unit.
    """
    if image.unit != HU:
        return to_levels(path, image)
    stored: NDArray[np.unsignedinteger] = np.clip(np.rint(image.pixels[0]) - CT_INTERCEPT, 0, 2**CT_BITS - 1).astype(
        np.uint16
    )
    return stored


def marked_dataset(provenance: Mapping[str, str], comments: str, unit: str, is_ct: bool) -> "Dataset":
    """A data set that says what its image is, and names no patient; without UIDs, geometry and pixels.

    Args:
        provenance: of the image.
        comments: the provenance as text.
        unit: of its values.
        is_ct: whether its class is CT Image Storage; else it is Secondary Capture.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

    data = Dataset()
    for keyword in (*EMPTY, *EMPTY_CT) if is_ct else EMPTY:
        setattr(data, keyword, None)
    synthetic = "SYNTHETIC" in provenance
    data.PatientName = "SYNTHETIC" if synthetic else "ANONYMOUS"
    data.SyntheticData = "YES" if synthetic else "NO"
    data.ContentQualification = "RESEARCH"
    derived = provenance.get("DERIVED", GENERATED)
    data.DerivationDescription = f"SYNTHETIC: {derived}" if synthetic and derived != GENERATED else derived
    data.ImageComments = comments
    data.Modality = "CT" if unit == HU else "OT"
    if unit == HU:
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = CT_INTERCEPT, 1, "HU"
    if is_ct:
        data.SOPClassUID = CTImageStorage
        data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    else:
        data.SOPClassUID = SecondaryCaptureImageStorage
        data.ImageType = ["DERIVED", "SECONDARY"]
        data.ConversionType = "WSD"
    return data


def place_slice(data: "Dataset", affine: Affine) -> None:
    """State where a slice lies, by its affine from (row, column, 0) to LPS mm."""
    rows, columns, _ = voxel_spacing(affine)
    data.PixelSpacing = [decimal(rows), decimal(columns)]
    along_columns, along_rows = affine[:3, 1] / columns, affine[:3, 0] / rows
    data.ImageOrientationPatient = [decimal(value) for value in (*along_columns, *along_rows)]
    data.ImagePositionPatient = [decimal(value) for value in affine[:3, 3]]


def save_dataset(path: Path, data: "Dataset", stored: NDArray[np.unsignedinteger], unit: str) -> None:
    """Write a data set with its pixels, `(rows, columns)` or `(rows, columns, 3)`, atomically."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    bits, in_colour = stored.dtype.itemsize * 8, stored.ndim == 3
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel = 3 if in_colour else 1
    if in_colour:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if in_colour or unit == COLOUR else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, 0
    values = stored.tobytes()
    data.PixelData = values + b"\x00" * (len(values) % 2)
    data["PixelData"].VR = "OW" if bits > 8 else "OB"
    with atomic_file(path, flushed=False) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def dicom_provenance(path: Path) -> dict[str, str]:
    """The provenance in the comments of a file whose Synthetic Data is YES; otherwise empty."""
    import pydicom

    with explained_reading(path, "DICOM"):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        comments = str(data.get("ImageComments", ""))
        if data.get("SyntheticData") != "YES" or not comments.startswith("{"):
            return {}
        return dict(json.loads(comments))


def content_hash(path: Path, comments: str, stored: Iterable[NDArray[np.unsignedinteger]]) -> str:
    """A hash of a name and a content, so that the same image gives the same file."""
    digest = hashlib.sha256("\x1f".join((path.name, comments)).encode())
    for pixels in stored:
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def derived_uid(*names: str) -> str:
    """A UID from a UUID (PS3.5 B.2) of some names."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def decimal(value: float) -> "DSfloat":
    """A number as a decimal string of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    # Adding zero turns -0.0 into 0.0.
    return DSfloat(float(value) + 0.0, auto_format=True)
