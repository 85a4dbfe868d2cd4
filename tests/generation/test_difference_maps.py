"""Pictures of differences: the right numbers in the right unit, in 2-D and 3-D, with a scale for each arm."""

import numpy as np
import pytest

from medloom.core.tile_texts import MARK
from medloom.core.tiles import COLOURS_NOTE, SIDES_NOTE, SIZES_NOTE
from medloom.generation.difference_maps import DifferenceRow, DifferenceScales, difference_sheet, labelled_sheet


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
    row = DifferenceRow("MR", "relative", 1.0, factual, {"age=24": arm}, ("R", "L"))
    assert row.level == 4 and row.difference("age=24").shape == (6, 4, 5)
    scales = DifferenceScales()
    scales.add(row)
    shown = row.map("age=24", row.level, scales.of("age=24", "relative"))
    assert shown.values.shape == (4, 6)
    assert np.argwhere(shown.values).tolist() == [[0, 5]]  # anterior is up
    titles = "generated, as recorded", {"age=24": "generated, age=24"}, "difference"
    drawn = difference_sheet([row], MARK, titles, {("age=24", "relative"): scales.of("age=24", "relative")})
    assert any("axial slice that its arms change most" in note for note in drawn.notes) and SIDES_NOTE in drawn.notes


def rows_of(*changes: float) -> list[DifferenceRow]:
    """Two arms, of which the second changes 100 times as much as the first."""
    rng = np.random.default_rng(0)
    factual = np.zeros((1, 16, 16), np.float32)
    pattern = rng.uniform(-1, 1, factual.shape).astype(np.float32)
    return [
        DifferenceRow(f"row {number}", "HU", 2000.0, factual, {"a": pattern * change, "b": pattern * change * 100})
        for number, change in enumerate(changes, 1)
    ]


def test_each_arm_has_the_scale_of_all_rows_whether_they_are_shown_or_not() -> None:
    rows, scales = rows_of(0.001, 0.002, 0.005), DifferenceScales()
    for row in rows:
        scales.add(row)
    for arm in ("a", "b"):
        whole = np.abs(np.concatenate([row.difference(arm) for row in rows]))
        scale = scales.of(arm, "HU")
        assert scale.reach == pytest.approx(np.quantile(whole, 0.99, method="inverted_cdf"), rel=3e-3)
        assert scale.note == "99th percentile of |difference|, all 3 rows"
    assert scales.of("b", "HU").reach == pytest.approx(100 * scales.of("a", "HU").reach, rel=5e-3)
    # The small effect is seen next to the large one: it has the same colours.
    small, large = (rows[2].map(arm, None, scales.of(arm, "HU")).pixels.astype(int) for arm in ("a", "b"))
    assert np.abs(small - large).max() < 12 and np.ptp(small) > 150


def test_arms_may_share_a_scale_and_an_arm_may_change_nothing() -> None:
    rows, scales = rows_of(0.001, 0.0), DifferenceScales()
    scales.add(rows[0], {"a": "edited", "b": "edited"})
    assert scales.of("edited", "HU").reach == pytest.approx(np.abs(rows[0].difference("b")).max(), rel=0.05)
    nothing = DifferenceScales()
    nothing.add(rows[1])
    assert nothing.of("a", "HU").reach == 1.0 and nothing.of("a", "HU").note == "hardly any difference in the row"


def test_a_sheet_names_every_panel_and_leaves_the_place_of_a_missing_arm_empty() -> None:
    (row,), scales = rows_of(0.01), DifferenceScales()
    half = DifferenceRow("row 2", "HU", 2000.0, row.factual, {"b": row.arms["b"]}, captions={"b": "seed 3"})
    for one in (row, half):
        scales.add(one)
    titles = "generated, as recorded", {"a": "generated, a", "b": "generated, b"}, "difference"
    colours = {(arm, "HU"): scales.of(arm, "HU") for arm in ("a", "b")}
    drawn = difference_sheet([row, half], f"{MARK}: what-if", titles, colours, ["All 2 rows."])
    names = ["generated, as recorded", "generated, a", "difference", "generated, b", "difference"]
    assert [column.title for column in drawn.columns] == names and list(drawn.labels) == ["row 1", "row 2"]
    assert [column.tiles[1] is None for column in drawn.columns] == [False, True, True, False, False]
    assert drawn.columns[3].tiles[1].caption == "seed 3"
    assert list(drawn.notes) == ["All 2 rows.", COLOURS_NOTE] and drawn.leading == 1
    assert drawn.columns[2].scales[0].note.endswith("the row") and drawn.columns[4].scales[0].note.endswith(
        "all 2 rows"
    )


def test_sizes_of_differences_have_no_sign() -> None:
    factual = np.zeros((1, 8, 8), np.float32)
    ramp = np.linspace(0, 0.5, 64, dtype=np.float32).reshape(1, 8, 8)
    shown = {}
    for absolute in (True, False):
        for name, arm in (("up", ramp), ("down", -ramp)):
            row, scales = DifferenceRow("CT", "HU", 2000.0, factual, {"a": arm}), DifferenceScales()
            scales.add(row)
            scale = scales.of("a", "HU", absolute)
            drawn = difference_sheet([row], MARK, ("f", {"a": "a"}, "d"), {("a", "HU"): scale})
            shown[absolute, name] = drawn.columns[2].tiles[0].pixels
            assert (SIZES_NOTE if absolute else COLOURS_NOTE) in drawn.notes
    assert np.array_equal(shown[True, "up"], shown[True, "down"])
    assert not np.array_equal(shown[False, "up"], shown[False, "down"])


def test_images_by_two_labels() -> None:
    images = {(down, across): np.zeros((1, 8, 8), np.float32) for down in ("x", "y") for across in ("1", "2", "3")}
    drawn = labelled_sheet(images, MARK, ["note"])
    assert [column.title for column in drawn.columns] == ["1", "2", "3"] and list(drawn.labels) == ["x", "y"]
