"""The same image is the same file again, byte for byte, in every format that is written."""

from pathlib import Path

import numpy as np
import pytest

from medloom.core.image import Image
from medloom.core.spec import GREY, HU
from medloom.data.images import write_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("suffix", [".dcm", ".nii.gz", ".nrrd", ".mhd", ".png", ".tiff"])
def test_the_same_image_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    unit = GREY if suffix in (".png", ".tiff") else HU
    pixels = RNG.integers(0, 200, (1, 12, 12)).astype(np.float32)
    image = Image(pixels, unit, full_scale=255.0 if unit == GREY else float("nan"), spacing=(1.0, 1.0))
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / f"image{suffix}", image, {"seed": "1"})
        contents.append([path.read_bytes() for path in sorted((tmp_path / folder).iterdir())])
    assert contents[0] == contents[1]


def test_other_pixels_another_name_or_provenance_are_another_instance(tmp_path: Path) -> None:
    import pydicom

    one = Image(np.zeros((1, 4, 4), np.float32) + 5, HU, spacing=(1.0, 1.0))
    two = Image(np.zeros((1, 4, 4), np.float32) + 6, HU, spacing=(1.0, 1.0))
    cases = [("a.dcm", one, "1"), ("b.dcm", one, "1"), ("c/a.dcm", two, "1"), ("d/a.dcm", one, "2")]
    names = set()
    for name, image, seed in cases:
        write_image(tmp_path / name, image, {"seed": seed})
        names.add(str(pydicom.dcmread(tmp_path / name).SOPInstanceUID))
    assert len(names) == len(cases)


def test_pixels_that_are_stored_alike_are_the_same_instance(tmp_path: Path) -> None:
    for folder, rest in (("a", 0.0), ("b", 1e-4)):
        image = Image(np.full((1, 4, 4), 5 + rest, np.float32), HU, spacing=(1.0, 1.0))
        write_image(tmp_path / folder / "image.dcm", image, {"seed": "1"})
    assert (tmp_path / "a" / "image.dcm").read_bytes() == (tmp_path / "b" / "image.dcm").read_bytes()
