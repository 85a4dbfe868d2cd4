"""Intervals and tests: means, distances between sets, differences, equivalence, multiple tests.

Never resample a distance between sets with replacement: duplicates bias it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.matrices import one_thread_each

# With fewer independent units (patients) an interval of reports says more than they know.
LEAST_UNITS = 8
# Rounds in which resamples that lost a group are drawn again.
MOST_REDRAWS = 500

Rows = np.ndarray
Groups = Sequence[object] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
        n: number of independent units (patients, or samples if each is its own patient).

    Examples:
        >>> medloom.metrics.bootstrap_mean(np.ones(3), clusters=[0, 1, 2], seed=0)
        Interval(value=1.0, low=1.0, high=1.0, n=3)
    """

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: np.ndarray, clusters: Groups, seed: int, n: int = 1000, level: float = 0.95) -> Interval:
    """The mean with a percentile bootstrap interval over clusters (Davison and Hinkley 1997, section 3.8).

    With few clusters the percentiles lie farther out (Hesterberg 2015): plain ones of 8 clusters cover 85 to 89 %
    instead of 95 %, these 93 to 97 %. With many clusters the two are equal.

    Args:
        values: finite numbers `(k,)`: measurements, or 0 and 1 for a rate.
        clusters: `(k,)`, the patient or prompt of each value; a cluster is drawn as a whole.
        seed: of the resamples.
        n: number of resamples.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: no values, values that are not finite, different lengths, or fewer than two clusters.

    Examples:
        >>> values, patients = np.array([1, 2, 3, 4]), [0, 0, 1, 1]
        >>> mean = medloom.metrics.bootstrap_mean(values, patients, seed=0)
        >>> mean.value, mean.low, mean.high, mean.n
        (2.5, 1.5, 3.5, 2)
    """
    values, (codes, count) = finite_values(values), codes_of(clusters, len(values), level)
    sums, sizes = np.bincount(codes, values, count), np.bincount(codes, minlength=count)
    draws = numpy_generator("bootstrap", seed).integers(0, count, (n, count))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return Interval(float(values.mean()), *_percentiles(means, _expanded(level, sizes)), count)


def student_mean(values: np.ndarray, clusters: Groups, level: float = 0.95) -> Interval:
    """The mean of the clusters' means with an interval from Student's t distribution: each cluster counts once.

    For levels so high that the percentiles of a bootstrap do not reach them, as in a family of comparisons. Two degrees
    of freedom are taken off for skewed values, as in `bootstrap_mean`.

    Args:
        values: finite numbers `(k,)`.
        clusters: `(k,)`, the patient of each value.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: see `bootstrap_mean`.

    Examples:
        >>> mean = medloom.metrics.student_mean(np.array([1, 3, 4, 6]), clusters=[0, 0, 1, 2])
        >>> mean.value, round(mean.low, 2), mean.n
        (4.0, -16.75, 3)
    """
    values, (codes, count) = finite_values(values), codes_of(clusters, len(values), level)
    means = np.bincount(codes, values, count) / np.bincount(codes, minlength=count)
    freedom = max(count - 3, 1)
    reach = float(student.ppf((1 + level) / 2, freedom) * means.std(ddof=0) / np.sqrt(freedom))
    value = float(means.mean())
    return Interval(value, value - reach, value + reach, count)


def bootstrap_interval(
    statistic: Callable[[Rows], float],
    clusters: Groups,
    seed: int,
    n: int = 1000,
    level: float = 0.95,
    keep: Sequence[int] | np.ndarray | None = None,
) -> Interval:
    """A statistic of rows (AUROC, F1) with a percentile bootstrap interval over clusters. Not for set distances.

    The percentiles are those of `bootstrap_mean`.

    Args:
        statistic: maps row numbers, with repeats, to a finite number.
        clusters: `(k,)`, the patient or prompt of each row.
        seed: of the resamples.
        n: number of resamples.
        level: nominal coverage, in (0, 1).
        keep: `(k,)`, the group of each row without which the statistic is undefined: a class, a dose level; below 0 for
            a row of no group. A resample that lost a whole group is drawn again.

    Raises:
        UserError: fewer than two clusters, a resample for which the statistic is undefined, or groups of so few
            clusters that hardly any resample holds them all.

    Examples:
        >>> values, patients = np.array([1, 2, 3, 4]), [0, 0, 1, 1]
        >>> def median(rows):
        ...     return np.median(values[rows])
        >>> interval = medloom.metrics.bootstrap_interval(median, patients, seed=0)
        >>> interval.value, interval.low, interval.high
        (2.5, 1.5, 3.5)
    """
    codes, count = codes_of(clusters, len(clusters), level)
    members = [np.flatnonzero(codes == code) for code in range(count)]
    drawn = _resamples(codes, count, numpy_generator("bootstrap", seed), n, keep)
    replicates = finite_values(
        np.array([statistic(np.concatenate([members[code] for code in draw])) for draw in drawn])
    )
    ends = _percentiles(replicates, _expanded(level, np.bincount(codes)))
    return Interval(float(statistic(np.arange(len(codes)))), *ends, count)


def subsample_interval(
    statistic: Callable[[Rows, Rows], float],
    groups_x: Groups,
    groups_y: Groups,
    *,
    seed: int,
    at: Literal["infinity", "n"],
    fraction: float = 0.5,
    repeats: int = 200,
    level: float = 0.95,
) -> Interval:
    """A distance between two sets with an interval from subsamples of patients without replacement.

    Politis and Romano (1994), with m = fraction x n patients and the correction for a finite population: differences of
    a subsample from the whole have variance (1/m - 1/n) sigma^2 instead of sigma^2 / n, so they are scaled by
    sqrt(m / (n - m)); a bias of b/n appears in them as b (1/m - 1/n), so their mean is scaled by m / (n - m).
    The interval is symmetric and uses the normal quantile of the differences' spread: their own quantiles put the long
    tail of a distance on the wrong side (91 to 96 % of 400 Gaussian cases covered, instead of 95 to 97 %). The rate
    sqrt(n) holds away from a distance of 0; at 0 the estimate converges at rate n, and the interval is conservative.
    Its lower end may be negative.

    Args:
        statistic: maps row numbers of x and of y to the distance between those rows.
        groups_x: patient of each row of x.
        groups_y: patient of each row of y; subsampled independently of x.
        seed: of the subsamples.
        at: the estimand. `infinity`: the distance between infinite sets, for a bias of order 1/n (FD, squared MMD); the
            bias is removed from the value. `n`: the expected distance at these sizes, to compare with `floor`; valid
            for any statistic (neighbour scores have no bias of order 1/n).
        fraction: fraction of patients in a subsample, in (0, 1).
        repeats: number of subsamples.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: a set with fewer than four patients, or an option out of range.

    Examples:
        >>> x, y = np.random.default_rng(0).normal([[0.0], [3.0]], size=(2, 40))
        >>> def distance(i, j):
        ...     return y[j].mean() - x[i].mean()
        >>> rows = range(40)
        >>> found = medloom.metrics.subsample_interval(distance, rows, rows, seed=0, at="n")
        >>> bool(found.low < 3 < found.high)
        True
    """
    sets = [codes_of(groups, len(groups), level) for groups in (groups_x, groups_y)]
    sizes = [round(fraction * count) for _, count in sets]
    possible = all(2 <= size <= count - 2 for size, (_, count) in zip(sizes, sets, strict=True))
    if at not in ("infinity", "n") or not possible:
        raise UserError(
            f"subsampling {fraction} of {' and '.join(str(count) for _, count in sets)} patients, at={at!r}:"
            " give at least 4 patients per set, a fraction that draws and leaves two or more, and at 'infinity' or 'n'."
        )
    rng = numpy_generator("subsample", seed)

    def part() -> float:
        rows = [
            np.flatnonzero(np.isin(codes, rng.permutation(count)[:size]))
            for (codes, count), size in zip(sets, sizes, strict=True)
        ]
        return float(statistic(rows[0], rows[1]))

    whole = float(statistic(np.arange(len(groups_x)), np.arange(len(groups_y))))
    with one_thread_each():
        differences = finite_values(np.array([part() for _ in range(repeats)])) - whole
    ratio = fraction / (1 - fraction)  # m / (n - m)
    spread = np.sqrt(ratio) * float(differences.std(ddof=1)) * NormalDist().inv_cdf((1 + level) / 2)
    value = whole - ratio * float(differences.mean()) if at == "infinity" else whole
    return Interval(value, value - spread, value + spread, min(count for _, count in sets))


def floor(
    statistic: Callable[[Rows, Rows], float],
    groups: Groups,
    n: int,
    *,
    seed: int,
    repeats: int = 20,
    level: float = 0.95,
) -> Interval:
    """The real-vs-real reference of a distance: the value of a perfect generator at the same sample size.

    Patients are split at random into two sides of n' = min(n, real / 2) images each.

    Args:
        statistic: maps row numbers of the two sides to the distance between them.
        groups: patient of each real image.
        n: number of synthetic images.
        seed: of the splits.
        repeats: number of splits.
        level: fraction of the splits that the interval spans; it describes splits, not the uncertainty of their mean.

    Returns:
        The mean over splits, the span of the splits, and n', the number of images per side.

    Raises:
        UserError: fewer than two patients, or fewer than two images per side.

    Examples:
        >>> x = np.random.default_rng(0).normal(size=(40, 2))
        >>> def distance(i, j):
        ...     return medloom.metrics.frechet_distance(x[i], x[j])
        >>> reference = medloom.metrics.floor(distance, groups=range(40), n=100, seed=0)
        >>> reference.n, reference.low > 0
        (20, True)
    """
    codes, count = codes_of(groups, len(groups), level)
    rng = numpy_generator("floor", seed)
    wanted = min(n, len(codes) // 2)
    splits: list[tuple[Rows, Rows]] = []
    for _ in range(repeats):
        # Two sides without a patient in common, each of at most `wanted` rows.
        order = rng.permutation(count)
        filled = np.cumsum(np.bincount(codes, minlength=count)[order])
        first = int(np.searchsorted(filled, wanted)) + 1
        sides = (np.flatnonzero(np.isin(codes, chosen)) for chosen in (order[:first], order[first:]))
        one, other = (rng.permutation(side)[:wanted] for side in sides)
        splits.append((one, other))
    size = min(len(side) for pair in splits for side in pair)
    if size < 2:
        raise UserError(
            f"{len(codes)} real images of {count} patients leave {size} per side of the real-vs-real reference; give"
            " more."
        )
    distances = finite_values(np.array([statistic(one[:size], other[:size]) for one, other in splits]))
    return Interval(float(distances.mean()), *_percentiles(distances, level), size)


def difference(a: Interval, b: Interval, correlation: float = 0.0) -> Interval:
    """The difference of two estimates with an interval from theirs, which need not be symmetric.

    Newcombe (1998, method 10) for two proportions; Zou (2007) for any two estimates, which may be correlated.

    Args:
        a: an estimate.
        b: what is subtracted from it, at the same level.
        correlation: of the two estimates.

    Returns:
        a - b; n is the smaller one.

    Examples:
        >>> ours = medloom.metrics.proportion_interval(np.ones(40), range(40))
        >>> theirs = medloom.metrics.proportion_interval(np.arange(40) < 20, range(40))
        >>> found = medloom.metrics.difference(ours, theirs)
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.5, 0.33, 0.66)
    """

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0)))

    value = a.value - b.value
    low, high = reach(a.value - a.low, b.high - b.value), reach(a.high - a.value, b.value - b.low)
    return Interval(value, value - low, value + high, min(a.n, b.n))


def p_value(interval: Interval, reference: float = 0.0, level: float = 0.95) -> float:
    """The two-sided p value of a reference by an interval: it is below 1 - level if the interval excludes it.

    The estimate is taken for normal, with a spread on each side as wide as the interval's.

    Args:
        interval: of the estimate.
        reference: the value that is tested.
        level: of the interval.

    Examples:
        >>> from medloom.metrics.uncertainty import Interval
        >>> round(medloom.metrics.p_value(Interval(1.0, 0.0, 3.0, n=50)), 3)
        0.05
    """
    distance = abs(interval.value - reference)
    reach = interval.value - interval.low if interval.value > reference else interval.high - interval.value
    if distance == 0 or reach == 0:
        return float(distance == 0)
    return float(2 * norm.sf(distance / reach * norm.ppf((1 + level) / 2)))


def equivalent(interval: Interval, margin: float, reference: float = 0.0) -> bool:
    """Whether the whole interval lies within `margin` of `reference`: two one-sided tests (Schuirmann 1987).

    An interval of level 1 - 2a gives a test of size a: 0.90 for 5 %, 0.95 for 2.5 %.

    Args:
        interval: of the estimate.
        margin: largest difference that does not matter, above 0.
        reference: value to which the estimate is compared.

    Raises:
        UserError: a margin that is not above 0.

    Examples:
        >>> from medloom.metrics.uncertainty import Interval
        >>> medloom.metrics.equivalent(Interval(0.1, -0.2, 0.4, n=50), margin=0.5)
        True
    """
    if not margin > 0:
        raise UserError(f"equivalence margin {margin}; allowed: above 0, fixed before seeing the data.")
    return reference - margin < interval.low and interval.high < reference + margin


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for multiple testing (Holm 1979), in the order given; reject those at or below the size.

    Args:
        p_values: from 0 to 1.

    Raises:
        UserError: a value outside [0, 1].

    Examples:
        >>> medloom.metrics.holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"p values {list(p_values)}; allowed: 0 to 1.")
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return [float(value) for value in corrected]


def _resamples(
    codes: np.ndarray, count: int, rng: np.random.Generator, n: int, keep: Sequence[int] | np.ndarray | None
) -> np.ndarray:
    """Clusters of each resample, `(n, count)`; none of them lacks a group of `keep`.

    Raises:
        UserError: hardly any resample holds every group.
    """
    draws = rng.integers(0, count, (n, count))
    groups = np.full(len(codes), -1) if keep is None else np.asarray(keep)
    # Whether a cluster has rows of a group.
    holds = [np.bincount(codes[groups == group], minlength=count) > 0 for group in np.unique(groups[groups >= 0])]
    lost = np.arange(n if holds else 0)
    for _ in range(MOST_REDRAWS):
        if not len(lost):
            return draws
        lost = lost[~np.all([own[draws[lost]].any(axis=1) for own in holds], axis=0)]
        draws[lost] = rng.integers(0, count, (len(lost), count))
    raise UserError(
        f"hardly any resample of {count} patients holds all {len(holds)} groups, which need more patients each."
    )


def effective_number(weights: np.ndarray) -> float:
    """Number of equal weights with the same variance of a mean (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights.astype(float) ** 2).sum())


def _expanded(level: float, sizes: np.ndarray) -> float:
    """The level of percentiles whose interval covers `level` with few clusters of these sizes.

    A bootstrap of n values has a variance of (n - 1) / n of the unbiased one, and normal tails instead of Student's
    (Hesterberg 2015, section 3.3). Uneven clusters count as fewer (Kish 1965). Two degrees of freedom more are taken
    off because values are skewed: without it, 90 % are covered with 8 clusters of exponential values, with it 93 %.
    """
    effective = effective_number(sizes)
    freedom = max(effective - 3, 1.0)
    return float(1 - 2 * norm.cdf(np.sqrt(effective / freedom) * student.ppf((1 - level) / 2, freedom)))


def percentile_ends(replicates: np.ndarray, units: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of a percentile bootstrap interval over equal units, as far out as so few units need.

    Args:
        replicates: the statistic of each resample, finite.
        units: how many were resampled.
        level: nominal coverage, in (0, 1).

    Examples:
        >>> from medloom.metrics.uncertainty import percentile_ends
        >>> low, high = percentile_ends(np.arange(1001) / 1000, units=10)
        >>> round(low, 4), round(high, 4)
        (0.0024, 0.9976)
    """
    return _percentiles(finite_values(replicates), _expanded(level, np.ones(units)))


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def finite_values(values: np.ndarray) -> np.ndarray:
    """Values as float64.

    Raises:
        UserError: no values, or some that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UserError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} values are not finite;"
            " give a non-empty list of finite numbers."
        )
    return values


def codes_of(groups: Groups, length: int, level: float, least: int = 2) -> tuple[np.ndarray, int]:
    """Groups as integers from 0, and their number.

    Raises:
        UserError: not one group per row, a level out of range, or fewer groups than `least`.
    """
    if len(groups) != length or not 0 < level < 1:
        raise UserError(
            f"{len(groups)} group names for {length} rows at level {level}; give one per row, and a level in (0, 1)."
        )
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < least:
        raise UserError(f"{length} rows of {len(names)} patient: an interval needs at least two patients.")
    return codes, len(names)
