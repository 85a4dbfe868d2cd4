"""Files that are brought: bombs, what is no image, headers that name other files, and more than may be brought."""

import gzip
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from studio_client import Browser, name_of, sentences

from medloom.core.errors import UserError
from medloom.studio.uploads.arrival import arrived
from medloom.studio.web.guard import FORM_BYTES

MB = 2**20
# Seconds that any of them may take, and bytes that the page server may grow by.
PATIENCE, GROWTH = 20.0, 150 * MB
LARGEST = 4 * MB


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("brought") / "studio", largest=LARGEST)
    browser.bring("warm.png", b"up")
    yield browser
    assert browser.brought() == []


def png_of(width: int, height: int, rows: int) -> bytes:
    """A PNG that says how large it is, and has some of its rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * (width + 1) * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many MB of zeros, compressed by gzip."""
    return gzip.compress(b"\0" * MB, 9) * count


def nifti_of(shape: tuple[int, ...], offset: int, megabytes: int) -> bytes:
    """A compressed NIfTI: of a shape, whose values begin somewhere, and zeros."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"] = offset
    return gzip.compress(header.binaryblock + b"\0\0\0\0") + zeros(megabytes)


def tiff_of(width: int, height: int, megabytes: int) -> bytes:
    """A TIFF that says how large it is, and has compressed zeros."""
    body = zlib.compress(b"\0" * MB * megabytes, 9)
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: height, 279: len(body)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries)) + table + b"\0" * 4


def dicom_of(folder: Path, values: bytes | None = b"\1\2" * 32, **stated: object) -> bytes:
    """A DICOM file of 8 x 8 pixels, or of what it states."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.3", pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, "1.2.3", "OT"
    if values is not None:
        own = {"Rows": 8, "Columns": 8, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
        known = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelData": values}
        for name, value in {**own, **known, **stated}.items():
            setattr(data, name, value)
    data.save_as(folder / "made.dcm")
    return (folder / "made.dcm").read_bytes()


def refused(browser: Browser, name: str, content: bytes, kind: str = "image") -> str:
    """What the page says of a file that cannot be used; within seconds, without memory, and nothing is left of it."""
    began, before = time.monotonic(), psutil.Process().memory_info().rss
    answer = browser.bring(name, content, kind)
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - began < PATIENCE
    assert psutil.Process().memory_info().rss - before < GROWTH
    assert browser.brought() == []
    said = sentences(answer)
    assert str(browser.studio.store.folder) not in said and "incoming-" not in said
    return said


def test_a_picture_that_says_it_is_huge(browser: Browser) -> None:
    assert "60000 x 60000" in refused(browser, "bomb.tif", tiff_of(60000, 60000, 10))
    assert "exceeds limit" in refused(browser, "bomb.png", png_of(60000, 60000, 500))


def test_a_picture_that_holds_more_than_it_says(browser: Browser) -> None:
    assert "damaged" in refused(browser, "more.tif", tiff_of(64, 64, 60))


def test_a_volume_that_says_it_is_huge(browser: Browser) -> None:
    assert "claims a size of 30000 x 30000 x 30000" in refused(browser, "a.nii.gz", nifti_of((30000,) * 3, 352, 1))
    assert "bring a part of it" in refused(browser, "b.nii.gz", nifti_of((700, 700, 700), 352, 1))


def test_a_volume_that_expands_to_gigabytes(browser: Browser) -> None:
    assert "constant" in refused(browser, "a.nii.gz", nifti_of((8, 8, 8), 352, 2000))
    assert "damaged or cut short" in refused(browser, "b.nii.gz", nifti_of((8, 8, 8), 3 * 10**9, 50))


def test_a_dicom_that_says_it_is_huge(browser: Browser, tmp_path: Path) -> None:
    said = refused(browser, "a.dcm", dicom_of(tmp_path, Rows=65535, Columns=65535))
    assert "claims a size of 65535 x 65535" in said
    said = refused(browser, "b.dcm", dicom_of(tmp_path, Rows=12000, Columns=12000))
    assert "less than expected" in said
    said = refused(browser, "c.dcm", dicom_of(tmp_path, NumberOfFrames="2000000"))
    assert said.startswith("The file holds 2000000 images, and one is read here: bring that one in a file of its own")


def test_a_dicom_without_pixels(browser: Browser, tmp_path: Path) -> None:
    assert "holds no image (it is Secondary Capture" in refused(browser, "report.dcm", dicom_of(tmp_path, None))


META = "ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementSpacing = 1 1\n"
NRRD = "NRRD0004\ntype: unsigned char\ndimension: 2\nsizes: 4 4\nencoding: raw\nspacings: 1 1\n"


HEADERS = [
    ("x.mha", META + "ElementDataFile = {}\n"),
    ("x.mhd", META + "ElementDataFile = {}\n"),
    ("x.mha", "Comment = ElementDataFile = LOCAL\n" + META + "ElementDataFile = {}\n"),
    ("x.mha", "Comment = " + "x" * 70000 + "\n" + META + "ElementDataFile: {}\n"),
    ("x.MHA", META + "ElementDataFile = LIST\n{}\n"),
    ("x.nrrd", NRRD + "data file: {}\n"),
    ("x.nrrd", NRRD + "datafile: {}\n\n"),
    ("x.nrrd", NRRD + "DATA FILE: LIST\n{}\n"),
    ("x.nhdr", NRRD + "data file: {}\n"),
    ("x.hdr", "{}"),
    ("x.img", "{}"),
]


@pytest.mark.parametrize(("name", "head"), HEADERS)
def test_a_header_that_names_a_file_of_this_computer(tmp_path: Path, name: str, head: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(100, 116)))
    (tmp_path / name).write_text(head.format(tmp_path / "secret"))
    with pytest.raises(UserError, match="the values of this image lie in another file: write both into one"):
        arrived(tmp_path / name, tmp_path, "brought", "image")
    assert not list(tmp_path.glob("brought.*"))


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        (*HEADERS[0], "The values of this image lie in another file"),
        (*HEADERS[5], "The values of this image lie in another file"),
        # By its content it is of the other format.
        ("x.mha", NRRD + "data file: {}\n", "give it the right ending"),
        ("x.nrrd", META + "ElementDataFile = {}\n", "give it the right ending"),
    ],
)
def test_such_a_file_that_is_brought(browser: Browser, tmp_path: Path, name: str, head: str, said: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(100, 116)))
    assert said in refused(browser, name, head.format(tmp_path / "secret").encode(), "mask")


@pytest.mark.parametrize("head", [META + "ElementDataFile = LOCAL\n", NRRD + "\n"])
def test_a_file_that_holds_all_of_its_image(tmp_path: Path, head: str) -> None:
    browser = Browser(tmp_path / "studio")
    name = "x.mha" if head.startswith("Object") else "x.nrrd"
    file = name_of(browser.bring(name, head.encode() + bytes(range(16))))
    assert browser.get(f"/uploads/{file}/picture.png").status_code == 200


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt", "is not of a format that is read: bring PNG, JPEG, TIFF, DICOM"),
        ("studio.sqlite", "is not of a format that is read"),
        ("..", "is not of a format that is read"),
        ("x.png#3", "is not of a format that is read"),
        ("none.png", "The file is a PDF by its first bytes, and no PNG"),
        ("none", "and no DICOM"),
    ],
)
def test_files_of_another_kind(browser: Browser, name: str, said: str) -> None:
    assert said in refused(browser, name, b"%PDF-1.7 " + b"x" * 5000)


NAMES = {
    "../../x.png": "x.png",
    "..\\..\\x.png": "x.png",
    "C:\\x.png": "x.png",
    "x\0.png": "x%00.png",
    "<img src=x onerror=alert(2)>.png": "&lt;img src=x onerror=alert(2)&gt;.png",
    "x" * 200 + ".png": "x" * 76 + ".png",
}


def test_names_that_lead_elsewhere_or_are_scripts(tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio")
    for name, shown in NAMES.items():
        answer = browser.bring(name, flat_png(tmp_path))
        file = name_of(answer)
        assert f"<span>{shown}</span>" in answer.text
        assert [path.name for path in browser.brought() if path.stem == file] == [f"{file}.png"]
    assert len(browser.brought()) == len(NAMES)
    assert {path.parent.parent for path in browser.brought()} == {tmp_path.resolve() / "studio" / "uploads"}


def flat_png(folder: Path) -> bytes:
    from PIL import Image

    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "flat.png")
    return (folder / "flat.png").read_bytes()


def parts(megabytes: int) -> Iterator[bytes]:
    """A form with a file, in pieces."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
    yield from (b"\0" * MB for _ in range(megabytes))
    yield b"\r\n--b--\r\n"


def test_more_than_may_be_brought(browser: Browser) -> None:
    form = {"content-type": "multipart/form-data; boundary=b"}
    for headers in ({**form, "content-length": str(500 * MB)}, form):
        # The second does not say how long it is.
        answer = browser.post("/uploads/image", content=parts(8), headers=headers)
        assert answer.status_code == 413
        assert "at most 4 MB can be brought at a time" in answer.text
    form = {"content-type": "application/x-www-form-urlencoded"}
    for address in ("/generate", "/edit", "/whatif"):
        answer = browser.post(address, content=(b"x" * 100_000 for _ in range(11)), headers=form)
        assert answer.status_code == 413 and f"a form has at most {FORM_BYTES} bytes" in answer.text
    for length in ("-1", "1e3", "9" * 5000, "\xb2".encode("latin-1")):
        assert browser.post("/generate", content=b"x", headers={"content-length": length}).status_code == 413
    assert browser.brought() == []


@pytest.mark.parametrize(
    "content", [b"nonsense", b"--b\r\n\r\n--b--\r\n", b'--b\r\nContent-Disposition: form-data; name="file"']
)
def test_a_form_that_is_none(browser: Browser, content: bytes) -> None:
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data", "text/plain"):
        answer = browser.post("/uploads/image", content=content, headers={"content-type": kind})
        assert answer.status_code == 400 and sentences(answer)[-1] == "."
