"""Label maps as people store them have the labels that they meant, or are refused by name."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from dicom_files import dicom_file
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.data.masks import read_mask

LABELS = np.random.default_rng(0).integers(0, 4, (9, 11)).astype(np.uint8)
COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def low_bit_png(path: Path, bits: int, labels: np.ndarray) -> None:
    """A grey PNG of 1, 2 or 4 bits, written by hand."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b""
    for row in labels:
        binary = "".join(f"{label:0{bits}b}" for label in row)
        binary += "0" * (-len(binary) % 8)
        rows += b"\0" + bytes(int(binary[start : start + 8], 2) for start in range(0, len(binary), 8))
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def palette(path: Path) -> None:
    made = Pillow.fromarray(LABELS, mode="P")
    made.putpalette(COLOURS)
    made.save(path)


WAYS: dict[str, Callable[[Path], None]] = {
    "grey.png": lambda path: Pillow.fromarray(LABELS).save(path),
    "deep.png": lambda path: Pillow.fromarray(LABELS.astype(np.uint16)).save(path),
    "palette.png": palette,
    "palette.tif": palette,
    "equal.png": lambda path: Pillow.fromarray(np.stack([LABELS] * 3, -1)).save(path),
    "opaque.png": lambda path: Pillow.fromarray(np.dstack([LABELS] * 3 + [np.full_like(LABELS, 255)])).save(path),
    "bits2.png": lambda path: low_bit_png(path, 2, LABELS),
    "bits4.png": lambda path: low_bit_png(path, 4, LABELS),
    "equal.tif": lambda path: tifffile.imwrite(path, np.stack([LABELS] * 3, -1), photometric="rgb"),
    "white.tif": lambda path: tifffile.imwrite(path, LABELS, photometric="miniswhite"),
    "float.tif": lambda path: tifffile.imwrite(path, LABELS.astype(np.float32) + np.float32(2e-4)),
    "mask.dcm": lambda path: dicom_file(path, LABELS) and None,
    "colour.dcm": lambda path: dicom_file(path, np.stack([LABELS] * 3, -1), "RGB") and None,
}


@pytest.mark.parametrize("name", WAYS)
def test_labels_are_those_that_were_meant(tmp_path: Path, name: str) -> None:
    WAYS[name](tmp_path / name)
    mask = read_mask(tmp_path / name)
    np.testing.assert_array_equal(mask.pixels[0], LABELS)
    assert mask.pixels.shape == (1, *LABELS.shape)


@pytest.mark.parametrize("name", ["bits1.png", "bits1.tif"])
def test_one_bit_is_label_one(tmp_path: Path, name: str) -> None:
    Pillow.fromarray(LABELS > 1).save(tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / name).pixels[0], LABELS > 1)


@pytest.mark.parametrize("noise", [1.00001526, 0.9995])
def test_labels_with_the_noise_of_a_scale(tmp_path: Path, noise: float) -> None:
    labels = LABELS[..., None].astype(np.float32) * np.float32(noise if noise > 1 else 1)
    labels = labels if noise > 1 else np.where(labels == 1, noise, labels)
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.float32), np.eye(4)), tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz").pixels[0], LABELS[..., None])


def test_what_is_no_label_map_is_refused_by_its_reason(tmp_path: Path) -> None:
    coloured = np.stack([LABELS, LABELS, LABELS + 1], -1)
    Pillow.fromarray(coloured).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match="it is in colour; save it with one channel"):
        read_mask(tmp_path / "colour.png")
    clear = np.dstack([LABELS] * 3 + [LABELS * 60])
    Pillow.fromarray(clear).save(tmp_path / "clear.png")
    with pytest.raises(UserError, match="partly transparent"):
        read_mask(tmp_path / "clear.png")
    tifffile.imwrite(tmp_path / "half.tif", LABELS / np.float32(2))
    with pytest.raises(UserError, match="values that are not whole numbers"):
        read_mask(tmp_path / "half.tif")
    tifffile.imwrite(tmp_path / "low.tif", LABELS.astype(np.float32) - 5)
    with pytest.raises(UserError, match="values range from -5"):
        read_mask(tmp_path / "low.tif")


def test_a_jpeg_changes_labels(tmp_path: Path) -> None:
    Pillow.fromarray(np.kron(LABELS, np.ones((8, 8), np.uint8)) * 60).save(tmp_path / "m.jpg", quality=80)
    with pytest.raises(UserError, match="is a JPEG, whose compression changes labels"):
        read_mask(tmp_path / "m.jpg")
    Pillow.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "full.jpg")
    assert np.unique(read_mask(tmp_path / "full.jpg").pixels).tolist() == [255]
