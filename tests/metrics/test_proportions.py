"""Proportions, their differences and ratios: intervals that cover near 0 and 1 and with uneven clusters."""

import numpy as np
import pytest
from scipy.stats import binomtest

from medloom.core.errors import UserError
from medloom.metrics.proportions import proportion_interval, proportion_ratio
from medloom.metrics.uncertainty import (
    Interval,
    bootstrap_mean,
    difference,
    p_value,
)

REPETITIONS = 300
# Of 300 repetitions at a true coverage of 95 %, fewer come once in a thousand.
LEAST = 0.91


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def uneven(random: np.random.Generator, patients: int, kind: str) -> np.ndarray:
    """The patient of each image."""
    sizes = {
        "one": np.ones(patients, int),
        "five": np.full(patients, 5),
        "1 to 20": random.integers(1, 21, patients),
        "a fifth has many": 1 + (random.random(patients) < 0.2) * random.integers(10, 60, patients),
    }[kind]
    return np.arange(patients).repeat(sizes)


def hits(random: np.random.Generator, patients: np.ndarray, rate: float, alike: float) -> np.ndarray:
    """Beta-binomial hits; at 1 all images of a patient are equal."""
    scale = (1 - alike) / alike if alike else np.inf
    count = patients.max() + 1
    own = {0.0: np.full(count, rate), 1.0: random.random(count) < rate}.get(alike)
    if own is None:
        own = random.beta(rate * scale, (1 - rate) * scale, count)
    return (random.random(len(patients)) < own[patients]).astype(float)


@pytest.mark.parametrize(
    ("patients", "kind", "rate", "alike"),
    [
        (8, "1 to 20", 0.7, 0.5),
        (30, "one", 0.99, 0.0),
        (30, "1 to 20", 0.95, 0.0),
        (30, "a fifth has many", 0.05, 1.0),
        (50, "five", 0.95, 1.0),
        (100, "1 to 20", 0.99, 0.3),
        (150, "a fifth has many", 0.95, 1.0),
        (300, "1 to 20", 0.99, 0.3),
        (300, "five", 0.005, 0.3),
        (500, "1 to 20", 0.5, 1.0),
    ],
)
def test_proportions_cover(patients: int, kind: str, rate: float, alike: float) -> None:
    covered = 0
    for trial in range(REPETITIONS):
        random = np.random.default_rng([1, patients, trial])
        of = uneven(random, patients, kind)
        covered += covers(proportion_interval(hits(random, of, rate, alike), of), rate)
    assert covered >= LEAST * REPETITIONS


def test_the_bootstrap_does_not_cover_there() -> None:
    """A published interval: percentiles of resampled rates. It covers 3 of 4 times where the nominal level is 95 %."""
    covered = 0
    for trial in range(REPETITIONS):
        random = np.random.default_rng([1, 100, trial])
        of = uneven(random, 100, "1 to 20")
        covered += covers(bootstrap_mean(hits(random, of, 0.99, 0.3), of, seed=trial, n=200), 0.99)
    assert covered < 0.9 * REPETITIONS


def test_independent_images_have_the_width_of_their_number() -> None:
    random = np.random.default_rng(2)
    patients = np.arange(400).repeat(5)
    found = proportion_interval((random.random(2000) < 0.3).astype(float), patients)
    assert found.n == 400 and found.high - found.low == pytest.approx(2 * 1.96 * (0.21 / 2000) ** 0.5, rel=0.15)


def test_the_number_of_equal_clusters_counts_and_not_that_of_their_images() -> None:
    rows = np.array([0.0] * 3 + [1.0] * 17)
    once = proportion_interval(rows, np.arange(20))
    for k in (2, 7):
        often = proportion_interval(rows.repeat(k), np.arange(20).repeat(k))
        assert (often.value, often.low, often.high, often.n) == pytest.approx((once.value, once.low, once.high, 20))
    exact = binomtest(17, 20).proportion_ci(method="exact")
    assert exact.low < once.low < 0.85 < once.high < exact.high, "narrower than Clopper and Pearson's"


def test_one_large_patient_is_one_patient() -> None:
    alone = proportion_interval(np.ones(101), np.arange(101))
    patients = np.concatenate([np.zeros(100, int), np.arange(1, 101)])
    half = proportion_interval(np.ones(200), patients)
    # The effective number of patients is 200^2 / (100^2 + 100).
    assert half.low == pytest.approx(proportion_interval(np.ones(4), np.arange(4)).low, abs=0.01)
    assert alone.low > 0.95 and half.high == 1
    single = proportion_interval(np.array([1.0, 0, 1, 1]), ["a"] * 4)
    assert single.low < 0.1 and single.high > 0.95 and single.n == 1


def test_weights_and_means_are_taken() -> None:
    rows, weights = np.array([1.0, 0, 1, 1, 0, 1]), np.array([1.0, 1, 1, 2, 2, 2])
    found = proportion_interval(rows, np.arange(6), weights)
    assert found.value == pytest.approx(6 / 9)
    assert found.low < proportion_interval(rows, np.arange(6)).low, "uneven weights count as fewer images"
    assert proportion_interval(np.array([0.5, 0.25, 1.0]), np.arange(3)).value == pytest.approx(7 / 12)


def test_a_difference_as_published() -> None:
    def wilson(count: int, n: int) -> Interval:
        ends = binomtest(count, n).proportion_ci(method="wilson")
        return Interval(count / n, float(ends.low), float(ends.high), n)

    found = difference(wilson(56, 70), wilson(48, 80))  # Newcombe 1998, table II (a), method 10
    assert (found.low, found.high, found.n) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4), 70)
    nothing = difference(wilson(0, 10), wilson(0, 20))  # (f)
    assert (nothing.low, nothing.high) == pytest.approx((-0.1611, 0.2775), abs=1e-4)


def test_correlated_estimates_have_a_sharper_difference() -> None:
    one, other = Interval(0.6, 0.5, 0.7, 50), Interval(0.5, 0.4, 0.6, 50)
    apart, together = difference(one, other), difference(one, other, correlation=0.9)
    assert apart.high - apart.low == pytest.approx(2 * 0.1 * 2**0.5)
    assert together.high - together.low == pytest.approx(2 * 0.1 * 0.2**0.5)


def test_half_of_a_set_of_one_patient_covers() -> None:
    covered = 0
    for trial in range(REPETITIONS):
        random = np.random.default_rng([3, trial])
        first, second = np.concatenate([np.zeros(100, int), np.arange(1, 101)]), np.arange(100)
        found = [
            proportion_interval(hits(random, patients, rate, 0.3), patients)
            for patients, rate in ((first, 0.2), (second, 0.1))
        ]
        covered += covers(difference(*found), 0.1)
    assert covered >= LEAST * REPETITIONS


def test_ratios_cover_and_have_width_at_1() -> None:
    covered = 0
    for trial in range(REPETITIONS):
        random = np.random.default_rng([4, trial])
        hard, patients = random.standard_normal(90), np.arange(30).repeat(3)
        ours, theirs = (
            ((hard + random.standard_normal(90)) / 2**0.5 < bound).astype(float) for bound in (1.2816, 1.6449)
        )
        covered += covers(proportion_ratio(ours, theirs, patients), 0.9 / 0.95)
    assert covered >= LEAST * REPETITIONS
    perfect = proportion_ratio(np.ones(20), np.ones(20), np.arange(20))
    assert perfect.value == 1 and perfect.low == pytest.approx(0.856, abs=1e-3) and perfect.high > 1.1
    with pytest.raises(UserError, match="proportion of 0 is undefined"):
        proportion_ratio(np.ones(9), np.zeros(9), np.arange(9))


def test_a_p_value_agrees_with_its_interval() -> None:
    assert p_value(Interval(0.2, 0.0, 0.5, 9)) == pytest.approx(0.05)
    assert p_value(Interval(0.2, 0.1, 0.3, 9), 0.5) < 0.01 < 0.05 < p_value(Interval(0.2, -0.1, 0.4, 9))
    assert p_value(Interval(0.0, -1.0, 1.0, 9)) == 1 and p_value(Interval(1.0, 1.0, 1.0, 9)) == 0


def test_mistakes_with_proportions_are_named() -> None:
    with pytest.raises(UserError, match="values from 0 to 3"):
        proportion_interval(np.array([0.0, 3.0]), [0, 1])
    with pytest.raises(UserError, match="give 2 values from 0 to 1 and as many weights"):
        proportion_interval(np.array([0.0, 1.0]), [0, 1], np.array([1.0, 0.0]))
