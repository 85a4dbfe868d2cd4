import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.classification import auroc
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.uncertainty import (
    Interval,
    bootstrap_interval,
    bootstrap_mean,
    equivalent,
    floor,
    holm,
    student_mean,
    subsample_interval,
)


def rng(*seed):
    return np.random.default_rng(seed)


def covers(interval, truth):
    return interval.low <= truth <= interval.high


def frechet_interval(x, y, groups, at, seed):
    def distance(rows_x, rows_y):
        return frechet_distance(x[rows_x], y[rows_y])

    return subsample_interval(distance, groups, groups, seed=seed, at=at, repeats=100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "scale", "n", "d"), [(0.5, 1.0, 200, 4), (0.0, 1.5, 200, 4), (1.0, 1.5, 200, 8), (0.0, 1.0, 200, 4)]
)
def test_subsampling_covers_the_known_distance(shift, scale, n, d):
    truth, hits = d * shift**2 + d * (scale - 1) ** 2, 0
    for trial in range(40):
        draw = rng(7, trial)
        x, y = draw.standard_normal((n, d)), scale * draw.standard_normal((n, d)) + shift
        hits += covers(frechet_interval(x, y, np.arange(n), "infinity", trial), truth)
    assert hits >= 36


def test_subsampling_covers_with_several_images_a_patient():
    patients, hits = np.repeat(np.arange(100), 4), 0
    for trial in range(40):
        draw = rng(8, trial)
        x, y = ((draw.standard_normal((100, 4)).repeat(4, 0) + draw.standard_normal((400, 4))) / 2**0.5 for _ in "xy")
        hits += covers(frechet_interval(x, y + 0.5, patients, "infinity", trial), 1.0)
    assert hits >= 36


def test_subsampling_at_n_covers_the_expected_distance_at_that_size():
    n, d = 100, 4
    sets = [(rng(9, k).standard_normal((n, d)), rng(10, k).standard_normal((n, d)) + 0.5) for k in range(300)]
    expected = np.mean([frechet_distance(x, y) for x, y in sets])
    assert expected > 1.03  # the bias that `infinity` takes off and `n` keeps
    hits = [covers(frechet_interval(x, y, np.arange(n), "n", k), expected) for k, (x, y) in enumerate(sets[:40])]
    assert sum(hits) >= 36


def test_subsampling_a_mean_gives_the_textbook_error():
    x, y = rng(11).standard_normal(300), rng(12).standard_normal(200) + 1
    difference = lambda a, b: y[b].mean() - x[a].mean()  # noqa: E731
    for fraction in (0.3, 0.5, 0.7):
        interval = subsample_interval(
            difference, np.arange(300), np.arange(200), seed=0, at="n", repeats=1000, fraction=fraction
        )
        half = 1.96 * (x.var(ddof=1) / 300 + y.var(ddof=1) / 200) ** 0.5
        assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)
        assert interval.value == difference(slice(None), slice(None)) and interval.n == 200


def test_patients_are_never_repeated_nor_torn_apart():
    patients = np.repeat(np.arange(10), 3)

    def whole_patients(rows, others):
        assert len(set(rows)) == len(rows) and np.bincount(patients[rows]).max(initial=0) == 3
        return float(len(rows))

    subsample_interval(whole_patients, patients, patients, seed=0, at="n", repeats=20)


def test_bootstrap_mean_of_clusters():
    values = rng(13).standard_normal(400)
    alone = bootstrap_mean(values, np.arange(400), seed=0)
    assert alone.value == pytest.approx(values.mean()) and alone.n == 400
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    copies = bootstrap_mean(values.repeat(5), np.arange(400).repeat(5), seed=0)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    assert alone == bootstrap_mean(values, np.arange(400), seed=0) != bootstrap_mean(values, np.arange(400), seed=1)


def test_bootstrap_mean_covers():
    hits = 0
    for trial in range(100):
        draw = rng(14, trial)
        values = draw.standard_normal(40).repeat(3) + draw.standard_normal(120)
        hits += covers(bootstrap_mean(values, np.arange(40).repeat(3), seed=trial), 0.0)
    assert hits >= 88


SHAPES = {"normal": lambda draw, n: draw.standard_normal(n), "skewed": lambda draw, n: draw.exponential(size=n) - 1}


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 15, 30])
@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("most", [1, 6])
def test_intervals_of_few_patients_cover(n, shape, most):
    """Nominal 95 %, with one image a patient and with one to six of them."""
    trials, hits = 1000, {"mean": 0, "student": 0}
    for trial in range(trials):
        draw = rng(18, n, trial)
        patients = np.arange(n).repeat(draw.integers(1, most + 1, n))
        values = SHAPES[shape](draw, n)[patients] + 0.3 * draw.standard_normal(len(patients))
        found = bootstrap_mean(values, patients, seed=trial)
        hits["mean"] += covers(found, 0.0)
        hits["student"] += covers(student_mean(values, patients), 0.0)
    assert min(hits.values()) >= 0.92 * trials, hits
    alike = bootstrap_interval(lambda rows: float(values[rows].mean()), patients, seed=trial)
    assert (alike.low, alike.high) == pytest.approx((found.low, found.high)), "any statistic has these intervals"


def test_many_patients_have_the_plain_interval():
    values = rng(19).standard_normal(2000)
    plain = np.quantile([values[rng(20, k).integers(0, 2000, 2000)].mean() for k in range(1000)], [0.025, 0.975])
    found = bootstrap_mean(values, np.arange(2000), seed=0)
    assert found.high - found.low == pytest.approx(plain[1] - plain[0], rel=0.08)
    alike = student_mean(values, np.arange(2000))
    assert alike.high - alike.low == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.01)


def test_repeated_rows_change_no_interval():
    values, patients = rng(21).exponential(size=12), np.arange(12)
    for k in (2, 5):
        for of in (
            lambda v, p: bootstrap_mean(v, p, seed=0),
            lambda v, p: bootstrap_interval(lambda rows: float(np.median(v[rows])), p, seed=0),
            lambda v, p: student_mean(v, p),
        ):
            once, often = of(values, patients), of(values.repeat(k), patients.repeat(k))
            assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
            assert often.n == once.n == 12


def test_no_resample_loses_a_group():
    groups, seen = np.array([0] * 26 + [1] * 4 + [-1] * 10), set()

    def both(rows):
        seen.add(tuple(sorted(set(groups[rows].tolist()) - {-1})))
        return float(len(rows))

    bootstrap_interval(both, np.arange(40), seed=0, keep=groups)
    assert seen == {(0, 1)}
    bootstrap_interval(both, np.arange(40), seed=0)
    assert (0,) in seen, "without it some do"
    with pytest.raises(UserError, match="hardly any resample of 30 patients holds all 30 groups"):
        bootstrap_interval(lambda rows: 0.0, np.arange(30), seed=0, keep=np.arange(30))


def test_bootstrap_of_auroc():
    truth = np.arange(200) % 2
    scores = truth + rng(15).standard_normal(200)
    interval = bootstrap_interval(lambda rows: auroc(truth[rows], scores[rows]), np.arange(200), seed=0, n=300)
    assert interval.value == auroc(truth, scores) and covers(interval, interval.value)
    assert interval.high - interval.low == pytest.approx(4 * 0.033, rel=0.3)  # Hanley and McNeil 1982 give 0.033


def test_floor_splits_patients_and_sizes():
    patients, seen = np.repeat(np.arange(30), 2), []

    def distance(one, other):
        assert not set(patients[one]) & set(patients[other]) and len(one) == len(other)
        seen.append(len(one))
        return 0.5

    assert floor(distance, patients, 1000, seed=0) == Interval(0.5, 0.5, 0.5, 30)
    assert floor(distance, patients, 11, seed=0, repeats=3).n == 11
    assert seen == [30] * 20 + [11] * 3


def test_floor_of_the_frechet_distance_is_its_bias():
    x = rng(16).standard_normal((400, 4))
    result = floor(lambda a, b: frechet_distance(x[a], x[b]), np.arange(400), 100, seed=0)
    fresh = [frechet_distance(*rng(17, k).standard_normal((2, 100, 4))) for k in range(100)]
    assert result.value == pytest.approx(np.mean(fresh), rel=0.25) and result.low < result.value < result.high


def test_equivalence_needs_the_whole_interval():
    assert equivalent(Interval(0.0, -0.1, 0.1, 9), 0.2)
    assert not equivalent(Interval(0.0, -0.3, 0.1, 9), 0.2)
    assert not equivalent(Interval(0.0, -5.0, 5.0, 9), 0.2)  # contains zero, shows nothing
    assert equivalent(Interval(1.0, 0.9, 1.1, 9), 0.2, reference=1.0)
    with pytest.raises(UserError, match="equivalence margin 0"):
        equivalent(Interval(0, 0, 0, 9), 0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []
    with pytest.raises(UserError, match="0 to 1"):
        holm([1.2])


def test_misuse_is_named():
    with pytest.raises(UserError, match="1 patient"):
        bootstrap_mean(np.ones(3), ["a", "a", "a"], seed=0)
    with pytest.raises(UserError, match="1 of 2 values are not finite"):
        bootstrap_mean(np.array([1, np.nan]), ["a", "b"], seed=0)
    with pytest.raises(UserError, match="2 group names for 3 rows"):
        bootstrap_mean(np.ones(3), ["a", "b"], seed=0)
    with pytest.raises(UserError, match="give at least 4 patients"):
        subsample_interval(lambda a, b: 0.0, np.arange(3), np.arange(9), seed=0, at="n")
    with pytest.raises(UserError, match="at='size'"):
        subsample_interval(lambda a, b: 0.0, np.arange(9), np.arange(9), seed=0, at="size")
    with pytest.raises(UserError, match="per side of the real-vs-real"):
        floor(lambda a, b: 0.0, ["a", "b"], 10, seed=0)
