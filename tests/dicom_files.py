"""DICOM files of known values for tests, by pydicom alone."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def item(**values: object) -> Dataset:
    """A data set, or an item of a sequence, of the given attributes."""
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def dicom_file(path: Path, stored: np.ndarray, photometric: str = "MONOCHROME2", **attributes: Any) -> Path:
    """A DICOM file of the stored values, by pydicom alone."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    colour = photometric in ("RGB", "YBR_FULL")
    data.SamplesPerPixel, data.PhotometricInterpretation = (3 if colour else 1), photometric
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
    if stored.ndim > (3 if colour else 2):
        data.NumberOfFrames = len(stored)
    data.BitsAllocated = data.BitsStored = stored.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()
    data["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"
    for name, value in attributes.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path
