"""Statistics of sets: intervals cover and are not wide, sides share no patient, small sets are known early."""

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.kernel import squared_mmd
from medloom.metrics.set_comparison import SetComparison, compare_sets, draw_sides

D = 8


def distances(real: np.ndarray, other: np.ndarray) -> list[float]:
    return [frechet_distance(real, other), squared_mmd(real, other)]


def compared(seed: int, shift: float, n: int = 80, m: int = 60) -> SetComparison:
    rng = np.random.default_rng([seed, n])
    x, y = rng.normal(size=(n, D)), rng.normal(size=(m, D))
    y[:, 0] += shift
    sides = draw_sides(range(n), range(m), seed, draws=8, groups=20)
    return compare_sets(distances, x, y, range(n), range(m), seed, sides=sides)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "widest"), [pytest.param(0.0, 1.6, marks=pytest.mark.slow), (1.4, 1.5)])
def test_the_interval_of_the_difference_covers_and_is_not_wide(shift: float, widest: float) -> None:
    found = [compared(seed, shift).beyond for seed in range(20)]
    values = np.array([each.value for each in found])
    # Frechet distances of two Gaussians of one covariance differ by the squared distance of their means.
    assert values.mean() == pytest.approx(shift**2, abs=3 * values.std() / 20**0.5)
    assert np.mean([each.low <= shift**2 <= each.high for each in found]) >= 0.87
    assert np.mean([each.high - each.low for each in found]) / (3.92 * values.std(ddof=1)) < widest


def test_a_doubled_distance_is_seen() -> None:
    seen = [compared(seed, 0.9, 200, 100).beyond.low > 0 for seed in range(10)]
    assert np.mean(seen) >= 0.8


def test_a_control_set_is_measured_like_the_synthetic_one() -> None:
    rng = np.random.default_rng(0)
    x, y, bad = rng.normal(size=(80, D)), rng.normal(size=(60, D)), rng.normal(size=(50, D)) + 2
    (distance, kernel) = compare_sets(distances, x, y, range(80), range(60), 0, control=bad)
    assert distance.control is not None and distance.control == pytest.approx(4 * D + distance.reference.value, rel=0.1)
    assert kernel.control is not None and kernel.control > 10 * abs(kernel.value.value)
    assert compare_sets(distances, x, y, range(80), range(60), 0)[0].control is None


def test_repeating_every_patient_changes_no_width_by_much() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, D)), rng.normal(size=(60, D))
    mean = [lambda one, other: [float(other.mean() - one.mean())]][0]
    (once,) = compare_sets(mean, x, y, range(60), range(60), 0)
    repeated = np.repeat(np.arange(60), 4)
    (four,) = compare_sets(mean, x[repeated], y[repeated], repeated, repeated, 0)
    widths = [each.beyond.high - each.beyond.low for each in (once, four)]
    assert widths[1] == pytest.approx(widths[0], rel=0.35)


@pytest.mark.parametrize("seed", range(6))
def test_sides_share_no_patient_and_have_one_size_with_1_to_22_images_a_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(18), rng.integers(1, 23, 18))
    prompts = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    sides = draw_sides(patients, prompts, seed)
    assert sides.least >= 6 and sides.least <= sides.n
    for draws, n in ((sides.draws, sides.n), *((own, sides.least) for own in sides.replicates)):
        for one, other, ours in draws:
            assert len(one) == len(other) == len(ours) == n
            assert not set(patients[one]) & set(patients[other])
    # Every replicate lacks a group: the patients of all its draws are fewer.
    for own in sides.replicates:
        assert len(set(np.concatenate([patients[np.concatenate(draw[:2])] for draw in own]))) < 18


def test_too_few_patients_and_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="sets of 3 patients and 9 prompts; give at least 4 of each"):
        draw_sides([0, 1, 2, 2], range(9), 0)
    x = np.random.default_rng(0).normal(size=(40, 1))
    with pytest.raises(UserError, match="statistics of sets are not finite"):
        compare_sets(lambda one, other: [np.nan], x, x, range(40), range(40), 0)
