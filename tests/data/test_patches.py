"""Patches: where they are cut, what they show beyond the image, mirrored and turned ones; and whole images on disk."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.data.cache import PackedArrays, cached_arrays
from medloom.data.laterality import mirrored_condition
from medloom.data.patches import Crop, PatchRules, cut, cut_labels, draw_crop, draw_shift

WHOLE, PATCH = (20, 30, 9), (8, 10, 12)


def spec(size: tuple[int, ...] = PATCH, spacing: tuple[float, ...] | None = None) -> ImageSpec:
    return ImageSpec(size, 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)}, spacing, patch=True)


def image(whole: tuple[int, ...] = WHOLE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 1, (1, *whole)).astype(np.float16)


def labels() -> np.ndarray:
    """A large class, a small one, and background."""
    values = np.zeros(WHOLE, np.int16)
    values[2:18, 3:25, 2:7] = 1
    values[5, 20:22, 4] = 2
    return values


def positions() -> list[np.ndarray]:
    return [np.argwhere(labels() == label).astype(np.int16) for label in (1, 2)]


def crops(count: int, **rules: object) -> list[Crop]:
    known = PatchRules(spec(), **rules)
    return [draw_crop(numpy_generator("test", number), WHOLE, known, positions()) for number in range(count)]


def test_a_patch_shows_the_image_and_beyond_it_nothing() -> None:
    shown = cut(image(), Crop((-2, 25, -1), PATCH))
    assert shown.shape == (1, *PATCH) and shown.dtype == np.float32
    np.testing.assert_array_equal(shown[0, 2:, :5, 1:10], image()[0, :6, 25:].astype(np.float32))
    beyond = np.ones(PATCH, bool)
    beyond[2:, :5, 1:10] = False
    assert (shown[0][beyond] == -1).all()
    label = cut_labels(labels(), Crop((-2, 25, -1), PATCH))
    assert (label[beyond] == -1).all() and (label[~beyond] >= 0).all()


def test_patches_lie_in_the_image_or_hold_all_of_a_short_axis() -> None:
    for foreground in (0.0, 1.0):
        starts = np.array([crop.start for crop in crops(300, foreground=foreground)])
        assert starts[:, 0].min() >= 0 and starts[:, 0].max() <= WHOLE[0] - PATCH[0]
        assert starts[:, 2].min() >= WHOLE[2] - PATCH[2] and starts[:, 2].max() <= 0
    starts = np.array([crop.start for crop in crops(3000, foreground=0.0)])
    for axis, (whole, patch) in enumerate(zip(WHOLE, PATCH, strict=True)):
        counts = np.unique(starts[:, axis], return_counts=True)[1]
        assert len(counts) == abs(whole - patch) + 1 and chisquare(counts).pvalue > 1e-3


def test_classes_are_met_at_the_stated_rate_each_as_often_as_the_others() -> None:
    """Three classes of 1, 8 and 27 pixels far apart: patches that lie anywhere all but never meet one of them."""
    whole = np.zeros((64, 64, 64), np.int16)
    for number, corner in enumerate((5, 30, 55), 1):
        whole[corner : corner + number, corner : corner + number, corner : corner + number] = number
    found = [np.argwhere(whole == label).astype(np.int16) for label in (1, 2, 3)]
    rules = PatchRules(spec((8, 8, 8)), foreground=0.75)
    drawn = [draw_crop(numpy_generator("rate", number), whole.shape, rules, found) for number in range(2000)]
    met = np.array([[(whole[box(crop)] == label).any() for label in (1, 2, 3)] for crop in drawn])
    assert met.any(1).mean() == pytest.approx(0.75, abs=0.03)
    np.testing.assert_allclose(met.mean(0), 0.25, atol=0.03)
    centres = [tuple(first + 4 for first in crop.start) for crop, hit in zip(drawn, met, strict=True) if hit[1]]
    centred = [centre for centre in centres if whole[centre] == 2]
    assert len(set(centred)) == 8 and len(centred) > 0.98 * len(centres)


def box(crop: Crop) -> tuple[slice, ...]:
    return tuple(slice(max(0, first), first + length) for first, length in zip(crop.start, crop.size, strict=True))


def test_a_crop_is_a_function_of_its_key_and_options_do_not_move_it() -> None:
    assert [crop.start for crop in crops(20)] == [crop.start for crop in crops(20)]
    assert len({crop.start for crop in crops(20)}) > 10
    turned = crops(20, augment="affine")
    assert [crop.start for crop in turned] == [crop.start for crop in crops(20)]
    assert all(crop.turn is not None for crop in turned)


def test_the_position_in_the_whole_image() -> None:
    np.testing.assert_allclose(
        Crop((0, 10, -1), PATCH).position(WHOLE), [[-1, -0.2], [-1 / 3, 1 / 3], [-11 / 9, 13 / 9]], atol=1e-6
    )
    whole = Crop((0, 0, 0), WHOLE).position(WHOLE)
    np.testing.assert_array_equal(whole, [[-1, 1]] * 3)


def test_a_mirrored_patch_is_a_patch_of_the_mirrored_image() -> None:
    """Left and right are exchanged, paired classes change places, and the place is that in the mirror image."""
    plain, mirrored = Crop((3, 4, 0), PATCH), Crop((3, 4, 0), PATCH, mirrored=True)
    np.testing.assert_array_equal(cut(image(), mirrored), cut(np.flip(image(), 1), plain))
    swapped = cut_labels(labels(), mirrored, [(1, 2)])
    expected = cut_labels(np.flip(labels(), 0), plain)
    np.testing.assert_array_equal(swapped == 1, expected == 2)
    np.testing.assert_array_equal(swapped == -1, expected == -1)
    np.testing.assert_array_equal(plain.position(WHOLE), mirrored.position(WHOLE))
    flat = image()[..., 4]
    np.testing.assert_array_equal(cut(flat, Crop((0, 0), (20, 30), mirrored=True)), flat[..., ::-1].astype(np.float32))


def test_mirrored_patches_are_centred_on_classes_too_and_are_every_other_one() -> None:
    drawn = crops(1000, foreground=1.0, flip=True)
    assert np.mean([crop.mirrored for crop in drawn]) == pytest.approx(0.5, abs=0.05)
    assert all((cut_labels(labels(), crop) > 0).any() for crop in drawn)
    assert not any(crop.mirrored for crop in crops(100))


def test_what_is_said_of_a_mirror_image() -> None:
    said = Condition("A nodule on the Left, all right.", "CT", "left lateral", table={"side": "right", "age": 60.0})
    told = mirrored_condition(said)
    assert told.text == "A nodule on the Right, all right." and told.view == "right lateral"
    assert told.table == {"side": "left", "age": 60.0} and mirrored_condition(told) == said


def test_a_turned_patch_turns_image_and_labels_alike() -> None:
    whole = np.zeros((1, 40, 40, 40), np.float32)
    whole[0, 10:30, 14:26, 16:24] = 1
    drawn = PatchRules(spec((24, 24, 24), (1.0, 1.0, 3.0)), 0.0, "affine")
    angles = []
    for number in range(8):
        crop = draw_crop(numpy_generator("turn", number), (40, 40, 40), drawn)
        pixels, label = cut(whole, crop)[0], cut_labels(whole[0].astype(np.int16), crop)
        assert ((pixels > 0.5) == (label == 1)).mean() > 0.99
        steps = np.diag([1.0, 1.0, 3.0]) @ crop.turn @ np.diag([1.0, 1.0, 1 / 3.0])
        scale = np.cbrt(np.linalg.det(steps))
        # In mm it is a rotation and one scale, whatever the spacing.
        np.testing.assert_allclose(steps @ steps.T, scale**2 * np.eye(3), atol=1e-9)
        assert 1 / 1.1 - 1e-9 <= scale <= 1.1 + 1e-9
        angles.append(np.degrees(np.arccos((np.trace(steps / scale) - 1) / 2)))
    assert 3 < np.mean(angles) < 12 and max(angles) < 18
    still = Crop((3, 4, 5), (24, 24, 24), turn=np.eye(3))
    np.testing.assert_allclose(cut(whole, still), cut(whole, Crop((3, 4, 5), (24, 24, 24))), atol=1e-6)


def test_rules_out_of_range() -> None:
    with pytest.raises(UserError, match="the setting foreground is 1.5"):
        PatchRules(spec(), 1.5)
    with pytest.raises(UserError, match="unknown --augment 'afine', did you mean 'affine'"):
        PatchRules(spec(), augment="afine")


SHAPES = [(1, 3, 4), (1, 5, 2), (1, 1, 1), (1, 4, 4)]


def rows(calls: list[int], fail_at: int | None = None):
    def compute(row: int) -> np.ndarray | None:
        calls.append(row)
        if row == fail_at:
            raise KeyboardInterrupt
        return None if row == 2 else np.full(SHAPES[row], row + 0.5)

    return compute


def test_arrays_of_different_sizes_are_computed_once_and_marked_where_they_cannot_be_had(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        arrays, bad = cached_arrays(tmp_path, "test", {"a": 1}, SHAPES, np.float16, rows(calls), False)
        assert len(arrays) == 4 and bad.tolist() == [0, 0, 1, 0]
        for row, shape in enumerate(SHAPES):
            np.testing.assert_array_equal(arrays[row], np.full(shape, 0 if row == 2 else row + 0.5, np.float16))
    assert calls == [0, 1, 2, 3]
    cached_arrays(tmp_path, "test", {"a": 2}, SHAPES, np.float16, rows(calls), False)
    assert len(calls) == 8
    with pytest.raises(UserError, match="truncated"):
        (next(tmp_path.glob("test-*")) / "values.bin").write_bytes(b"")
        for key in (1, 2):
            cached_arrays(tmp_path, "test", {"a": key}, SHAPES, np.float16, rows(calls), False)


def test_an_interrupted_cache_is_filled_from_the_start_of_what_was_not_recorded(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        cached_arrays(tmp_path, "test", {}, SHAPES, np.int16, rows(calls, fail_at=3), False)
    arrays, _ = cached_arrays(tmp_path, "test", {}, SHAPES, np.int16, rows(calls), False)
    assert calls == [0, 1, 2, 3, 0, 1, 2, 3] and arrays[3].tolist() == np.full((1, 4, 4), 3).tolist()
    assert len(cached_arrays(tmp_path, "test", {}, [], np.int16, rows(calls), False)[0]) == 0


def test_a_packed_view_is_no_copy() -> None:
    arrays = PackedArrays.of(np.arange(20), [(2, 3), (14,)])
    assert arrays[1].base is not None and arrays[1][0] == 6


@pytest.mark.parametrize("axes", [2, 3])
def test_a_shifted_image_keeps_its_size_and_its_edge_comes_in(axes: int) -> None:
    whole = (6, 7, 8)[:axes]
    image = np.random.default_rng(0).normal(size=(2, *whole)).astype(np.float32)
    labels = (image[0] > 0).astype(np.int16)
    seen = set()
    for number in range(60):
        crop = draw_shift(np.random.default_rng(number), whole, 2)
        moved = cut(image, crop)
        seen.update(crop.start)
        padded = np.pad(image, [(0, 0), *[(2, 2)] * axes], mode="edge")
        start = [2 + first for first in crop.start]
        expected = padded[(slice(None), *(slice(a, a + n) for a, n in zip(start, whole, strict=True)))]
        assert np.array_equal(moved, expected)
        assert np.array_equal(cut_labels(labels, crop), moved[0] > 0), "the mask moves along"
    assert seen == {-2, -1, 0, 1, 2}


def test_a_shifted_image_whose_padding_is_known_gets_more_of_it() -> None:
    """The draws are the same as with edges; what comes in is padding, in the image and in its mask."""
    image, labels = np.full((1, 6, 7), 0.5, np.float32), np.ones((6, 7), np.int16)
    edge, border = (draw_shift(np.random.default_rng(4), (6, 7), 2, edge) for edge in (True, False))
    assert edge.start == border.start and any(border.start)
    rows, columns = (np.arange(length) + first for length, first in zip((6, 7), border.start, strict=True))
    inside = ((rows >= 0) & (rows < 6))[:, None] & (columns >= 0) & (columns < 7)
    np.testing.assert_array_equal(cut(image, border)[0], np.where(inside, 0.5, -1))
    np.testing.assert_array_equal(cut_labels(labels, border), np.where(inside, 1, -1))
