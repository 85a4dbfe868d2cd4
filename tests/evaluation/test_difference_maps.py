"""Pictures of differences: the right numbers in the right unit, in 2-D and 3-D."""

import io

import numpy as np
from PIL import Image

from medloom.evaluation.difference_maps import DifferenceRow, draw_differences


def test_a_difference_is_in_the_image_s_unit() -> None:
    factual = np.zeros((3, 8, 8), np.float32)
    arm = factual.copy()
    arm[:, 2:4] = 0.5
    row = DifferenceRow("CT", "HU", 2000.0, factual, {"smoking=never": arm})
    expected = np.zeros((8, 8))
    expected[2:4] = 500
    np.testing.assert_allclose(row.difference("smoking=never"), expected)


def test_volumes_show_their_middle_slice() -> None:
    factual = np.zeros((1, 6, 4, 5), np.float32)
    arm = factual.copy()
    # Patient's left is high in R of RAS order, and on the right of a radiologist's picture.
    arm[0, 0, :, 2] = 1.0
    row = DifferenceRow("MR", "relative", 1.0, factual, {"age=24": arm})
    difference = row.difference("age=24")
    assert difference.shape == (4, 6) and np.count_nonzero(difference.any(axis=0)) == 1
    picture = Image.open(io.BytesIO(draw_differences([row, row], "title")))
    assert picture.info["SYNTHETIC"] == "YES" and picture.width > picture.height
