"""Writing DICOM that is marked as synthetic, or as derived from a patient's image, without any patient data."""

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Image
from medloom.core.spec import COLOUR, HU
from medloom.data.image_io.geometry import LPS_RAS, voxel_spacing
from medloom.data.image_io.raster import to_levels
from medloom.data.image_io.reading import explained_reading

if TYPE_CHECKING:
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
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    if len(image.size) != 2:
        raise UserError(f"{path}: a DICOM file holds one slice, but the image is a volume; write a .nii.gz.")
    comments = json.dumps(dict(provenance))
    if len(comments) > MAX_COMMENT:
        raise UserError(
            f"{path}: the provenance has {len(comments)} characters, but DICOM holds {MAX_COMMENT}; shorten it."
        )
    in_hu = image.unit == HU
    is_ct = in_hu and image.affine is not None
    stored: NDArray[np.unsignedinteger] = (
        np.clip(np.rint(image.pixels[0]) - CT_INTERCEPT, 0, 2**CT_BITS - 1).astype(np.uint16)
        if in_hu
        else to_levels(path, image)
    )
    data = Dataset()
    for keyword in (*EMPTY, *EMPTY_CT) if is_ct else EMPTY:
        setattr(data, keyword, None)
    synthetic = "SYNTHETIC" in provenance
    data.PatientName = "SYNTHETIC" if synthetic else "ANONYMOUS"
    # Images that belong together are named together; any other is alone in its study.
    alone = _content(path, stored, comments)
    data.SOPInstanceUID = _uid("instance", alone)
    study, series, number = image.series or (alone, alone, 1)
    data.StudyInstanceUID, data.SeriesInstanceUID = _uid("study", study), _uid("series", study, series)
    data.SyntheticData = "YES" if synthetic else "NO"
    data.ContentQualification = "RESEARCH"
    derived = provenance.get("DERIVED", GENERATED)
    data.DerivationDescription = f"SYNTHETIC: {derived}" if synthetic and derived != GENERATED else derived
    data.ImageComments = comments
    data.InstanceNumber = number
    data.Modality = "CT" if in_hu else "OT"
    if image.directions is not None:
        data.PatientOrientation = list(image.directions)
    if in_hu:
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = CT_INTERCEPT, 1, "HU"
    if is_ct and image.affine is not None:
        data.SOPClassUID = CTImageStorage
        data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        affine = LPS_RAS @ image.affine
        data.FrameOfReferenceUID = _uid("frame of reference", study, json.dumps(affine.tolist()))
        rows, columns, thickness = voxel_spacing(affine)
        data.PixelSpacing = [_decimal(rows), _decimal(columns)]
        stated = not math.isclose(thickness, UNSTATED_THICKNESS, rel_tol=1e-6)
        data.SliceThickness = _decimal(thickness) if stated else None
        along_columns, along_rows = affine[:3, 1] / columns, affine[:3, 0] / rows
        data.ImageOrientationPatient = [_decimal(value) for value in (*along_columns, *along_rows)]
        data.ImagePositionPatient = [_decimal(value) for value in affine[:3, 3]]
    else:
        data.SOPClassUID = SecondaryCaptureImageStorage
        data.ImageType = ["DERIVED", "SECONDARY"]
        data.ConversionType = "WSD"
        if image.spacing is not None:
            spacing = [_decimal(value) for value in image.spacing]
            data.NominalScannedPixelSpacing, data.PixelSpacing = spacing, spacing
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    bits, in_colour = stored.dtype.itemsize * 8, stored.ndim == 3
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel = 3 if in_colour else 1
    if in_colour:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if in_colour or image.unit == COLOUR else "MONOCHROME2"
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


def _content(path: Path, stored: NDArray[np.unsignedinteger], comments: str) -> str:
    """A hash of the file's name and content, so that the same image gives the same file."""
    digest = hashlib.sha256("\x1f".join((path.name, comments)).encode())
    digest.update(stored.tobytes())
    return digest.hexdigest()


def _uid(*names: str) -> str:
    """A UID from a UUID (PS3.5 B.2) of some names."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _decimal(value: float) -> "DSfloat":
    from pydicom.valuerep import DSfloat

    # Adding zero turns -0.0 into 0.0.
    return DSfloat(float(value) + 0.0, auto_format=True)
