"""DICOM as scanners, tools and copies leave it: empty attributes, high bits, no preamble, litter, rounded positions."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from dicom_files import dicom_file
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from medloom.core.errors import UserError
from medloom.core.spec import HU, RELATIVE
from medloom.data.image_io.content import content_of
from medloom.data.images import read_header, read_image

VALUES = (np.arange(32 * 32) * 2 % 1551).reshape(32, 32).astype(np.uint16)
EMPTY = (
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelPaddingValue",
    "PixelSpacing",
    "WindowCenter",
    "Modality",
)


@pytest.mark.parametrize("empty", [*((name,) for name in EMPTY), EMPTY])
def test_an_empty_attribute_is_as_an_absent_one(tmp_path: Path, empty: tuple[str, ...]) -> None:
    path = dicom_file(tmp_path / "a.dcm", VALUES, BitsStored=12, HighBit=11, **dict.fromkeys(empty))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], VALUES)
    assert image.unit == RELATIVE and image.padding is None and read_header(path).unit == RELATIVE


@pytest.mark.parametrize("blank", ["RescaleSlope", "RescaleType"])
def test_an_attribute_of_blanks_is_absent(tmp_path: Path, blank: str) -> None:
    rescale = {"RescaleSlope": "1.0", "RescaleIntercept": "-1024", "RescaleType": "HOUNS "}
    path = dicom_file(tmp_path / "a.dcm", VALUES, Modality="CT", **rescale)
    stored = rescale[blank].encode().ljust(6 if blank == "RescaleType" else 4)
    content = path.read_bytes()
    assert content.count(stored) == 1
    path.write_bytes(content.replace(stored, b" " * len(stored)))
    image = read_image(path)
    assert image.pixels.min() == -1024 and image.unit == (HU if blank == "RescaleType" else RELATIVE)


@pytest.mark.parametrize(
    ("given", "values", "unit"),
    [
        ({"RescaleIntercept": -1024}, VALUES - 1024.0, HU),
        ({"RescaleSlope": 2}, VALUES * 2.0, HU),
        ({}, VALUES, RELATIVE),
    ],
)
def test_half_a_rescale_of_a_ct(tmp_path: Path, given: dict[str, Any], values: np.ndarray, unit: str) -> None:
    path = dicom_file(tmp_path / "a.dcm", VALUES, Modality="CT", BitsStored=12, HighBit=11, **given)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], values)
    assert image.unit == read_header(path).unit == unit


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 13, 15])
def test_values_at_the_upper_end_of_a_word(tmp_path: Path, high: int, signed: bool) -> None:
    values = VALUES.astype(np.int16) - 700 if signed else VALUES
    stored = np.left_shift(values, high - 11)
    path = dicom_file(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=high)
    np.testing.assert_array_equal(read_image(path).pixels[0], values)
    assert read_header(path).bits == 12


def test_bits_above_the_high_one_are_an_overlay(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "a.dcm", VALUES | np.uint16(0x4000), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_image(path).pixels[0], VALUES)


@pytest.mark.parametrize(("stored", "high"), [(12, 9), (12, 16)])
def test_a_high_bit_that_cannot_be(tmp_path: Path, stored: int, high: int) -> None:
    with pytest.raises(UserError, match=f"states 12 bits of 16 with high bit {high}, which do not agree"):
        read_image(dicom_file(tmp_path / "a.dcm", VALUES, BitsStored=stored, HighBit=high))


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_a_bare_data_set_is_read(tmp_path: Path, implicit: bool, name: str) -> None:
    data = pydicom.dcmread(dicom_file(tmp_path / "whole.dcm", VALUES, Modality="CT", RescaleIntercept=-5))
    data.file_meta, data.preamble = FileMetaDataset(), None
    dcmwrite(tmp_path / name, data, implicit_vr=implicit, little_endian=True)
    assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.pixels[0], VALUES - 5.0)
    assert image.unit == HU and read_header(tmp_path / name).size == (32, 32)


# Messages name the true cause


def test_a_file_of_another_format_is_called_by_it(tmp_path: Path) -> None:
    Pillow.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "a.png")
    for name in ("a.jpg", "a.dcm", "a.tif", "a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
        with pytest.raises(UserError, match="a PNG") as error:
            read_image(tmp_path / name)
        assert "damaged" not in str(error.value)
    (tmp_path / "a.webp").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(UserError, match="by its first bytes it is a PNG; allowed endings"):
        read_image(tmp_path / "a.webp")


def test_a_compressed_file_under_the_plain_name(tmp_path: Path) -> None:
    import gzip

    import nibabel

    nibabel.save(nibabel.Nifti1Image(VALUES[..., None], np.eye(4)), tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    with pytest.raises(UserError, match=r"is compressed with gzip; unpack it, or name it .nii.gz"):
        read_image(tmp_path / "b.nii")
    (tmp_path / "c.nii.gz").write_bytes(plain)
    with pytest.raises(UserError, match="is not compressed with gzip, as its ending says, but a NIfTI file"):
        read_image(tmp_path / "c.nii.gz")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a Git LFS pointer"),
        ("/annex/objects/MD5E-s9--1.png\n", "a git-annex pointer"),
        ("outs:\n- md5: 1\n", "a DVC pointer"),
        ("store/real.png", "a link that was stored as text; its file is store/real.png"),
    ],
)
def test_pointers_of_stores_say_what_they_are(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "store").mkdir()
    Pillow.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "store" / "real.png")
    (tmp_path / "a.png").write_text(content)
    with pytest.raises(UserError, match=what):
        read_image(tmp_path / "a.png")


def test_a_web_page_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<!DOCTYPE html><html>Please log in</html>")
    with pytest.raises(UserError, match="a web page or XML, perhaps the answer of a failed download"):
        read_image(tmp_path / "a.jpg")


def test_the_first_bytes_of_what_is_written(tmp_path: Path) -> None:
    Pillow.new("L", (2, 2)).save(tmp_path / "a.png")
    assert content_of(tmp_path / "a.png") == "a PNG"
    assert content_of(dicom_file(tmp_path / "a.dcm", VALUES)) == "a DICOM file"
    (tmp_path / "a.txt").write_text("a text")
    assert content_of(tmp_path / "a.txt") is None


def test_a_palette_tiff_of_one_bit(tmp_path: Path) -> None:
    colours = [65535, 0, 0, 0, 0, 65535]
    tifffile.imwrite(tmp_path / "a.tif", VALUES > 700, extratags=[(320, "H", 6, colours, True)])
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as opened:
        opened.pages[0].tags["PhotometricInterpretation"].overwrite(3)
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels[0], np.where(VALUES > 700, 0, 255))
    np.testing.assert_array_equal(image.pixels[2], np.where(VALUES > 700, 255, 0))


# Series


def series_of(folder: Path, count: int = 6, digits: int | None = None, step: float = 5.0, **more: Any) -> Path:
    folder.mkdir()
    for number in range(count):
        place = number * step
        dicom_file(
            folder / f"IM{number:03d}",
            VALUES + number,
            Modality="CT",
            SeriesInstanceUID="1.2.3",
            RescaleSlope=1,
            RescaleIntercept=-1024,
            PixelSpacing=[0.5, 0.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, place if digits is None else round(place, digits)],
            **more,
        )
    return folder


def test_litter_and_objects_without_an_image_are_left_aside_and_named(tmp_path: Path) -> None:
    folder = series_of(tmp_path / "series")
    (folder / "._IM000.dcm").write_bytes(b"\0\5\26\7" + b"\0" * 60)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("for research")
    (folder / "more").mkdir()
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.9"
    report.file_meta.MediaStorageSOPClassUID, report.file_meta.MediaStorageSOPInstanceUID = report.SOPClassUID, "1.2.9"
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    image, header = read_image(folder), read_header(folder)
    assert image.size == header.size == (32, 32, 6) and image.left_aside == header.left_aside
    assert header.left_aside == (
        "more (a folder)",
        "._IM000.dcm (no image by its name)",
        "Thumbs.db (no image by its name)",
        "notes.txt (no DICOM)",
        "report.dcm (Basic Text SR Storage)",
    )


@pytest.mark.parametrize("name", ["IM005", "IM006", "last.dcm"])
def test_an_empty_file_may_be_a_slice(tmp_path: Path, name: str) -> None:
    folder = series_of(tmp_path / "series")
    (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"{name} is empty .*perhaps a slice that was not copied"):
        read_image(folder)


def test_a_slice_without_preamble_is_a_slice(tmp_path: Path) -> None:
    folder = series_of(tmp_path / "series")
    data = pydicom.dcmread(folder / "IM005")
    data.file_meta, data.preamble = FileMetaDataset(), None
    dcmwrite(folder / "IM005", data, implicit_vr=True, little_endian=True)
    assert read_image(folder).size == (32, 32, 6)


@pytest.mark.parametrize(("step", "digits"), [(0.625, 1), (1.25, 1), (0.7031, 2), (2.3, 1), (1.5, 0)])
def test_positions_may_be_rounded(tmp_path: Path, step: float, digits: int) -> None:
    folder = series_of(tmp_path / "series", 12, digits, step)
    if step < 4 * 10.0**-digits:
        # So coarse a rounding could hide a missing slice.
        with pytest.raises(UserError, match=r"unevenly spaced|with one position"):
            read_image(folder)
    else:
        assert read_image(folder).spacing[2] == pytest.approx(step, abs=0.6 * 10.0**-digits / 11 * 2)


@pytest.mark.parametrize("missing", [1, 5, 10])
def test_a_missing_slice_does_not_pass_for_rounding(tmp_path: Path, missing: int) -> None:
    folder = series_of(tmp_path / "series", 12, 1, 0.625)
    (folder / f"IM{missing:03d}").unlink()
    with pytest.raises(UserError, match="slices are missing or unevenly spaced"):
        read_image(folder)


@pytest.mark.parametrize(("step", "digits"), [(1.0, 1), (0.6, 2), (2.5, 1)])
def test_oblique_positions_may_be_rounded(tmp_path: Path, step: float, digits: int) -> None:
    """Rounding moves slices sideways a little, which is no tilt of the gantry."""
    angle = np.deg2rad(17)
    row, column = np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    folder = series_of(tmp_path / "series", 12)
    for number in range(12):
        data = pydicom.dcmread(folder / f"IM{number:03d}")
        data.ImageOrientationPatient = [round(float(value), 6) for value in (*row, *column)]
        place = np.array([-31.37, 22.61, 88.0]) + number * step * normal
        data.ImagePositionPatient = [round(float(value), digits) for value in place]
        data.save_as(folder / f"IM{number:03d}")
    assert min(read_image(folder).spacing) == pytest.approx(0.5) and sorted(read_image(folder).size) == [12, 32, 32]


def test_a_segmentation_in_the_folder_is_no_slice(tmp_path: Path) -> None:
    folder = series_of(tmp_path / "series")
    dicom_file(folder / "seg.dcm", VALUES, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")
    assert read_image(folder).size == (32, 32, 6)
    assert read_header(folder).left_aside == ("seg.dcm (Segmentation Storage)",)
