"""Registration: motions of drawn images and of a virtual X-ray found again, bounds, labels, cache and pictures."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import GREY, RELATIVE
from medloom.data.images import read_image
from medloom.data.masks import read_mask
from medloom.longitudinal.registration import (
    ImagePair,
    PairResult,
    Registration,
    RegistrationOptions,
    alignment,
    apply_to_labels,
    failures,
    register,
    register_pairs,
    registration_sheet,
)
from medloom.longitudinal.registration import pairs as pairs_module
from medloom.longitudinal.registration.geometry import Grid, Matrix, common_space, similarity
from medloom.longitudinal.registration.pairs import TITLES, panels
from medloom.phantom.anatomy import anatomy_of, make_visit
from medloom.phantom.causal import make_patient
from medloom.phantom.projection import project

OFF = RegistrationOptions(transform="off")
PIXELS = (90, 104)
AFFINE = np.array([[2.0, 0, 0, -47], [0, 2.0, 0, 12], [0, 0, 3.0, 90], [0, 0, 0, 1]])


def centred(size: tuple[int, ...], step: float = 1.0) -> Matrix:
    matrix = np.diag([*(step,) * len(size), 1.0])
    matrix[:-1, -1] = [-step * (length - 1) / 2 for length in size]
    return matrix


def drawn(size: tuple[int, ...], index_to_world: Matrix, motion: Matrix | None = None, seed: int = 3) -> np.ndarray:
    """Blobs at random places of a box of 160 about the origin, drawn by their formula where the motion puts them."""
    dims = len(size)
    rng = np.random.default_rng(seed)
    centres, widths = rng.uniform(-60, 60, (40, dims)), rng.uniform(4, 14, 40)
    heights = rng.uniform(-1, 1, 40)
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")).reshape(dims, -1)
    linear = (np.eye(dims + 1) if motion is None else motion) @ index_to_world
    points = (linear[:-1, :-1] @ index + linear[:-1, -1:]).T
    values = np.zeros(len(points))
    for centre, width, height in zip(centres, widths, heights, strict=True):
        values += height * np.exp(-(((points - centre) / width) ** 2).sum(axis=1) / 2)
    return values.reshape(size).astype(np.float32)


def image(values: np.ndarray, **stated: object) -> Image:
    return Image(values[None].astype(np.float32), RELATIVE, **stated)  # type: ignore[arg-type]


def pair(motion: Matrix) -> tuple[Image, Image]:
    """Moving and fixed; of the moving one the contrast is another."""
    moving = drawn(PIXELS, centred(PIXELS), motion)
    return image(np.tanh(moving) * 3 + 5), image(drawn(PIXELS, centred(PIXELS)))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def require_motion(
    found: Registration, translation: tuple[float, ...], rotation: tuple[float, ...], scale: float
) -> None:
    np.testing.assert_allclose(found.motion.translation, translation, atol=2)
    np.testing.assert_allclose(found.motion.rotation, rotation, atol=2)
    assert found.motion.scale == pytest.approx(scale, rel=0.02)
    assert found.passed and found.score > max(0.9, found.score_before)


# Known motions


@pytest.mark.parametrize(
    ("transform", "translation", "rotation", "scale"),
    [
        ("similarity", (7.0, -9.0), 9.0, 1.1),
        ("similarity", (-8.0, 4.0), -7.0, 0.9),
        ("rigid", (5.0, 8.0), -10.0, 1.0),
        ("affine", (-6.0, -7.0), 6.0, 1.05),
    ],
)
def test_known_motion(transform: str, translation: tuple[float, float], rotation: float, scale: float) -> None:
    truth = similarity(translation, (rotation,), scale, (0, 0))
    found = register(*pair(truth), RegistrationOptions(transform=transform))
    require_motion(found, translation, (rotation,), scale)
    assert found.motion.unit == "px" and found.image.pixels.shape == (1, *PIXELS)
    # The matrix maps an index of the current image to one of the prior image: the inverse motion, about the centres.
    expected = np.linalg.inv(centred(PIXELS)) @ np.linalg.inv(truth) @ centred(PIXELS)
    corner = np.array([10.0, 80.0, 1.0])
    np.testing.assert_allclose(found.matrix @ corner, expected @ corner, atol=1)


def test_affine_finds_a_stretch() -> None:
    stretch = np.diag([1.12, 0.95, 1.0])
    found = register(*pair(stretch), RegistrationOptions(transform="affine"))
    np.testing.assert_allclose(np.linalg.inv(found.matrix)[:2, :2], stretch[:2, :2], atol=0.02)


def test_identity() -> None:
    fixed = image(drawn(PIXELS, centred(PIXELS)))
    found = register(fixed, fixed)
    require_motion(replace(found, score_before=0.0), (0, 0), (0,), 1.0)
    assert np.abs(found.motion.translation).max() < 0.1 and found.score > 0.999


def test_positive_rotation_is_counter_clockwise() -> None:
    """What lay below the centre comes to lie to its right."""
    moved = similarity((0, 0), (90.0,), 1.0, (0, 0)) @ np.array([1.0, 0.0, 1.0])
    np.testing.assert_allclose(moved, [0, 1, 1], atol=1e-12)


def test_virtual_x_ray() -> None:
    """Another stay on the table, another exposure; the lungs come to lie on each other."""
    patient = make_patient(4, 1)
    visit = make_visit(patient)
    later = project(anatomy_of(patient, visit), visit, 96)
    turned = replace(visit, shift=tuple(np.add(visit.shift, (22.0, 0.0, -18.0))), turn=visit.turn)
    earlier = project(anatomy_of(patient, turned), turned, 96)
    exposed = Image((255 * (earlier.levels / 255) ** 1.4)[None].astype(np.float32), GREY, 255.0)
    found = register(exposed, Image(later.levels[None], GREY, 255.0))
    lungs = [part.masks["left lung"] | part.masks["right lung"] for part in (earlier, later)]
    before, after = (dice(mask, lungs[1]) for mask in (lungs[0], apply_to_labels(found, lungs[0])))
    assert found.passed and before < 0.9 < 0.95 < after
    # 380 mm on 96 pixels: the body went by 22 and 18 mm.
    np.testing.assert_allclose(np.abs(found.motion.translation), [18 * 96 / 380, 22 * 96 / 380], atol=1)


# Geometry


def test_sizes_may_differ() -> None:
    """The prior image is cropped and has another origin; its pixels have the same size."""
    size = (80, 86)
    truth = similarity((4.0, -5.0), (5.0,), 1.05, (0, 0))
    moving = image(drawn(size, centred(size), truth))
    found = register(moving, image(drawn(PIXELS, centred(PIXELS))))
    require_motion(found, (4, -5), (5,), 1.05)
    assert found.image.size == PIXELS and found.inside.mean() < 1
    assert found.image.pixels[0][~found.inside].max() == moving.pixels.min()


def test_resolutions_may_differ_without_spacing() -> None:
    """Twice as many pixels of the same object: in pixels of the current image, nothing has grown."""
    size = (180, 208)
    truth = similarity((4.0, -5.0), (5.0,), 1.05, (0, 0))
    found = register(image(drawn(size, centred(size, 0.5), truth)), image(drawn(PIXELS, centred(PIXELS))))
    require_motion(found, (4, -5), (5,), 1.05)


def test_spacing_is_respected_in_two_axes() -> None:
    size, truth = (60, 69), similarity((6.0, -5.0), (5.0,), 1.05, (0, 0))
    moving = image(drawn(size, centred(size, 1.5), truth), spacing=(1.5, 1.5))
    found = register(moving, image(drawn(PIXELS, centred(PIXELS)), spacing=(1.0, 1.0)))
    require_motion(found, (6, -5), (5,), 1.05)
    assert found.motion.unit == "mm" and found.image.spacing == (1.0, 1.0)


def volumes() -> tuple[Image, Image, Matrix]:
    """Spacing and position of the two differ, the earlier one's axes are oblique; about the fixed volume's centre."""
    size, other_size = (48, 44, 32), (46, 50, 40)
    centre = Grid(size, AFFINE).centre
    to_origin = similarity(-centre, (0, 0, 0), 1.0, (0, 0, 0))
    motion = similarity((8.0, -6.0, 5.0), (4.0, -3.0, 6.0), 1.05, centre)
    oblique = similarity((3.0, 4.0, -2.0), (0, 0, 8.0), 1.0, centre) @ AFFINE @ np.diag([1.1, 0.9, 0.8, 1.0])
    fixed = image(drawn(size, to_origin @ AFFINE), affine=AFFINE, spacing=(2.0, 2.0, 3.0))
    moving = image(
        drawn(other_size, oblique, to_origin @ motion), affine=oblique, spacing=tuple(Grid(other_size, oblique).steps)
    )
    return moving, fixed, motion


def test_volumes_in_physical_space() -> None:
    moving, fixed, _ = volumes()
    found = register(moving, fixed)
    require_motion(found, (8, -6, 5), (4, -3, 6), 1.05)
    assert found.motion.unit == "mm"
    np.testing.assert_array_equal(found.image.affine, AFFINE)
    assert found.image.spacing == (2.0, 2.0, 3.0)
    # The picture of volumes is a slice.
    assert {part.shape for part in panels(moving, fixed, found)} == {(44, 48)}


def test_volumes_that_lie_apart() -> None:
    """Two scanners' coordinates have nothing to do with each other: the search looks everywhere."""
    _, fixed, _ = volumes()
    elsewhere = replace(fixed, affine=similarity((500, -300, 80), (0, 0, 0), 1.0, (0, 0, 0)) @ AFFINE)
    require_motion(register(elsewhere, fixed), (-500, 300, -80), (0, 0, 0), 1.0)
    assert register(elsewhere, fixed, OFF).reason == "the two images have no pixel in common"


def test_axes_must_agree_in_number() -> None:
    with pytest.raises(UserError, match="2 axes cannot be registered to one of 3"):
        register(image(np.eye(20)), image(np.zeros((20, 20, 20))))


def test_common_space_without_affine() -> None:
    moving, fixed, unit = common_space(image(np.eye(20)), image(np.zeros((21, 30))))
    assert unit == "px" and np.allclose(moving.centre, 0) and np.allclose(fixed.centre, 0)


# Labels


def test_labels_follow() -> None:
    truth = similarity((7.0, -9.0), (8.0,), 1.08, (0, 0))
    moving, fixed = pair(truth)
    labels = [
        np.digitize(drawn(PIXELS, centred(PIXELS), motion), (-0.3, 0.3)).astype(np.uint8) for motion in (truth, None)
    ]
    found = register(moving, fixed)
    moved = apply_to_labels(found, labels[0], outside=9)
    assert moved.dtype == np.uint8 and (moved == 9).sum() == (~found.inside).sum() > 0
    assert (moved == labels[1])[found.inside].mean() > 0.97 > (labels[0] == labels[1]).mean() + 0.1


def test_labels_of_the_identity_are_unchanged() -> None:
    fixed = image(drawn(PIXELS, centred(PIXELS)))
    labels = np.random.default_rng(0).integers(0, 9, PIXELS)
    np.testing.assert_array_equal(apply_to_labels(register(fixed, fixed, OFF), labels), labels)


def test_labels_of_another_size_are_refused() -> None:
    fixed = image(drawn(PIXELS, centred(PIXELS)))
    with pytest.raises(UserError, match=r"labels of \(3, 4\) pixels"):
        apply_to_labels(register(fixed, fixed, OFF), np.zeros((3, 4), int))


# What does not pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_rotation": 5.0}, "rotation 9.* above 5"),
        ({"max_scale": 1.05}, "scale 1.1.* outside 0.7 to 1.05"),
        ({"min_score": 0.9999}, "score .* below 0.9999"),
        ({"min_overlap": 0.99}, "overlap .* below 0.99"),
    ],
)
def test_bounds(change: dict[str, float], reason: str) -> None:
    found = register(*pair(similarity((4.0, -5.0), (9.0,), 1.1, (0, 0))), RegistrationOptions(**change))  # type: ignore[arg-type]
    assert found.reason is not None
    assert not found.passed and np.isfinite(found.score)
    assert re.search(reason, found.reason), found.reason


def test_unlike_images_do_not_pass() -> None:
    fixed, moving = (image(np.random.default_rng(seed).random(PIXELS)) for seed in (1, 2))
    found = register(moving, fixed)
    assert found.reason is not None and found.reason.startswith(("score", "scale", "rotation", "overlap"))


@pytest.mark.parametrize("which", ["prior", "current"])
def test_constant_images_are_refused(which: str) -> None:
    flat, good = image(np.full(PIXELS, 7.0)), image(drawn(PIXELS, centred(PIXELS)))
    with pytest.raises(UserError, match=f"the {which} image .* almost constant"):
        register(*((flat, good) if which == "prior" else (good, flat)))


def test_images_of_a_few_pixels_are_refused() -> None:
    with pytest.raises(UserError, match="the current image .* it has 7 x 104 pixels, but needs 8"):
        register(image(drawn(PIXELS, centred(PIXELS))), image(drawn((7, 104), centred((7, 104)))))


def test_a_search_that_stops_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> Matrix:
        raise RuntimeError("Exception thrown\nsitk::ERROR: Filter(0x55d0c0ffee00): no samples\n")

    monkeypatch.setattr(alignment, "search", stops)
    found = register(*pair(np.eye(3)))
    assert found.reason == "the search failed: sitk::ERROR: Filter: no samples"
    assert found.score == found.score_before and found.motion.angle == 0


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        register(image(np.full(PIXELS, np.nan)), image(drawn(PIXELS, centred(PIXELS))))


def test_padding_has_no_say() -> None:
    """A bright frame at one place in both images, said to be padding, does not hold them together."""
    moving, fixed = pair(similarity((6.0, -7.0), (5.0,), 1.0, (0, 0)))
    frame = np.ones(PIXELS, bool)
    frame[8:-8, 8:-8] = False
    framed = [
        replace(part, pixels=np.where(frame, np.float32(40), part.pixels), padding=frame) for part in (moving, fixed)
    ]
    found = register(*framed)
    require_motion(found, (6, -7), (5,), 1.0)
    assert found.image.pixels.max() < 40


def test_off_only_brings_onto_the_grid() -> None:
    moving, fixed = pair(similarity((6.0, -7.0), (5.0,), 1.0, (0, 0)))
    found = register(moving, fixed, OFF)
    np.testing.assert_array_equal(found.image.pixels, moving.pixels)
    assert found.passed and found.score == found.score_before and found.motion.scale == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [{"transform": "rigit"}, {"min_scale": 1.2}, {"max_rotation": -1}, {"levels": ()}, {"sampling": 0}, {"seed": -1}],
)
def test_options_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(
        UserError,
        match="unknown transform of registration 'rigit', did you|registration option .*(has to be|give at)",
    ):
        RegistrationOptions(**wrong)  # type: ignore[arg-type]


def test_affine_keeps_to_its_bounds_in_every_direction() -> None:
    found = register(*pair(np.diag([1.25, 0.9, 1.0])), RegistrationOptions(transform="affine", max_scale=1.15))
    assert found.reason is not None
    assert re.fullmatch(r"scale 0\.[89]\d* to 1\.2\d* is outside 0.7 to 1.15", found.reason)


# Many pairs


def write_pairs(folder: Path) -> list[ImagePair]:
    """Four pairs, the third of which is blank and the fourth missing."""
    for number in range(2):
        motion = similarity((5.0 * number, -4.0), (6.0,), 1.0, (0, 0))
        for name, values in (
            (f"a{number}", drawn(PIXELS, centred(PIXELS), motion, number)),
            (f"b{number}", drawn(PIXELS, centred(PIXELS), None, number)),
        ):
            levels = np.clip(128 + 60 * values, 0, 255).astype(np.uint8)
            Pillow.fromarray(levels).save(folder / f"{name}.png")
    Pillow.fromarray(np.full(PIXELS, 9, np.uint8)).save(folder / "blank.png")
    names = [("a0", "b0"), ("a1", "b1"), ("blank", "b1"), ("a1", "none")]
    return [ImagePair(folder / f"{prior}.png", folder / f"{path}.png") for prior, path in names]


def test_pairs_in_order_the_same_for_any_workers(tmp_path: Path) -> None:
    given = write_pairs(tmp_path)
    one, two = (
        register_pairs(given, RegistrationOptions(), tmp_path / f"cache{workers}", workers, verbose=False)
        for workers in (1, 2)
    )
    assert [result.pair for result in one] == given
    assert [result.passed for result in one] == [True, True, False, False]
    reasons = dict(failures(one))
    assert "almost constant" in reasons[given[2]] and "none.png is missing" in reasons[given[3]]
    for result, other in zip(one[:2], two[:2], strict=True):
        assert (result.score, result.motion) == (other.score, other.motion)
        np.testing.assert_array_equal(result.load().image.pixels, other.load().image.pixels)
    with pytest.raises(UserError, match="almost constant"):
        one[2].load()


def test_cache_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = write_pairs(tmp_path)[:2]
    options, calls = RegistrationOptions(), []

    def counted(*args: object) -> Registration:
        calls.append(args)
        return register(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pairs_module, "register", counted)

    def run(chosen: RegistrationOptions) -> list[PairResult]:
        return register_pairs(given, chosen, tmp_path / "cache", verbose=False)

    first = run(options)
    assert run(options) == first and len(calls) == 2
    # What a killed run left behind goes, and what it had not done is done.
    assert first[1].folder is not None
    first[1].folder.rename(first[1].folder.with_name(".half-12345678.partial"))
    assert run(options) == first and len(calls) == 3
    assert not list((tmp_path / "cache").rglob("*.partial"))
    # Another threshold and a file that has changed are other results.
    assert all(not result.passed for result in run(replace(options, min_score=1.0))) and len(calls) == 5
    Pillow.fromarray(np.asarray(Pillow.open(given[0].path))[:-3]).save(given[0].path)
    run(options)
    assert len(calls) == 6


def test_loaded_is_what_was_registered(tmp_path: Path) -> None:
    given = write_pairs(tmp_path)[0]
    (result,) = register_pairs([given], RegistrationOptions(), tmp_path / "cache", verbose=False)
    loaded, direct = result.load(), register(read_image(given.prior), read_image(given.path))
    for name in ("motion", "moving_size", "score", "score_before", "overlap", "reason"):
        assert getattr(loaded, name) == getattr(direct, name)
    np.testing.assert_array_equal(loaded.matrix, direct.matrix)
    np.testing.assert_array_equal(loaded.inside, direct.inside)
    np.testing.assert_array_equal(loaded.image.pixels, direct.image.pixels)
    assert (loaded.image.unit, loaded.image.full_scale) == (GREY, 255)


def test_a_pair_given_twice_and_no_workers(tmp_path: Path) -> None:
    given = write_pairs(tmp_path)[0]
    results = register_pairs([given, given], OFF, tmp_path / "cache", workers=2, verbose=False)
    assert results[0] == results[1]
    with pytest.raises(UserError, match="0 workers"):
        register_pairs([given], OFF, tmp_path / "cache", workers=0)


# Pictures


def test_sheet(tmp_path: Path) -> None:
    moving, fixed = pair(similarity((6.0, -7.0), (5.0,), 1.0, (0, 0)))
    found = register(moving, fixed)
    parts = panels(moving, fixed, found)
    assert len(parts) == len(TITLES) and {part.shape for part in parts} == {PIXELS}
    before, after, later, mixed, difference = parts
    assert ((mixed == after) | (mixed == later)).all() and np.abs(difference).mean() < np.abs(later - before).mean()
    registration_sheet(tmp_path / "sheet.png", [(moving, fixed, found)] * 2, ["one", "two"])
    assert Pillow.open(tmp_path / "sheet.png").size[0] > 500
    with pytest.raises(UserError, match="2 pairs with 1 titles"):
        registration_sheet(tmp_path / "sheet.png", [(moving, fixed, found)] * 2, ["one"])


# Real data


@pytest.mark.shared
def test_real_pairs(shared: Path, tmp_path: Path) -> None:
    """Lungs of the first pairs with masks come to lie on each other."""
    import pandas as pd

    rows = pd.read_csv(shared / "cxr_pairs.csv").dropna(subset=["prior_mask_path", "mask_path"]).head(6)
    given = [ImagePair(shared / row.prior_path, shared / row.path) for row in rows.itertuples()]
    gains = []
    for row, result in zip(
        rows.itertuples(), register_pairs(given, RegistrationOptions(), tmp_path, verbose=False), strict=True
    ):
        earlier, later = (read_mask(shared / path).pixels[0] > 0 for path in (row.prior_mask_path, row.mask_path))
        unmoved = register(read_image(result.pair.prior), read_image(result.pair.path), OFF)
        after, before = (apply_to_labels(one, earlier) for one in (result.load(), unmoved))
        gains.append([dice(mask, later) for mask in (after, before)])
    after, before = np.array(gains).T
    assert (after - before).mean() > 0.05 and (after - before).min() > -0.05


@pytest.mark.shared
def test_real_volume(shared: Path) -> None:
    """Two studies of one head, which its makers registered: nothing is left to move."""
    earlier, later = (read_image(shared / "nifti" / f"ms_p01_study{number}_FLAIR.nii.gz") for number in (1, 2))
    found = register(earlier, later, RegistrationOptions(transform="rigid"))
    assert found.passed and found.motion.angle < 1 and np.abs(found.motion.translation).max() < 1.5
