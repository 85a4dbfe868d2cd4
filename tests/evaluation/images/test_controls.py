"""What every metric is compared with: stand-ins made without a model, and degraded real images."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medloom.core.errors import UserError
from medloom.evaluation.images.features import FeatureSet, refuse_collapsed
from medloom.evaluation.images.fidelity import EXCESS, fidelity_metrics
from medloom.evaluation.images.proofs import excess
from medloom.evaluation.images.stand_ins import sampled, stand_ins
from medloom.evaluation.images.texture import Texture, textures
from medloom.evaluation.report.metrics import Metric


def shapes(n: int, seed: int, size: int = 32) -> tuple[np.ndarray, list[str]]:
    """Discs and rings of varying place and size on grain, `(n, 1, size, size)` in [-1, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images, names = np.empty((n, 1, size, size), np.float32), []
    for row in range(n):
        middle, radius = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(0.2, 0.35) * size
        away = np.hypot(rows - middle[0], columns - middle[1])
        is_ring = row % 2
        names.append("ring" if is_ring else "disc")
        lit = (away < radius) & ((away > radius * 0.6) if is_ring else True)
        images[row, 0] = np.clip(np.where(lit, 0.6, -0.6) + rng.normal(0, 0.05, lit.shape), -1, 1)
    return images, names


def features(values: np.ndarray, name: str = "x") -> FeatureSet:
    n = len(values)
    return FeatureSet(values, np.array([f"{name}{row}" for row in range(n)]), np.full(n, "X"))


def test_stand_ins_have_the_mean_and_grain_of_their_class_and_no_structure() -> None:
    images, names = shapes(120, 0)
    made = stand_ins(images, names, ["disc", "ring"] * 30, 0)
    assert made.shape == (60, 1, 32, 32) and made.min() >= -1 and made.max() <= 1
    for place, name in enumerate(("disc", "ring")):
        own = images[[row for row, other in enumerate(names) if other == name]]
        # Clipping at the ends moves the mean a little.
        assert np.abs(made[place::2].mean(axis=0) - own.mean(axis=0)).max() < 0.25
    assert len(np.unique(made.reshape(60, -1), axis=0)) == 60
    again = stand_ins(images, names, ["disc", "ring"] * 30, 0)
    assert np.array_equal(made, again)
    # A class without images is made from all of them.
    assert stand_ins(images, names, ["square"], 0).shape == (1, 1, 32, 32)
    volumes = np.random.default_rng(0).normal(0, 0.2, (8, 1, 12, 12, 12)).clip(-1, 1)
    assert stand_ins(volumes, ["a"] * 8, ["a"] * 3, 0).shape == (3, 1, 12, 12, 12)


def test_rows_of_each_class_are_sampled() -> None:
    classes = ["a"] * 50 + ["b"] * 5
    rows = sampled(classes, 0, 10)
    assert (rows < 50).sum() == 10 and (rows >= 50).sum() == 5 and np.array_equal(rows, np.sort(rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda x: x, False),
        (lambda x: ndimage.gaussian_filter(x, (0, 0, 0.8, 0.8)), True),
        (lambda x: np.clip(x + np.random.default_rng(0).normal(0, 0.1, x.shape), -1, 1), True),
        (lambda x: np.repeat(np.repeat(x[:, :, ::2, ::2], 2, 2), 2, 3), True),
        (lambda x: x / 3 - 0.6, True),
    ],
)
def test_textures_see_blur_noise_size_and_range(change: object, seen: bool) -> None:
    texture = Texture.of(shapes(100, 0)[0])
    real, ours = texture(shapes(100, 1)[0]), texture(change(shapes(80, 2)[0]))  # type: ignore[operator]
    metrics, _ = fidelity_metrics("texture", features(real), features(ours), 0, verbose=False)
    found = next(metric for metric in metrics if metric.name == EXCESS)
    assert (found.low > 0.1) == seen and (found.high < 0.15) != seen


def test_textures_of_colours_and_volumes() -> None:
    colour = np.repeat(shapes(3, 0)[0], 3, axis=1)
    tinted = colour * np.array([1, 0.5, 0.2]).reshape(1, 3, 1, 1)
    assert textures(colour).shape[1] == textures(shapes(3, 0)[0]).shape[1] + 6
    assert not np.allclose(textures(colour)[:, 11:17], textures(tinted)[:, 11:17])
    assert np.isfinite(textures(np.zeros((2, 1, 16, 16, 6)))).all()


@pytest.mark.parametrize("change", ["blurred", "moved", "swapped"])
def test_textures_of_volumes_see_what_is_wrong_between_slices_only(change: str) -> None:
    rng = np.random.default_rng(0)
    volumes = ndimage.gaussian_filter(rng.normal(size=(60, 1, 16, 16, 16)), (0, 0, 1.5, 1.5, 1.5)).astype(np.float32)
    volumes = np.clip(volumes / (3 * volumes.std()), -1, 1)
    spoiled = volumes.copy()
    for row in range(60):
        for level in range(16):
            if change == "moved":
                spoiled[row, 0, ..., level] = np.roll(volumes[row, 0, ..., level], rng.integers(-1, 2, 2), (0, 1))
            elif change == "swapped":
                spoiled[row, 0, ..., level] = volumes[row, 0, ..., level ^ 1]
    if change == "blurred":
        spoiled = ndimage.gaussian_filter1d(volumes, 0.8, axis=4)
    texture = Texture.of(volumes)
    found = excess(features(texture(volumes)), texture(spoiled))
    assert found is not None and found.low > 0.1
    if change == "swapped":
        # No axial slice is changed: what differs lies between them.
        assert np.array_equal(np.sort(spoiled, axis=4), np.sort(volumes, axis=4))


def test_degraded_real_images_are_in_excess_and_unchanged_ones_are_not() -> None:
    images = shapes(100, 3)[0]
    texture = Texture.of(images)
    own = features(texture(images))
    same, blurred = (
        excess(own, texture(changed)) for changed in (images, ndimage.gaussian_filter(images, (0, 0, 0.8, 0.8)))
    )
    assert same is not None and same.value == pytest.approx(0, abs=1e-6)
    assert blurred is not None and blurred.low > 0
    assert excess(features(own.values[:12]), own.values[:12]) is None


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_features_that_are_all_the_same_are_refused(rounding: float) -> None:
    rng = np.random.default_rng(0)
    base = rng.random(32)
    real, ours = (features((base + rounding * rng.normal(size=(100, 32))).astype(np.float32)) for _ in range(2))
    with pytest.raises(UserError, match="the features of x are the same for all 100 real images"):
        fidelity_metrics("x", real, ours, 0, verbose=False)
    refuse_collapsed("x", rng.normal(size=(10, 4)) * 1e-6)


def test_comparisons_are_kept_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    real, ours = (features(np.random.default_rng(seed).normal(size=(60, 4))) for seed in (0, 1))

    def measured() -> list[Metric]:
        return fidelity_metrics("x", real, ours, 0, verbose=False, control=ours, cache=tmp_path)[0]

    first = measured()
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text().replace('"n": 30', '"n": 29'))
    assert {metric.n for metric in first} == {30, 60} and {
        metric.beyond.n for metric in measured() if metric.beyond
    } > {29}
    kept.write_text("[{}]")
    with pytest.raises(UserError, match=r"is not what an evaluation keeps \(.*\); remove it"):
        measured()
