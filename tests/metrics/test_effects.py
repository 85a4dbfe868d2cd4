"""Recovery of effects against cases known by construction."""

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.effects import (
    affected_region,
    dose_levels,
    dose_line,
    map_correlation,
    off_target,
    recovered_fraction,
    right_signs,
)

RNG = np.random.default_rng(0)
LEVELS = np.repeat([-30.0, -10.0, 0.0, 20.0], 60)
PATIENTS = np.tile(np.arange(60), 4)
DOSES = [str(level) for level in LEVELS]


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, 3.0), (0.0, 0.0)])
def test_a_known_line_is_found_within_its_interval(slope: float, intercept: float) -> None:
    estimated = intercept + slope * LEVELS + RNG.normal(0, 4, len(LEVELS))
    line = dose_line(LEVELS, estimated, DOSES, PATIENTS, seed=0)
    assert line.slope.low <= slope <= line.slope.high
    assert line.intercept.low <= intercept <= line.intercept.high
    assert line.slope.high - line.slope.low < 0.15


def test_what_no_generator_can_know_does_not_flatten_the_slope() -> None:
    own = RNG.normal(0, 15, len(LEVELS))
    line = dose_line(LEVELS + own, LEVELS.copy(), DOSES, PATIENTS, seed=0)
    through_patients = np.polyfit(LEVELS + own, LEVELS, 1)[0]
    assert through_patients < 0.75
    assert line.slope.value == pytest.approx(1.0, abs=0.1)


def test_a_line_needs_two_levels() -> None:
    with pytest.raises(UserError, match="two dose levels"):
        dose_line(np.ones(6), np.ones(6), ["a"] * 6, range(6), seed=0)


def test_small_dose_levels_are_left_out_and_no_resample_loses_another() -> None:
    """One patient alone at a dose, four at another: the line has an interval, and the one does not move it."""
    true = np.array([-40.0] + [10.0] * 4 + [30.0] * 15)
    doses = ["alone"] + ["few"] * 4 + ["many"] * 15
    estimated = 2 + 0.5 * true + RNG.normal(0, 1, 20)
    estimated[0] = 900.0
    line = dose_line(true, estimated, doses, range(20), seed=0)
    assert line.slope.low < 0.5 < line.slope.high and line.slope.high - line.slope.low < 0.5
    assert line.slope.n == 19
    assert dose_levels(doses, range(20)).tolist() == [-1, 1, 1, 1, 1, *[2] * 15]
    # Rows of one patient are one patient.
    with pytest.raises(UserError, match="two dose levels of 4 or more patients"):
        dose_line(true, estimated, doses, [0, *[1] * 4, *range(2, 17)], seed=0)


def test_the_fraction_has_a_true_effect_in_every_resample() -> None:
    true, estimated = np.array([8.0, 8.0, *[0.0] * 18]), np.array([4.0, 4.0, *[0.0] * 18])
    fraction = recovered_fraction(true, estimated, range(20), seed=0)
    assert (fraction.value, fraction.low, fraction.high) == (0.5, 0.5, 0.5)


def test_the_recovered_fraction_by_hand() -> None:
    true, estimated = np.array([10.0, -10.0, 20.0, -20.0]), np.array([5.0, -5.0, 10.0, 10.0])
    # (5 + 5 + 10 - 10) / 60
    assert recovered_fraction(true, estimated, [1, 2, 3, 4], seed=0).value == pytest.approx(10 / 60)
    with pytest.raises(UserError, match="no true effect"):
        recovered_fraction(np.zeros(3), estimated[:3], [1, 2, 3], seed=0)


def test_only_signs_above_the_noise_count() -> None:
    hits = right_signs(np.array([5.0, -5.0, 0.5, 5.0]), np.array([1.0, -1.0, -9.0, -1.0]), noise=1.0)
    assert hits.tolist() == [1.0, 1.0, 0.0]


def test_maps_by_hand() -> None:
    true = np.zeros((4, 4))
    true[1, 1], true[2, 2] = 10.0, 0.5
    everywhere = np.ones((4, 4), dtype=bool)
    assert map_correlation(true, 3 * true + 7, everywhere) == pytest.approx(1.0)
    assert map_correlation(true, -true, everywhere) == pytest.approx(-1.0)
    assert map_correlation(true, np.zeros((4, 4)), everywhere) == 0.0
    with pytest.raises(ValueError, match="same everywhere"):
        map_correlation(np.zeros((4, 4)), true, everywhere)
    region = affected_region(true)
    assert np.argwhere(region).tolist() == [[1, 1]]
    # The truth is not off its own target, though it changes a place by less than a tenth of its most.
    assert off_target(true, true, everywhere) == (0.0, 10.0)
    assert off_target(true + 1, true, everywhere) == (1.0, 11.0)
    assert off_target(true + 1, true, everywhere, nothing=0.5) == (pytest.approx(15.5 / 15), 11.0)
    outside, inside = off_target(true, true + 1, everywhere)
    assert np.isnan(outside) and inside == 5.25
    with pytest.raises(ValueError, match="empty"):
        off_target(true, np.zeros((4, 4)), everywhere)
