"""DICOM data sets as files have them: with or without preamble, with empty attributes, with defaults left out."""

from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.image_io.content import DICOM, content_of, has_preamble

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset
    from pydicom.tag import BaseTag

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Values of a rescale of which a file states one half.
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": 0}
BLANKS = b" \0"
# Value representations that are texts, numbers as texts among them.
TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")


def open_dataset(path: Path, pixels: bool) -> "FileDataset":
    """A file's data set, whose empty attributes are left out, so that empty and absent are the same to all who ask.

    Args:
        path: a file with DICOM's preamble, or a bare data set.
        pixels: read the pixels too.

    Raises:
        UserError: neither of the two.
    """
    import pydicom
    from pydicom import uid

    bare = not has_preamble(path)
    if bare and (content := content_of(path)) != DICOM:
        what = f"is {content} by its first bytes, and no DICOM" if content else "is no DICOM, or damaged or cut short"
        raise UserError(f"{path} {what}: it has neither a preamble nor a data set; leave it out.")
    data = pydicom.dcmread(path, stop_before_pixels=not pixels, force=bare)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    present(data)
    # Both are required; what they mean where they are left out is not in doubt.
    if "BitsAllocated" in data:
        data.setdefault("BitsStored", data.BitsAllocated)
        data.setdefault("HighBit", data.BitsStored - 1)
        data.setdefault("PixelRepresentation", 0)
    return data


def present(data: "Dataset") -> "Dataset":
    """A data set or an item of one, without its empty attributes; of a rescale in two halves none is missing."""
    for tag in list(data.keys()):
        if _is_empty(data, tag):
            del data[tag]
    if any(name in data for name in RESCALE):
        for name, value in RESCALE.items():
            if name not in data:
                setattr(data, name, value)
    return data


def _is_empty(data: "Dataset", tag: "BaseTag") -> bool:
    """Whether an attribute has no value, or a text of blanks. Raw elements are not decoded for it, which takes long."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    element = data.get_item(tag)
    value = element.value
    if value is None or (isinstance(value, str | bytes | list | tuple) and not len(value)):
        return True
    if isinstance(value, bytes) and value[:1] in (b" ", b"\0") and not value.strip(BLANKS):
        code = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        return code in TEXTS
    return isinstance(value, str) and not value.strip()
