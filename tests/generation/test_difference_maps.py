"""Pictures of differences: the right numbers in the right unit, in 2-D and 3-D."""

import io

import numpy as np
from PIL import Image

from medloom.generation.difference_maps import DifferenceRow, draw_differences


def test_a_difference_is_in_the_image_s_unit() -> None:
    factual = np.zeros((3, 8, 8), np.float32)
    arm = factual.copy()
    arm[:, 2:4] = 0.5
    row = DifferenceRow("CT", "HU", 2000.0, factual, {"smoking=never": arm})
    expected = np.zeros((8, 8))
    expected[2:4] = 500
    np.testing.assert_allclose(row.difference("smoking=never"), expected)


def test_volumes_show_the_slice_that_changes_most_as_a_radiologist_sees_it() -> None:
    factual = np.zeros((1, 6, 4, 5), np.float32)
    arm = factual.copy()
    # In RAS order the first index of R is furthest to the patient's left, and stands on the right of the picture.
    arm[0, 0, 3, 4] = 1.0
    row = DifferenceRow("MR", "relative", 1.0, factual, {"age=24": arm})
    assert row.level == 4 and row.difference("age=24").shape == (6, 4, 5)
    shown = row.shown(row.difference("age=24")[None])[0]
    assert shown.shape == (4, 6)
    assert np.argwhere(shown).tolist() == [[0, 5]]  # anterior is up
    picture = Image.open(io.BytesIO(draw_differences([row, row], "title")))
    assert picture.info["SYNTHETIC"] == "YES" and picture.width > picture.height


def test_sizes_of_differences_have_no_sign_and_a_scale_of_a_cohort_is_kept() -> None:
    factual = np.zeros((1, 8, 8), np.float32)
    up, down = factual + 0.5, factual - 0.5
    pictures = [
        draw_differences([DifferenceRow("CT", "HU", 2000.0, factual, {"a": arm})], "t", absolute, {"HU": 700.0})
        for absolute in (True, False)
        for arm in (up, down)
    ]
    shown = [np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int) for picture in pictures]
    # The arms themselves look different; the maps, the right half of the picture, only with a sign.
    height, width = shown[0].shape[:2]
    middle = (slice(height // 3, height // 2), slice(int(width * 0.66), int(width * 0.76)))
    assert np.array_equal(shown[0][middle], shown[1][middle])
    assert not np.array_equal(shown[2][middle], shown[3][middle])
