"""Differences as files: the right numbers and geometry in NIfTI, frames, labels and colours in a GIF."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medloom.core.image import Image
from medloom.core.plots import flat
from medloom.core.spec import HU
from medloom.core.tiles import LEAST, ColourScale
from medloom.data.images import read_image, read_provenance, write_image
from medloom.generation.difference_files import write_difference_gif, write_difference_volume
from medloom.generation.difference_maps import DifferenceRow

AFFINE = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, 10], [0, 0, 3.0, -5], [0, 0, 0, 1]], dtype=float)
TITLES = "generated, as recorded", "generated, smoking=never,pack_years=0,coffee=rarely", "difference"
SCALE = ColourScale(250.0, HU, "99th percentile of |difference|, the row")


def row_of(shape: tuple[int, ...]) -> DifferenceRow:
    # No two slices are alike: equal frames of a GIF would be one.
    factual = np.zeros((1, *shape), np.float32) + np.linspace(-0.5, 0.5, shape[-1], dtype=np.float32)
    arm = factual.copy()
    arm[0, 0] += 0.25
    return DifferenceRow("row 1\nCT", HU, 2000.0, factual, {"smoking=never": arm})


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


def test_a_slice_that_is_a_volume_s_file_keeps_its_place(tmp_path: Path) -> None:
    """2-D images can be written as NIfTI: of such a file the difference has the axes."""
    values = np.zeros((1, 6, 8), np.float32)
    values[0, 1, 2] = 1.0
    write_image(tmp_path / "image.nii.gz", Image(values, HU), {})
    row = DifferenceRow("row 1", HU, 2000.0, np.zeros_like(values), {"a": values})
    reference = read_image(tmp_path / "image.nii.gz", unit=HU)
    write_difference_volume(tmp_path / "d.nii.gz", row, "a", reference)
    read = read_image(tmp_path / "d.nii.gz", unit=HU)
    np.testing.assert_allclose(read.pixels, reference.pixels * 1000)
    np.testing.assert_allclose(read.affine, reference.affine)
    np.testing.assert_array_equal(flat(reference.pixels, 0), values)


def frames_of(path: Path) -> list[np.ndarray]:
    opened, frames = Picture.open(path), []
    for number in range(opened.n_frames):
        opened.seek(number)
        frames.append(np.asarray(opened.convert("RGB")).astype(int))
    return frames


def test_a_gif_goes_between_two_labelled_images(tmp_path: Path) -> None:
    row = row_of((8, 8))
    write_difference_gif(tmp_path / "flat.gif", row, "smoking=never", SCALE, "SYNTHETIC: what-if", TITLES, ["note"])
    opened = Picture.open(tmp_path / "flat.gif")
    assert opened.n_frames == 2 and opened.info["duration"] > 500 and b"SYNTHETIC" in opened.info["comment"]
    first, second = frames_of(tmp_path / "flat.gif")
    assert first.shape == second.shape and first.shape[1] > 2 * LEAST and first.shape[0] > LEAST + 100
    # The titles of the image differ, and so does the image; the heading, the difference and the notes do not.
    different = np.argwhere((first != second).any(axis=2))
    top, left = different.min(axis=0)
    bottom, right = different.max(axis=0)
    assert 20 < top < 100 and right < 30 + LEAST and bottom < first.shape[0] - 100, (top, left, bottom, right)
    ground = first[-3:, -3:]
    assert (ground == 255).all(), "white stays white among few colours"
    # The difference: its first row of pixels is more, and the rest is none.
    map_left, map_top = first.shape[1] - LEAST, int(np.flatnonzero((first[:, 5 + 14] != 255).any(axis=1)).min())
    red = [
        pixel for pixel in first[:, map_left + 20 : map_left + 40].reshape(-1, 3).tolist() if pixel[0] > pixel[2] + 60
    ]
    assert len(red) > 20 * LEAST // 8 // 2, map_top


def test_a_gif_of_an_edit_has_the_seed_among_its_notes_and_frames_of_one_size(tmp_path: Path) -> None:
    row = replace(row_of((8, 8)), captions={"smoking=never": "seed 3"})
    for name, shown in (("with", row), ("without", replace(row, captions=None))):
        path = tmp_path / f"{name}.gif"
        write_difference_gif(path, shown, "smoking=never", SCALE, "SYNTHETIC: edit", TITLES, ["note"])
    first, second = frames_of(tmp_path / "with.gif")
    without, _ = frames_of(tmp_path / "without.gif")
    assert first.shape == without.shape and (first != without).any(), "the seed is there"
    above = first.shape[0] - 100
    # The two frames differ in the image and its title only, and both images stand at one height.
    assert not (first[above:] != second[above:]).any() and (second[above:] != without[above:]).any()


def test_a_gif_goes_through_a_volume(tmp_path: Path) -> None:
    row = row_of((6, 5, 4))
    write_difference_gif(tmp_path / "solid.gif", row, "smoking=never", SCALE, "SYNTHETIC", TITLES)
    frames = frames_of(tmp_path / "solid.gif")
    assert len(frames) == 4 and frames[0].shape[1] > 3 * LEAST
    heading = [frame[:40] for frame in frames]
    assert all((heading[0] == other).all() for other in heading[1:])
    assert all((frames[0] != other).any() for other in frames[1:])


def test_a_gif_of_colour_images_keeps_them(tmp_path: Path) -> None:
    factual = np.random.default_rng(0).uniform(-1, 1, (3, 24, 24)).astype(np.float32)
    row = DifferenceRow("row 1", "sRGB level", 255.0, factual, {"a": factual * 0.9})
    write_difference_gif(tmp_path / "c.gif", row, "a", ColourScale(20.0, "sRGB level"), "h", ("f", "a", "d"))
    frame, expected = frames_of(tmp_path / "c.gif")[0], row.image(None, None).pixels.astype(int)
    left = 14
    tops = [
        top
        for top in range(30, frame.shape[0] - 192)
        if np.abs(frame[top : top + 192, left : left + 192] - expected).mean() < 20
    ]
    assert tops, "576 colours by 127"
