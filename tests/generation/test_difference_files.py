"""Differences as files: the right numbers and geometry in NIfTI, frames and colours in a GIF."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medloom.core.image import Image
from medloom.core.spec import HU
from medloom.data.images import read_image, read_provenance
from medloom.generation.difference_files import write_difference_gif, write_difference_volume
from medloom.generation.difference_maps import DifferenceRow

AFFINE = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, 10], [0, 0, 3.0, -5], [0, 0, 0, 1]], dtype=float)


def row_of(shape: tuple[int, ...]) -> DifferenceRow:
    # No two slices are alike: equal frames of a GIF would be one.
    factual = np.zeros((1, *shape), np.float32) + np.linspace(-0.5, 0.5, shape[-1], dtype=np.float32)
    arm = factual.copy()
    arm[0, 0] += 0.25
    return DifferenceRow("CT", HU, 2000.0, factual, {"smoking=never": arm})


@pytest.mark.parametrize("shape", [(6, 5, 4), (8, 8)])
def test_a_difference_in_a_file_has_unit_geometry_and_its_mark(shape: tuple[int, ...], tmp_path: Path) -> None:
    row, path = row_of(shape), tmp_path / "d.nii.gz"
    affine = AFFINE if len(shape) == 3 else None
    reference = Image(row.factual, HU, spacing=(1.5, 1.5, 3.0)[: len(shape)], affine=affine)
    write_difference_volume(path, row, "smoking=never", reference)
    read = read_image(path, unit=HU)
    values = read.pixels[0].reshape(shape)
    if len(shape) == 2:
        values = values.T[::-1]  # NIfTI counts columns first, and rows from the posterior up.
    np.testing.assert_allclose(values[0], 250.0)
    np.testing.assert_allclose(values[1:], 0.0)
    if affine is not None:
        np.testing.assert_allclose(read.affine, affine)
    assert read_provenance(path)["SYNTHETIC"] == "YES"


def test_a_gif_goes_between_two_images_or_through_a_volume(tmp_path: Path) -> None:
    write_difference_gif(tmp_path / "flat.gif", row_of((8, 8)), "smoking=never", 250.0)
    write_difference_gif(tmp_path / "solid.gif", row_of((6, 5, 4)), "smoking=never", 250.0)
    flat, solid = Picture.open(tmp_path / "flat.gif"), Picture.open(tmp_path / "solid.gif")
    assert (flat.n_frames, solid.n_frames) == (2, 4)
    assert b"SYNTHETIC" in flat.info["comment"]
    frame = np.asarray(flat.convert("RGB")).astype(int)
    height, width = frame.shape[:2]
    red, white = frame[height // 16, width * 3 // 4], frame[height * 3 // 4, width * 3 // 4]
    assert red[0] > red[2] + 50, "more is red"
    assert abs(white[0] - white[2]) < 12
