"""Intensities and geometry go to the model's space and come back."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE, ImageSpec, Intensity
from medloom.data.laterality import swap_mask_classes, swap_sides
from medloom.data.transforms import choose_intensity, from_model, to_model

CT = Intensity("window", HU, -1000, 1000)
CXR = Intensity("window", GREY, 0, 255)
FUNDUS = Intensity("window", COLOUR, 0, 255)
MR = Intensity("percentile", RELATIVE, 0.5, 99.5)


def spec(size: tuple[int, ...], channels: int = 1, resize: str = "pad", **changes: Any) -> ImageSpec:
    changes.setdefault("orientation", "RAS" if len(size) == 3 else None)
    return ImageSpec(size, channels, resize, {"CT": CT, "CXR": CXR, "fundus": FUNDUS, "MR": MR}, **changes)


def noise(low: float, high: float, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


# Intensity


def test_hu_come_back_within_1_and_the_clipped_fraction_is_stated() -> None:
    image = Image(noise(-1500, 1500, 1, 16, 16), HU)
    made = to_model(image, spec((16, 16)), "CT")
    back = from_model(made.array, spec((16, 16)), "CT", made.parameters, image)
    inside = np.abs(image.pixels) <= 1000
    assert np.abs(back.pixels - image.pixels)[inside].max() < 1
    assert back.unit == HU
    assert made.parameters["clipped_fraction"] == pytest.approx(1 - inside.mean())
    assert made.array.dtype == np.float32 and made.array.min() == -1 and made.array.max() == 1


def test_window_by_hand() -> None:
    made = to_model(Image(np.array([[[-1000, 0, 500, 3000]]], np.float32), HU), spec((1, 4)), "CT")
    np.testing.assert_allclose(made.array, [[[-1, 0, 0.5, 1]]], atol=1e-6)


@pytest.mark.parametrize("full_scale", [255, 65535])
def test_grey_levels_are_brought_to_255ths(full_scale: float) -> None:
    pixels = np.array([[[0, 0.2, 1]]], np.float32) * full_scale
    made = to_model(Image(pixels, GREY, full_scale), spec((1, 3)), "CXR")
    np.testing.assert_allclose(made.array, [[[-1, -0.6, 1]]], atol=1e-6)
    back = from_model(made.array, spec((1, 3)), "CXR")
    np.testing.assert_allclose(back.pixels, [[[0, 51, 255]]], atol=1e-3)
    assert (back.unit, back.full_scale) == (GREY, 255)


def test_padding_is_lowest_and_does_not_count() -> None:
    pixels = noise(0, 100, 1, 20, 20)
    pixels[:, :10] = 5000
    padding = np.zeros((20, 20), bool)
    padding[:10] = True
    made = to_model(Image(pixels, RELATIVE, padding=padding), spec((20, 20)), "MR")
    assert (made.array[:, :10] == -1).all()
    assert made.parameters["high"] <= 100 and made.parameters["clipped_fraction"] < 0.05


def test_percentiles_come_back_with_their_parameters_and_without_as_relative() -> None:
    image = Image(noise(0, 4000, 1, 32, 32), RELATIVE)
    made = to_model(image, spec((32, 32)), "MR")
    low, high = np.percentile(image.pixels, (0.5, 99.5))
    assert (made.parameters["low"], made.parameters["high"]) == pytest.approx((low, high))
    back = from_model(made.array, spec((32, 32)), "MR", made.parameters, image)
    np.testing.assert_allclose(back.pixels, np.clip(image.pixels, low, high), atol=0.01)
    alone = from_model(made.array, spec((32, 32)), "MR")
    assert alone.unit == RELATIVE and alone.pixels.min() == 0 and alone.pixels.max() == 1


def test_grey_and_colour_in_three_channels() -> None:
    grey = to_model(Image(noise(0, 255, 1, 4, 4), GREY, 255), spec((4, 4), channels=3), "CXR")
    assert grey.array.shape == (3, 4, 4) and (grey.array[0] == grey.array[2]).all()
    back = from_model(np.stack([grey.array[0] - 0.1, grey.array[0], grey.array[0] + 0.1]) * 0.5, spec((4, 4), 3), "CXR")
    np.testing.assert_allclose(back.pixels, (grey.array[:1] * 0.5 + 1) * 127.5, atol=1e-3)
    colour = Image(noise(0, 255, 3, 4, 4), COLOUR, 255)
    made = to_model(colour, spec((4, 4), 3), "fundus")
    np.testing.assert_allclose(from_model(made.array, spec((4, 4), 3), "fundus").pixels, colour.pixels, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "channels", "modality", "words"),
    [
        (Image(noise(0, 1, 3, 4, 4), COLOUR, 255), 1, "fundus", "colour"),
        (Image(noise(0, 255, 3, 4, 4), COLOUR, 255), 3, "CXR", "colour"),
        (Image(noise(0, 1, 1, 4, 4), RELATIVE), 1, "CT", "relative and the model's window is in HU"),
        (Image(noise(0, 1, 1, 4, 4), HU), 1, "CXR", "grey level"),
        (Image(noise(0, 1, 1, 4, 4), HU), 1, "PET", "never trained on"),
        (Image(np.ones((1, 4, 4), np.float32), RELATIVE), 1, "MR", "constant"),
        (Image(noise(0, 1, 1, 4, 4, 4), HU), 1, "CT", "3 axes"),
    ],
)
def test_what_the_spec_cannot_take(image: Image, channels: int, modality: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        to_model(image, spec((4, 4), channels), modality)


def test_three_equal_channels_are_grey() -> None:
    grey = noise(0, 255, 1, 4, 4)
    colour = Image(np.repeat(grey, 3, axis=0) + np.array([0, 1, -1], np.float32).reshape(3, 1, 1), COLOUR, 255)
    made, alone = (to_model(image, spec((4, 4)), "CXR").array for image in (colour, Image(grey, GREY, 255)))
    np.testing.assert_allclose(made, alone, atol=1e-3)


def test_from_model_needs_the_shape_and_for_geometry_the_parameters() -> None:
    with pytest.raises(UserError, match="shape"):
        from_model(np.zeros((1, 4, 5)), spec((4, 4)), "CT")
    with pytest.raises(UserError, match="cannot be restored"):
        from_model(np.zeros((1, 4, 4)), spec((4, 4)), "CT", restore_geometry=True)
    with pytest.raises(UserError, match="lack original_0"):
        from_model(np.zeros((1, 4, 4)), spec((4, 4)), "CT", {"low": 0, "high": 1})


# Geometry


@pytest.mark.parametrize(
    ("resize", "border"), [("pad", np.s_[:, [0, 1, 6, 7]]), ("crop", np.s_[:, :0]), ("stretch", np.s_[:, :0])]
)
def test_resize_rules(resize: str, border: Any) -> None:
    made = to_model(Image(np.full((1, 40, 80), 500, np.float32), HU), spec((8, 8), resize=resize), "CT")
    assert made.array.shape == (1, 8, 8)
    expected = np.full((1, 8, 8), 0.5)
    expected[border] = -1
    np.testing.assert_allclose(made.array, expected, atol=1e-6)


def test_rule_none_names_sizes_and_rules() -> None:
    with pytest.raises(UserError, match=r"40 x 80 .* 8 x 8 .*pad, crop, stretch"):
        to_model(Image(noise(0, 1, 1, 40, 80), HU), spec((8, 8), resize="none"), "CT")
    image = Image(noise(-900, 900, 1, 8, 8), HU)
    made = to_model(image, spec((8, 8), resize="none"), "CT")
    np.testing.assert_allclose(made.array, image.pixels / 1000, atol=1e-6)


def test_downsampling_does_not_fold_back() -> None:
    stripes = np.tile(np.array([-1000, 1000], np.float32), (1, 64, 32))
    made = to_model(Image(stripes, HU), spec((16, 16)), "CT")
    assert np.abs(made.array[..., 1:-1]).max() < 0.05
    volume = np.broadcast_to(stripes[..., None], (1, 64, 64, 64)).astype(np.float32)
    made = to_model(Image(volume, HU, spacing=(1, 1, 1)), spec((16, 16, 16), spacing=(4, 4, 4)), "CT")
    assert np.abs(made.array[..., 2:-2, :]).max() < 0.2


def blob(size: tuple[int, ...], centre: tuple[float, ...], width: float) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(n) for n in size], indexing="ij")
    square = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    return (-1000 + 1500 * np.exp(-square / (2 * width**2))).astype(np.float32)[None]


def centre_of_mass(image: Image) -> np.ndarray:
    weight = image.pixels[0].astype(np.float64) + 1000
    axes = np.meshgrid(*[np.arange(n) for n in image.size], indexing="ij")
    index = [(axis * weight).sum() / weight.sum() for axis in axes]
    assert image.affine is not None
    return (image.affine @ np.array([*index, *([0] * (3 - len(index))), 1]))[:3]


AFFINE = np.array([[0.9, 0, 0, -30], [0, 1.3, 0, -20], [0, 0, 2.5, 10], [0, 0, 0, 1.0]])
AFFINE_2D = np.array([[0, -0.7, 0, 30], [-0.7, 0, 0, 20], [0, 0, 2.5, 10], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_a_blob_stays_at_its_position_in_mm_in_2d(resize: str, restore: bool) -> None:
    image = Image(blob((60, 47), (33, 21), 4), HU, spacing=(0.7, 0.7), affine=AFFINE_2D)
    space = spec((32, 40), resize=resize)
    made = to_model(image, space, "CT")
    back = from_model(made.array, space, "CT", made.parameters, image, restore)
    np.testing.assert_allclose(centre_of_mass(back), centre_of_mass(image), atol=0.1)
    assert back.size == (image.size if restore else space.size)
    assert back.spacing is not None and back.affine is not None
    np.testing.assert_allclose(np.linalg.norm(back.affine[:3, :2], axis=0), back.spacing)
    if restore:
        shown = back.pixels > -999
        assert np.abs(back.pixels - image.pixels)[shown].mean() < 25


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("target", [(1.5, 1.5, 1.5), (2.0, 2.0, 4.0), (0.8, 1.0, 2.0)])
def test_a_blob_stays_at_its_position_in_mm_in_3d(target: tuple[float, ...], restore: bool) -> None:
    image = Image(blob((41, 30, 20), (24, 12, 9), 2.5), HU, spacing=(0.9, 1.3, 2.5), affine=AFFINE)
    space = spec((40, 40, 24), spacing=target, orientation="RAS")
    made = to_model(image, space, "CT")
    back = from_model(made.array, space, "CT", made.parameters, image, restore)
    np.testing.assert_allclose(centre_of_mass(back), centre_of_mass(image), atol=0.15)
    np.testing.assert_allclose(back.spacing, image.spacing if restore else target)
    assert back.size == (image.size if restore else space.size)


def test_a_volume_is_turned_to_the_orientation_of_the_spec() -> None:
    image = Image(blob((20, 16, 12), (14, 5, 4), 2), HU, spacing=(0.9, 1.3, 2.5), affine=AFFINE)
    space = spec((12, 20, 16), resize="none", orientation="SLA")
    made = to_model(image, space, "CT")
    back = from_model(made.array, space, "CT", reference=image)
    np.testing.assert_allclose(centre_of_mass(back), centre_of_mass(image), atol=1e-3)
    np.testing.assert_allclose(back.spacing, (2.5, 0.9, 1.3))


def test_padding_and_cropping_without_resampling_are_exact() -> None:
    image = Image(noise(-900, 900, 1, 9, 12, 7), HU, spacing=(1, 1, 2), affine=np.diag([1, 1, 2, 1.0]))
    space = spec((12, 8, 7), spacing=(1, 1, 2))
    made = to_model(image, space, "CT")
    np.testing.assert_allclose(made.array[0, 1:10], image.pixels[0, :, 2:10] / 1000, atol=1e-6)
    back = from_model(made.array, space, "CT", made.parameters, image, restore_geometry=True)
    np.testing.assert_allclose(back.pixels[:, :, 2:10], image.pixels[:, :, 2:10], atol=0.01)
    assert (back.pixels[:, :, :2] == -1000).all() and (back.pixels[:, :, 10:] == -1000).all()


def test_spacing_is_needed_where_the_spec_has_it() -> None:
    with pytest.raises(UserError, match="states no spacing"):
        to_model(Image(noise(0, 1, 1, 4, 4, 4), HU), spec((4, 4, 4), spacing=(1, 1, 1)), "CT")


def test_a_new_volume_has_the_geometry_of_the_spec() -> None:
    made = from_model(np.zeros((1, 4, 4, 4)), spec((4, 4, 4), spacing=(1, 2, 3)), "CT")
    assert made.spacing == (1, 2, 3)
    np.testing.assert_array_equal(made.affine, np.diag([1, 2, 3, 1]))
    assert from_model(np.zeros((1, 4, 4)), spec((4, 4)), "CT").affine is None


def test_restored_without_reference_has_the_spacing_of_the_original() -> None:
    image = Image(noise(0, 1, 1, 9, 9, 9), HU, spacing=(0.5, 0.7, 1.1))
    space = spec((6, 6, 6), spacing=(1, 1, 1))
    made = to_model(image, space, "CT")
    back = from_model(made.array, space, "CT", made.parameters, restore_geometry=True)
    np.testing.assert_allclose(back.spacing, image.spacing)
    assert back.size == image.size


# Choosing the intensity map


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({(HU, np.nan): 4}, CT),
        ({(GREY, 255.0): 4}, CXR),
        ({(GREY, 255.0): 4, (COLOUR, 255.0): 1}, FUNDUS),
        ({(COLOUR, 65535.0): 1}, FUNDUS),
        ({(GREY, 65535.0): 1}, MR),
        ({(GREY, 255.0): 1, (RELATIVE, np.nan): 9}, MR),
    ],
)
def test_choose_intensity(units: dict[tuple[str, float], int], expected: Intensity) -> None:
    assert choose_intensity(Counter(units)) == expected


def test_mixed_units_are_refused() -> None:
    with pytest.raises(UserError, match="3 in HU and 2 in grey level"):
        choose_intensity(Counter([(HU, float("nan")), (HU, float("nan")), (HU, math.nan), *[(GREY, 255.0)] * 2]))
    with pytest.raises(UserError, match="no row"):
        choose_intensity(Counter())


# Laterality


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Left lower lobe, RIGHT hilum", "Right lower lobe, LEFT hilum"),
        ("left-sided effusion; tip points rightward", "right-sided effusion; tip points leftward"),
        ("leftmost rib, bright upright film", "rightmost rib, bright upright film"),
        ("All right, no change. RLL clear.", "All right, no change. RLL clear."),
    ],
)
def test_swap_sides(text: str, swapped: str) -> None:
    assert swap_sides(text) == swapped
    assert swap_sides(swapped) == text


def test_swapped_mask_classes() -> None:
    mask = np.array([[0, 1, 2], [3, 1, 0]])
    np.testing.assert_array_equal(swap_mask_classes(mask, [(1, 2)]), [[0, 2, 1], [3, 2, 0]])
    with pytest.raises(UserError, match="twice"):
        swap_mask_classes(mask, [(1, 2), (2, 3)])


def test_the_hu_window_is_the_users() -> None:
    assert choose_intensity(Counter([(HU, math.nan)]), (-1024.0, 476.0)) == Intensity("window", HU, -1024.0, 476.0)
