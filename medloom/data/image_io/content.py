"""What a file is by its first bytes, whatever its name says."""

import struct
from pathlib import Path

START = 512
DICOM_MAGIC_OFFSET, DICOM_MAGIC = 128, b"DICM"
# Groups that a DICOM data set begins with: of the file, and of identification.
FIRST_GROUPS = (0x0002, 0x0008)
# The longest value of a first element that is believed without a preamble.
LONGEST_FIRST = 512

GZIP, DICOM = "compressed with gzip", "a DICOM file"
SIGNATURES: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG"),
    (b"\xff\xd8\xff", 0, "a JPEG"),
    (b"II*\0", 0, "a TIFF"),
    (b"MM\0*", 0, "a TIFF"),
    (b"II+\0", 0, "a TIFF"),
    (b"MM\0+", 0, "a TIFF"),
    (b"GIF8", 0, "a GIF"),
    (b"BM", 0, "a BMP"),
    (b"\0\0\0\x0cjP  ", 0, "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "a JPEG 2000"),
    (b"RIFF", 0, "a WebP or another RIFF file"),
    (DICOM_MAGIC, DICOM_MAGIC_OFFSET, DICOM),
    (b"n+1\0", 344, "a NIfTI file"),
    (b"n+2\0", 4, "a NIfTI file"),
    (b"NRRD", 0, "an NRRD file"),
    (b"ObjectType", 0, "a MetaImage"),
    (b"\x1f\x8b", 0, GZIP),
    (b"PK\x03\x04", 0, "a ZIP archive"),
    (b"\x89HDF", 0, "an HDF5 file"),
    (b"\x93NUMPY", 0, "a NumPy array"),
    (b"%PDF", 0, "a PDF"),
)
POINTERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself; fetch it with `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer instead of the file itself; fetch it with `git annex get`"),
    (b"../.git/annex/objects/", "a git-annex pointer instead of the file itself; fetch it with `git annex get`"),
    (b"outs:", "a DVC pointer instead of the file itself; fetch it with `dvc pull`"),
)
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def content_of(path: Path) -> str | None:
    """What a file's first bytes say it is ("a PNG", "compressed with gzip"); None if they say nothing known."""
    with path.open("rb") as stream:
        start = stream.read(START)
    for signature, offset, what in SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return what
    if start.lstrip().lower().startswith(PAGES):
        return "a web page or XML, perhaps the answer of a failed download"
    return DICOM if _begins_a_data_set(start) else None


def pointer_of(path: Path) -> str | None:
    """What a file stands for, if it is the pointer of a store of large files; None for any other file."""
    with path.open("rb") as stream:
        start = stream.read(START).lstrip()
    if what := next((what for signature, what in POINTERS if start.startswith(signature)), None):
        return what
    # Git writes links so where the system or its setting knows none.
    target = start.decode("ascii", "replace").strip()
    named = b"/" in start and len(start) < START and target.isprintable()
    if named and (path.parent / target).is_file():
        return f"a link that was stored as text; its file is {target}"
    return None


def is_dicom(path: Path) -> bool:
    """Whether a file of any name holds DICOM: with its preamble, or as a bare data set."""
    return content_of(path) == DICOM


def has_preamble(path: Path) -> bool:
    """Whether a file starts with DICOM's preamble."""
    with path.open("rb") as stream:
        stream.seek(DICOM_MAGIC_OFFSET)
        return stream.read(len(DICOM_MAGIC)) == DICOM_MAGIC


def _begins_a_data_set(start: bytes) -> bool:
    """Whether bytes are the first element of a DICOM data set without preamble, in any of the uncompressed codings."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in FIRST_GROUPS or element > 0x0100:
            continue
        if start[4:6].isalpha() and start[4:6].isupper():
            return bool(struct.unpack(f"{order}H", start[6:8])[0] <= LONGEST_FIRST)
        if order == "<":
            return bool(struct.unpack("<I", start[4:8])[0] <= LONGEST_FIRST)
    return False
