"""Every format is written by another library and read back with known values; damaged files give one sentence."""

import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from dicom_files import dicom_file
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE
from medloom.data.images import (
    DERIVED_FORMATS,
    check_pixels,
    read_header,
    read_image,
    read_provenance,
    readers_at_once,
    write_derived,
    write_image,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
GREY8 = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
GREY16 = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2500
COLOUR8 = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3
COLOUR16 = np.arange(72, dtype=np.uint16).reshape(4, 6, 3) * 900


def agree(path: Path, expected: Any, unit: str, full_scale: float) -> Image:
    """Read, and compare with `(rows, columns)` or `(rows, columns, 3)` and with what the header says."""
    image, header = read_image(path), read_header(path)
    expected = np.asarray(expected, dtype=np.float32)
    planes = expected[None] if expected.ndim == 2 else np.moveaxis(expected, -1, 0)
    np.testing.assert_allclose(image.pixels, planes, rtol=1e-6)
    assert image.pixels.dtype == np.float32
    assert image.unit == header.unit == unit
    np.testing.assert_equal((image.full_scale, header.full_scale), (full_scale, full_scale))
    assert (header.channels, *header.size) == image.pixels.shape
    assert header.spacing == image.spacing
    return image


# PNG and JPEG


@pytest.mark.parametrize("pixels", [GREY8, COLOUR8])
def test_png_8_bit(tmp_path: Path, pixels: np.ndarray) -> None:
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    agree(tmp_path / "a.png", pixels, COLOUR if pixels.ndim == 3 else GREY, 255)


@pytest.mark.parametrize("pixels", [GREY16, COLOUR16])
def test_png_16_bit(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    agree(tmp_path / "a.png", pixels, COLOUR if pixels.ndim == 3 else GREY, 65535)


def test_png_1_bit(tmp_path: Path) -> None:
    Pillow.fromarray(GREY8 > 100).save(tmp_path / "a.png")
    agree(tmp_path / "a.png", (GREY8 > 100) * 255, GREY, 255)


def test_palette_becomes_colour(tmp_path: Path) -> None:
    opened = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    opened.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    opened.save(tmp_path / "a.png")
    agree(tmp_path / "a.png", [[[10, 20, 30], [200, 100, 0]], [[7, 8, 9], [200, 100, 0]]], COLOUR, 255)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_is_composited_on_black(tmp_path: Path, deep: bool, colours: int) -> None:
    top, kind = (65535, np.uint16) if deep else (255, np.uint8)
    pixels = np.full((2, 2, colours + 1), top, kind)
    pixels[..., -1] = [[0, top], [top, 0]]
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    shown = np.array([[0, top], [top, 0]])
    agree(
        tmp_path / "a.png", shown if colours == 1 else np.stack([shown] * 3, -1), GREY if colours == 1 else COLOUR, top
    )


def test_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    opened = Pillow.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    opened.putpalette([10, 20, 30, 200, 100, 0])
    opened.save(tmp_path / "a.png", transparency=0)
    agree(tmp_path / "a.png", [[[0, 0, 0], [200, 100, 0]]], COLOUR, 255)


@pytest.mark.parametrize("colours", [1, 3])
def test_jpeg(tmp_path: Path, colours: int) -> None:
    pixels = np.repeat(np.repeat(GREY8, 8, 0), 8, 1)
    pixels = np.stack([pixels] * 3, -1) if colours == 3 else pixels
    Pillow.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    image = read_image(tmp_path / "a.jpg")
    assert image.unit == (COLOUR if colours == 3 else GREY)
    assert image.pixels.shape == (colours, 32, 48)
    np.testing.assert_allclose(image.pixels[0], pixels[..., 0] if colours == 3 else pixels, atol=3)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    pixels = np.repeat(np.repeat(GREY8, 8, 0), 8, 1)
    for orientation, shown in {3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1), 8: np.rot90(pixels)}.items():
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        Pillow.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, exif=exif)
        np.testing.assert_allclose(read_image(tmp_path / "a.jpg").pixels[0], shown, atol=3)
        assert read_header(tmp_path / "a.jpg").size == shown.shape


# TIFF


@pytest.mark.parametrize("pixels", [GREY8, GREY16, COLOUR8, COLOUR16])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_tiff(tmp_path: Path, pixels: np.ndarray, compression: str | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression)
    full_scale = 255 if pixels.dtype == np.uint8 else 65535
    agree(tmp_path / "a.tif", pixels, COLOUR if pixels.ndim == 3 else GREY, full_scale)


def test_tiff_by_pillow(tmp_path: Path) -> None:
    Pillow.fromarray(GREY8 > 100).save(tmp_path / "bits.tif", compression="group4")
    agree(tmp_path / "bits.tif", (GREY8 > 100) * 255, GREY, 255)
    palette = Pillow.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.save(tmp_path / "palette.tif")
    agree(tmp_path / "palette.tif", [[[10, 20, 30], [200, 100, 0]]], COLOUR, 255)
    Pillow.fromarray(np.dstack([COLOUR8, np.full((4, 6), 255, np.uint8)])).save(tmp_path / "alpha.tif")
    agree(tmp_path / "alpha.tif", COLOUR8, COLOUR, 255)


def test_tiff_white_is_zero_planar_and_float(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "white.tif", GREY8, photometric="miniswhite")
    agree(tmp_path / "white.tif", 255 - GREY8, GREY, 255)
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(COLOUR16, -1, 0), photometric="rgb", planarconfig="separate")
    agree(tmp_path / "planar.tif", COLOUR16, COLOUR, 65535)
    tifffile.imwrite(tmp_path / "float.tif", GREY16.astype(np.float32) / 7)
    agree(tmp_path / "float.tif", GREY16.astype(np.float32) / 7, RELATIVE, np.nan)


def test_tiff_pages_need_a_frame(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY8, GREY8 + 1]), photometric="minisblack")
    assert read_header(tmp_path / "a.tif").frames == 2
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", frame=1).pixels[0], GREY8 + 1)
    with pytest.raises(UserError, match=r"holds 2 frames; name one, 0 to 1"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(UserError, match="no frame 2"):
        read_image(tmp_path / "a.tif", frame=2)


# DICOM


CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def test_ct_is_in_hu_with_its_geometry(tmp_path: Path) -> None:
    stored = GREY16 % 3000
    plane = {
        "PixelSpacing": [0.5, 0.8],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, 30],
        "SliceThickness": 2.5,
    }
    image = agree(dicom_file(tmp_path / "a.dcm", stored, **CT, **plane), stored - 1024.0, HU, np.nan)
    assert image.modality == "CT" and image.spacing == (0.5, 0.8) and image.affine is not None
    # Row 1 and column 2: 1.6 mm to the left of the corner, which is 10 mm right and 20 mm in front.
    np.testing.assert_allclose(image.affine @ [1, 2, 0, 1], [10 - 1.6, 20 - 0.5, 30, 1])


def test_dicom_is_found_by_its_content(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "1.2.840.113", GREY8)
    agree(path, GREY8, GREY, 255)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    agree(dicom_file(tmp_path / "a.dcm", GREY8, "MONOCHROME1"), 255 - GREY8, GREY, 255)
    path = dicom_file(tmp_path / "b.dcm", GREY16 % 4096, "MONOCHROME1", Modality="DX", BitsStored=12, HighBit=11)
    agree(path, 4095 - GREY16 % 4096, RELATIVE, np.nan)


def test_the_window_that_a_file_states(tmp_path: Path) -> None:
    stored = (GREY8.astype(np.int16) + 1000).astype(np.int16)
    assert read_image(dicom_file(tmp_path / "none.dcm", stored, **CT)).window is None
    window = {"WindowCenter": [40, 600], "WindowWidth": [80, 2800]}
    assert read_image(dicom_file(tmp_path / "ct.dcm", stored, **CT, **window)).window == (0.0, 80.0)
    # As bright as the file has it: where less is brighter, both ends change places.
    dark = {"WindowCenter": 100, "WindowWidth": 60, "Modality": "DX", "BitsStored": 12, "HighBit": 11}
    path = dicom_file(tmp_path / "dx.dcm", GREY16 % 4096, "MONOCHROME1", **dark)
    assert read_image(path).window == (4095.0 - 130, 4095.0 - 70)
    assert read_image(dicom_file(tmp_path / "flat.dcm", stored, **CT, WindowCenter=40, WindowWidth=0)).window is None


@pytest.mark.parametrize("stated", [-2000, 63536])
def test_padding_is_masked(tmp_path: Path, stated: int) -> None:
    stored = np.array([[-2000, 5], [6, -2000]], np.int16)
    path = dicom_file(tmp_path / "a.dcm", stored, **CT)
    data = pydicom.dcmread(path)
    data.add_new(0x00280120, "SS" if stated < 0 else "US", stated)
    data.save_as(path)
    mask = read_image(path).padding
    assert mask is not None
    np.testing.assert_array_equal(mask, stored == -2000)


def test_padding_range(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "a.dcm", GREY8, PixelPaddingValue=0, PixelPaddingRangeLimit=20)
    mask = read_image(path).padding
    assert mask is not None
    np.testing.assert_array_equal(mask, GREY8 <= 20)


def test_modality_lut(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = struct.pack("<4H", 100, 200, 400, 800)
    stored = np.array([[0, 1], [2, 3]], np.uint8)
    agree(
        dicom_file(tmp_path / "a.dcm", stored, ModalityLUTSequence=[table]), [[100, 200], [400, 800]], RELATIVE, np.nan
    )


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_syntaxes(tmp_path: Path, syntax: str) -> None:
    stored = np.repeat(np.repeat(GREY16 % 3000, 16, 0), 16, 1)
    path = dicom_file(tmp_path / "a.dcm", stored, **CT)
    data = pydicom.dcmread(path)
    data.compress(syntax)
    data.save_as(path)
    agree(path, stored - 1024.0, HU, np.nan)


JPEG_CODES = {
    "1.2.840.10008.1.2.4.57": partial(imagecodecs.ljpeg_encode, bitspersample=12),
    "1.2.840.10008.1.2.4.70": partial(imagecodecs.ljpeg_encode, bitspersample=12),
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode,
    "1.2.840.10008.1.2.4.81": partial(imagecodecs.jpegls_encode, level=0),
}


def recoded(path: Path, stored: np.ndarray, syntax: str, code: bytes) -> Path:
    """A CT of 12 bits whose pixels are compressed."""
    data = pydicom.dcmread(dicom_file(path, stored, **CT))
    data.BitsStored, data.HighBit = 12, 11
    data.PixelData = pydicom.encaps.encapsulate([code])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path)
    return path


@pytest.mark.parametrize("syntax", JPEG_CODES)
def test_lossless_jpeg_is_exact(tmp_path: Path, syntax: str) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (24, 17)).astype(np.uint16)
    path = recoded(tmp_path / "a.dcm", stored, syntax, JPEG_CODES[syntax](stored))
    agree(path, stored - 1024.0, HU, np.nan)


def test_jpeg_of_twelve_bits(tmp_path: Path) -> None:
    stored = (2000 + 1500 * np.sin(np.arange(64) / 9) * np.cos(np.arange(48) / 7)[:, None]).astype(np.uint16)
    code = imagecodecs.jpeg8_encode(stored, level=100, bitspersample=12)
    path = recoded(tmp_path / "a.dcm", stored, "1.2.840.10008.1.2.4.51", code)
    np.testing.assert_allclose(read_image(path).pixels[0], stored - 1024.0, atol=3)
    pytest.importorskip("libjpeg", reason="pylibjpeg-libjpeg, another decoder, is not installed")
    other = pydicom.pixels.pixel_array(path, decoding_plugin="pylibjpeg")
    np.testing.assert_allclose(read_image(path).pixels[0], other - 1024.0, atol=1)


def test_jpeg_baseline_in_ybr(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([200, 50, 100], np.uint8), (32, 32, 3)).copy()
    path = dicom_file(tmp_path / "a.dcm", flat, "RGB")
    data = pydicom.dcmread(path)
    data.PixelData = pydicom.encaps.encapsulate([imagecodecs.jpeg8_encode(flat, level=100)])
    data["PixelData"].VR = "OB"
    data.PhotometricInterpretation = "YBR_FULL_422"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    data.save_as(path)
    image = read_image(path)
    assert image.unit == COLOUR
    np.testing.assert_allclose(image.pixels.mean((1, 2)), [200, 50, 100], atol=2)


def test_ybr_is_turned_to_rgb(tmp_path: Path) -> None:
    stored = np.broadcast_to(np.array([76, 85, 255], np.uint8), (2, 2, 3)).copy()
    image = read_image(dicom_file(tmp_path / "a.dcm", stored, "YBR_FULL"))
    np.testing.assert_allclose(image.pixels[:, 0, 0], [254, 0, 0], atol=2)


def test_palette_dicom(tmp_path: Path) -> None:
    entries = {"Red": [0, 60000], "Green": [257, 0], "Blue": [65535, 1]}
    tables = {f"{name}PaletteColorLookupTableDescriptor": [2, 0, 16] for name in entries}
    data = {f"{name}PaletteColorLookupTableData": struct.pack("<2H", *values) for name, values in entries.items()}
    path = dicom_file(tmp_path / "a.dcm", np.array([[0, 1]], np.uint8), "PALETTE COLOR", **tables, **data)
    agree(path, [[[0, 257, 65535], [60000, 0, 1]]], COLOUR, 65535)


def test_frames_and_functional_groups(tmp_path: Path) -> None:
    def group(name: str, **values: Any) -> list[Dataset]:
        item, outer = Dataset(), Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(outer, name, [item])
        return [outer]

    frames = [
        group("PixelValueTransformationSequence", RescaleSlope=s, RescaleIntercept=-1000, RescaleType="HU")[0]
        for s in (1, 2)
    ]
    path = dicom_file(
        tmp_path / "a.dcm",
        np.stack([GREY8, GREY8]),
        Modality="CT",
        SharedFunctionalGroupsSequence=group("PixelMeasuresSequence", PixelSpacing=[2, 3]),
        PerFrameFunctionalGroupsSequence=frames,
    )
    assert read_header(path).frames == 2
    second = read_image(path, frame=1)
    np.testing.assert_array_equal(second.pixels[0], GREY8 * 2.0 - 1000)
    assert second.unit == HU and second.spacing == (2, 3) and second.frame == 1
    with pytest.raises(UserError, match="holds 2 frames"):
        read_image(path)


def test_dicom_without_image(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "a.dcm", GREY8)
    data = pydicom.dcmread(path)
    del data.Rows
    data.save_as(path)
    with pytest.raises(UserError, match="holds no image"):
        read_image(path)


# Volumes: values and units; geometry is in test_geometry.py


def test_nifti_scale_and_units(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    written = nibabel.Nifti1Image(values, np.diag([0.001, 0.002, 0.003, 1]))
    written.header.set_slope_inter(2, -5)
    written.header.set_xyzt_units("meter")
    nibabel.save(written, tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz", unit=HU)
    np.testing.assert_allclose(image.spacing, (1, 2, 3), rtol=1e-6)
    assert image.unit == HU and image.pixels.shape == (1, 2, 3, 4)
    np.testing.assert_allclose(image.pixels[0], nibabel.load(tmp_path / "a.nii.gz").get_fdata())
    assert read_image(tmp_path / "a.nii.gz").unit == RELATIVE


def test_series_of_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.T, isVector=False), tmp_path / "a.nrrd")
    for path in (tmp_path / "a.nii", tmp_path / "a.nrrd"):
        with pytest.raises(UserError, match="holds 5 frames"):
            read_image(path)
        assert read_header(path).frames == 5
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii", frame=3).pixels[0], values[..., 3])
    # An ITK identity direction points left and back.
    np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd", frame=3).pixels[0], values[::-1, ::-1, :, 3])


@pytest.mark.parametrize("unit", ["hounsfield", COLOUR, GREY])
def test_a_unit_that_cannot_be(tmp_path: Path, unit: str) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"unit|levels"):
        read_image(tmp_path / "a.nii", unit=unit)


def test_unit_is_not_given_to_a_file_that_states_it(tmp_path: Path) -> None:
    Pillow.fromarray(GREY8).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="states its own unit"):
        read_image(tmp_path / "a.png", unit=HU)


# Files that cannot be read


def save_any(path: Path) -> None:
    """A readable file of 64 x 64 noise, in the format that the ending names."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    if path.suffix in (".png", ".jpg"):
        Pillow.fromarray(noise).save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, noise, compression="lzw")
    elif path.suffix == ".dcm":
        dicom_file(path, noise)
    elif ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(noise[..., None], np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise[None]), path)


ENDINGS = (".png", ".jpg", ".tif", ".dcm", ".nii", ".nii.gz", ".mha", ".nrrd")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kept", [0.002, 0.5, 0.97])
def test_truncated_files(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a{ending}"
    save_any(path)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * kept))])
    with pytest.raises(UserError, match=r"cannot be read|cut short|holds no image|no pixel data") as error:
        read_image(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("ending", (*ENDINGS, ".mhd", ".txt"))
@pytest.mark.parametrize("content", [b"", b"not an image at all\n" * 40])
@pytest.mark.parametrize("read", [read_image, read_header])
def test_lying_files(tmp_path: Path, ending: str, content: bytes, read: Callable[[Path], object]) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=path.name) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_truncated_mhd_values_and_compressed_dicom(tmp_path: Path) -> None:
    save_any(tmp_path / "a.mhd")
    raw = tmp_path / "a.raw"
    raw.write_bytes(raw.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "a.mhd")
    raw.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "a.mhd")
    save_any(tmp_path / "a.dcm")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.compress(JPEG2000Lossless)
    data.save_as(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError):
        read_image(tmp_path / "a.dcm")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match="folder"):
        read_header(tmp_path)


def test_decompression_bomb(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    for depth in (8, 16):
        header = struct.pack(">IIBBBBB", 60000, 60000, depth, 2, 0, 0, 0)
        pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
        with pytest.raises(UserError, match="pixels"):
            read_image(tmp_path / "a.png")


def test_header_that_claims_too_much(tmp_path: Path) -> None:
    save_any(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[42:48] = struct.pack("<3h", 32000, 32000, 32000)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(UserError, match="claims a size of 32000 x 32000 x 32000"):
        read_image(tmp_path / "a.nii")


def test_check_pixels() -> None:
    ramp = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    check_pixels(Image(ramp, RELATIVE), Path("a.nii"))
    with pytest.raises(UserError, match=r"a\.nii holds 1 values that are not finite"):
        check_pixels(Image(np.where(ramp == 2, np.nan, ramp), RELATIVE), Path("a.nii"))
    with pytest.raises(UserError, match="constant"):
        check_pixels(Image(ramp * 0 + 3, RELATIVE), Path("a.nii"))
    with pytest.raises(UserError, match="constant"):
        check_pixels(Image(ramp, RELATIVE, padding=ramp[0] > 0), Path("a.nii"))


# Writing

PROVENANCE = {"model": "0123", "seed": "7", "note": 'é "quoted" = x'}


def hu_slice() -> Image:
    values = np.random.default_rng(0).integers(-1024, 3000, (1, 20, 31)).astype(np.float32)
    affine = np.array([[0, -0.7, 0, 5.0], [-0.5, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    return Image(values, HU, spacing=(0.5, 0.7), affine=affine)


def levels(channels: int, full_scale: float) -> Image:
    values = np.random.default_rng(0).integers(0, int(full_scale) + 1, (channels, 21, 31)).astype(np.float32)
    return Image(values, COLOUR if channels == 3 else GREY, full_scale)


@pytest.mark.parametrize(
    ("ending", "image"),
    [
        (".png", levels(1, 255)),
        (".png", levels(3, 255)),
        (".png", levels(1, 65535)),
        (".tif", levels(1, 255)),
        (".tif", levels(3, 65535)),
        (".dcm", levels(1, 255)),
        (".dcm", levels(3, 255)),
        (".dcm", hu_slice()),
    ],
)
def test_written_levels_and_provenance_come_back(tmp_path: Path, ending: str, image: Image) -> None:
    path = tmp_path / "new" / f"a{ending}"
    write_image(path, image, PROVENANCE)
    back = read_image(path)
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert back.unit == image.unit
    assert read_provenance(path) == {"SYNTHETIC": "YES", **PROVENANCE}
    assert next(iter(read_provenance(path))) == "SYNTHETIC"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    if image.affine is not None and back.affine is not None:
        np.testing.assert_allclose(back.affine, image.affine, atol=1e-6)


def unplaced(spacing: tuple[float, ...] | None) -> Image:
    """HU of which no position is known."""
    return Image(hu_slice().pixels, HU, spacing=spacing)


def projection() -> Image:
    return replace(levels(1, 255), spacing=(0.2, 0.2), directions=("L", "F"))


@pytest.mark.parametrize("spacing", [None, (0.5, 0.7)])
def test_hu_without_a_position_are_a_secondary_capture_without_one(
    tmp_path: Path, spacing: tuple[float, ...] | None
) -> None:
    """CT Image Storage requires position, orientation and spacing; none of them is made up."""
    image = unplaced(spacing)
    write_image(tmp_path / "a.dcm", image, PROVENANCE)
    data, back = pydicom.dcmread(tmp_path / "a.dcm"), read_image(tmp_path / "a.dcm")
    assert data.SOPClassUID.name == "Secondary Capture Image Storage" and data.RescaleType == "HU"
    assert back.unit == HU and back.spacing == spacing and back.affine is None
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert ("PixelSpacing" in data) is (spacing is not None)
    assert "ImagePositionPatient" not in data and "SliceThickness" not in data


def test_a_thickness_that_nobody_stated_is_not_written(tmp_path: Path) -> None:
    unstated = hu_slice().affine * [1, 1, 0.5, 1]
    for affine, thickness in ((hu_slice().affine, 2), (unstated, None)):
        write_image(tmp_path / "a.dcm", replace(hu_slice(), affine=affine), PROVENANCE)
        assert pydicom.dcmread(tmp_path / "a.dcm").SliceThickness == thickness
        np.testing.assert_allclose(read_image(tmp_path / "a.dcm").affine, affine, atol=1e-6)


def test_directions_of_a_projection_come_back(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", projection(), PROVENANCE)
    assert read_image(tmp_path / "a.dcm").directions == read_header(tmp_path / "a.dcm").directions == ("L", "F")


def test_images_of_one_series_are_named_together(tmp_path: Path) -> None:
    made = []
    for number, series in enumerate((("row 1", "a", 1), ("row 1", "a", 2), ("row 1", "b", 1), ("row 2", "a", 1), None)):
        write_image(tmp_path / f"{number}.dcm", replace(hu_slice(), series=series), PROVENANCE)
        made.append(pydicom.dcmread(tmp_path / f"{number}.dcm"))
    studies, series_uids = (
        [str(data[name].value) for data in made] for name in ("StudyInstanceUID", "SeriesInstanceUID")
    )
    assert studies[0] == studies[1] == studies[2] and len(set(studies)) == 3
    assert series_uids[0] == series_uids[1] and len(set(series_uids)) == 4
    assert [int(data.InstanceNumber) for data in made] == [1, 2, 1, 1, 1]
    assert len({data.SOPInstanceUID for data in made}) == 5
    assert made[0].FrameOfReferenceUID == made[2].FrameOfReferenceUID != made[3].FrameOfReferenceUID


def test_relative_values_become_levels(tmp_path: Path) -> None:
    image = Image(np.array([[[0, 0.5, 1]]], np.float32), RELATIVE)
    write_image(tmp_path / "a.png", image, {})
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, [[[0, 128, 255]]])
    write_image(tmp_path / "a.tif", image, {})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, image.pixels)


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("a.png", hu_slice(), "HU"),
        ("a.tif", hu_slice(), "HU"),
        ("a.jpg", levels(1, 255), "not in a format that can be written"),
        ("a.png", levels(3, 65535), "16"),
        ("a.nii.gz", levels(3, 255), "one channel"),
        ("a.mha", levels(3, 255), "one channel"),
        ("a.png", Image(np.full((1, 2, 2), 7, np.float32), RELATIVE), "0 to 1"),
        ("a.dcm", Image(np.zeros((1, 2, 2, 2), np.float32), HU), "volume"),
        ("a.png", Image(np.zeros((1, 2, 2, 2), np.float32), GREY, 255), "volume"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path: Path, name: str, image: Image, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_image(tmp_path / name, image, {})
    assert not list(tmp_path.iterdir())


def test_a_real_file_has_no_provenance(tmp_path: Path) -> None:
    for ending in (".png", ".tif", ".dcm", ".nii.gz", ".mha"):
        save_any(tmp_path / f"a{ending}")
        assert read_provenance(tmp_path / f"a{ending}") == {}


def test_written_dicom_names_nobody(tmp_path: Path) -> None:
    for image, sop_class in ((hu_slice(), "CT Image Storage"), (levels(1, 255), "Secondary Capture Image Storage")):
        write_image(tmp_path / "a.dcm", image, PROVENANCE)
        data = pydicom.dcmread(tmp_path / "a.dcm")
        assert data.SOPClassUID.name == sop_class
        assert (data.SyntheticData, data.ContentQualification, data.PatientName) == ("YES", "RESEARCH", "SYNTHETIC")
        assert list(data.ImageType)[:2] == ["DERIVED", "SECONDARY"] and not data.PatientID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize(
    "image",
    [hu_slice(), unplaced(None), unplaced((0.5, 0.7)), projection(), levels(1, 255), levels(1, 65535), levels(3, 255)],
)
def test_written_dicom_passes_dciodvfy(tmp_path: Path, image: Image) -> None:
    write_image(tmp_path / "a.dcm", image, PROVENANCE)
    result = subprocess.run(["dciodvfy", "-new", tmp_path / "a.dcm"], capture_output=True, text=True, check=False)
    errors = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("Error")]
    # Synthetic Data is younger than the checker's dictionary in some releases.
    assert [line for line in errors if "(0008,001c)" not in line] == []


def test_import_is_cheap() -> None:
    code = (
        "import sys, medloom.data.images, medloom.data.transforms;"
        "print({'torch', 'nibabel', 'SimpleITK', 'pydicom', 'tifffile', 'scipy', 'PIL'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


@pytest.mark.shared
def test_real_files() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is missing")
    paths = [*(SHARED / "dicom").glob("*.dcm"), *sorted((SHARED / "nifti").glob("*FLAIR*"))[:1]]
    paths += sorted((SHARED / "cxr").glob("*.jpg"))[:5] + sorted((SHARED / "cxr_masks").glob("*.png"))[:5]
    for path in paths:
        image, header = read_image(path), read_header(path)
        check_pixels(image, path)
        assert (header.channels, *header.size) == image.pixels.shape and header.unit == image.unit
        if image.unit == HU:
            assert image.pixels.min() <= -1000 and image.pixels.max() > 500


@pytest.mark.parametrize("ending", DERIVED_FORMATS)
def test_a_patients_resampled_image_does_not_say_that_it_is_synthetic(tmp_path: Path, ending: str) -> None:
    size, unit = ((4, 5, 6) if ending == ".nii.gz" else (4, 5)), {".dcm": HU, ".nii.gz": HU, ".tiff": RELATIVE}
    values = np.linspace(0, 1, int(np.prod(size)), dtype=np.float32).reshape(1, *size)
    image = Image(np.rint(values * 200), GREY, 255.0) if ending == ".png" else Image(values, unit[ending])
    if image.unit == HU:
        image = replace(image, pixels=np.rint(values * 1000 - 500))
    path = tmp_path / f"prior{ending}"
    write_derived(path, image, "registered")
    assert read_provenance(path) == {} and b"not of a patient" not in path.read_bytes()
    back = read_image(path, unit=HU if ending == ".nii.gz" else None)
    np.testing.assert_allclose(back.pixels, image.pixels, atol=1e-6)
    with pytest.raises(UserError, match="allowed endings"):
        write_derived(tmp_path / "prior.jpg", image, "registered")


def test_large_files_are_read_by_several_threads_and_small_ones_by_one(tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    small.write_bytes(bytes(9_000))
    large.write_bytes(bytes(200_000))
    assert readers_at_once([small, large]) == readers_at_once([]) == 1
    assert readers_at_once([large, small]) == readers_at_once(iter([tmp_path])) > 1, "a folder is a series"
    assert readers_at_once([tmp_path / "gone.png"]) == 1, "the reader says what is wrong"


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".dcm", ".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_written_in_no_format(suffix: str, bad: float, tmp_path: Path) -> None:
    pixels = np.zeros((1, 8, 8), np.float32)
    pixels[0, 3, 3] = bad
    with pytest.raises(UserError, match="would hold values that are not finite"):
        write_image(tmp_path / f"a{suffix}", Image(pixels, "grey level", full_scale=255), {})
    assert list(tmp_path.iterdir()) == []
