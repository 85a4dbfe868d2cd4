"""Statistics between a real and a synthetic set, compared with the same between two sides of the real one.

Never resample such a statistic with replacement: duplicates bias it. The intervals are those of a jackknife that leaves
out a group of patients at a time. It keeps all statistics at one number of images per side, since their bias depends on
it; and all draws, so that replicates differ by the patients that were left out and not by chance.

Of equal sets a distance has no linear part, and a jackknife has about twice its variance, or more where the statistic
is not smooth. How much that is on these data is measured: patients and prompts are pooled and dealt into two sets anew.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.matrices import one_thread_each
from medloom.metrics.uncertainty import Groups, Interval

DRAWS, GROUPS = 16, 40
# Equal sets that are dealt of patients and prompts, and groups of the first, of which a jackknife is made.
EQUAL_SETS, EQUAL_GROUPS = 20, 20
# Patients and prompts with more unlike numbers of images cannot stand for each other.
ALIKE, LEAST_OF_SIDE = 1.5, 0.9
# Rows of a side beyond which intervals are narrow enough without them.
MOST_ROWS = 300
# Fraction of a variance that is kept at least: both the variance and its excess are estimates.
LEAST_LEFT = 0.5
TRIES = 8
LEVEL = 0.95

Rows = NDArray[np.intp]
Values = NDArray[np.float64]
Features = NDArray[np.floating]
Draws = Sequence[tuple[Rows, Rows, Rows]]
# A real side and another set, as features, to the values of one or more statistics.
Statistics = Callable[[Features, Features], Sequence[float]]


@dataclass(frozen=True)
class Sides:
    """Rows of both sets in several draws; all sides have the same number of rows.

    Attributes:
        draws: of each draw the rows of one real side, of the other real side, and of the synthetic set.
        replicates: the same draws, each time without one group of patients and of synthetic units.
        n: rows per side of a draw.
        least: rows per side of a replicate's draw.
    """

    draws: list[tuple[Rows, Rows, Rows]]
    replicates: list[list[tuple[Rows, Rows, Rows]]]
    n: int
    least: int


@dataclass(frozen=True)
class SetComparison:
    """One statistic.

    Attributes:
        value: between real and synthetic images, with its interval.
        reference: between two sides of the real images, with its interval.
        beyond: the value less the reference, with its interval, which is narrower than those of the two.
        control: between real images and a control set; None without one.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 80, 1))
        >>> def shift(real, other):
        ...     return [other.mean() - real.mean()]
        >>> (found,) = compare_sets(shift, x, y + 3, range(80), range(80), seed=0)
        >>> bool(found.beyond.low < 3 < found.beyond.high)
        True
    """

    value: Interval
    reference: Interval
    beyond: Interval
    control: float | None = None


def draw_sides(
    real: Groups, synthetic: Groups, seed: int, draws: int = DRAWS, groups: int = GROUPS, most: int | None = None
) -> Sides:
    """Draw sides of both sets, before any statistic is computed, so that sets that are too small are known early.

    No patient is on both real sides. With patients of many images the sides are smaller than half of the images.

    Args:
        real: patient of each real image.
        synthetic: patient or prompt of each synthetic image.
        seed: of the draws and groups.
        draws: number of draws.
        groups: number of groups that are left out one at a time; at most as many as there are patients or prompts, and
            0 for no replicates.
        most: largest number of rows per side.

    Raises:
        UserError: fewer than four patients or prompts.

    Examples:
        >>> draw_sides(range(100), range(60), seed=0).n
        50
    """
    codes = [_numbered(each) for each in (real, synthetic)]
    counts = [int(own.max(initial=-1)) + 1 for own in codes]
    if min(counts) < 4:
        raise UserError(f"sets of {counts[0]} patients and {counts[1]} prompts; give at least 4 of each.")
    rng = numpy_generator("sides", seed)
    number = min(groups, *counts)
    dealt = [rng.permutation(count) % max(number, 1) for count in counts]
    everyone = [np.ones(len(own), bool) for own in codes]
    wanted = min(len(codes[1]), len(codes[0]) // 2, len(codes[1]) if most is None else most)

    def drawn() -> tuple[Rows, ...]:
        """The order of a draw; drawn again where a patient of many images makes a side small."""
        tried = [tuple(_order(own, rng) for own in codes) for _ in range(1 if counts[0] == len(codes[0]) else TRIES)]
        return max(tried, key=lambda order: _smallest([_sides(order, codes[0], everyone, wanted)]))

    orders = [drawn() for _ in range(draws)]
    whole = [_sides(order, codes[0], everyone, wanted) for order in orders]
    left = [
        [
            _sides(order, codes[0], [own[code] != group for own, code in zip(dealt, codes, strict=True)], wanted)
            for order in orders
        ]
        for group in range(number)
    ]
    n = _smallest(whole)
    least = min([n, *(_smallest(each) for each in left)])
    return Sides([_cut(each, n) for each in whole], [[_cut(each, least) for each in own] for own in left], n, least)


def compare_sets(
    statistics: Statistics,
    real: Features,
    synthetic: Features,
    real_groups: Groups,
    synthetic_groups: Groups,
    seed: int,
    *,
    control: Features | None = None,
    sides: Sides | None = None,
    equal_sets: int = EQUAL_SETS,
) -> list[SetComparison]:
    """Statistics of a synthetic set, of two sides of the real set, and their difference, with 95 % intervals.

    The value is the mean over draws of a side of each set, all of n' = min(synthetic, real / 2) images, and so is the
    reference. The jackknife over groups of patients (Shao and Wu 1989) gives their variances and the one of their
    difference; the variance of the mean over draws is added. For equal sets, where a distance has no linear part, the
    jackknife has up to twice the variance (Efron and Stein 1981), or more. So where no statistic sees a difference, its
    variance is less by what the jackknife has too much on equal sets, which are dealt of patients and prompts together;
    it is at least half of it, and the variance of the difference over those. Value and reference of equal sets keep
    intervals that are up to 1.5 times too wide.

    Args:
        statistics: maps a real side and another set, as features, to finite numbers.
        real: features `(n, d)`.
        synthetic: features `(m, d)`.
        real_groups: patient of each real row.
        synthetic_groups: patient or prompt of each synthetic row.
        seed: of the draws and groups.
        control: features `(k, d)` of a set that is known to be bad; its statistics are given without interval.
        sides: the draws; default: `draw_sides`.
        equal_sets: number of equal sets; 0 for an interval of the difference by the jackknife alone. None are dealt
            where patients have more than 1.5 times as many images as prompts, or the reverse, and none for more than
            300 images a side, whose intervals are narrow.

    Returns:
        One comparison per statistic. Its `value.n` is n'.

    Raises:
        UserError: see `draw_sides`; statistics that are not finite.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 80, 2))
        >>> def distance(real, other):
        ...     return [medloom.metrics.frechet_distance(real, other)]
        >>> (found,) = medloom.metrics.compare_sets(distance, x, y, range(80), range(80), seed=0)
        >>> bool(found.beyond.low < 0 < found.beyond.high), found.value.n
        (True, 40)
    """
    sides = sides or draw_sides(real_groups, synthetic_groups, seed)

    def measured(x: Features, y: Features, draws: Draws) -> Values:
        """Value, reference and difference of each draw: `(draws, 3, statistics)`."""
        found = []
        for one, other, ours in draws:
            # Both real sides meet the synthetic rows.
            value = np.mean([statistics(x[side], y[ours]) for side in (one, other)], axis=0)
            reference = np.asarray(statistics(x[one], x[other]), float)
            found.append([value, reference, value - reference])
        return _finite(np.array(found))

    def all_measured(x: Features, y: Features, each: Sequence[Sides]) -> list[list[Values]]:
        """Of each, what its draws measure, and those of its replicates."""
        with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
            tasks = [
                [pool.submit(copy_context().run, measured, x, y, draws) for draws in (own.draws, *own.replicates)]
                for own in each
            ]
            return [[task.result() for task in own] for own in tasks]

    ((drawn, *left),) = all_measured(real, synthetic, [sides])
    means, variance = drawn.mean(axis=0), _variance(drawn, left)
    reach = float(student.ppf((1 + LEVEL) / 2, len(left) - 1))
    # Where one statistic sees a difference, the sets are not equal for the others either.
    unseen = (np.abs(means[2]) < reach * np.sqrt(variance[2])).all()
    equal = _equal_sets(real_groups, synthetic_groups, sides, equal_sets, seed) if unseen else []
    if equal:
        pooled = np.concatenate([real, synthetic])
        variance[2] = _without_excess(variance[2], all_measured(pooled, pooled, equal))
    controls: list[float | None] = [None] * means.shape[1]
    if control is not None:
        rng = numpy_generator("control", seed)
        against = [
            statistics(real[one], control[rng.permutation(len(control))[: sides.n]]) for one, _, _ in sides.draws
        ]
        controls = list(_finite(np.array(against, float)).mean(axis=0))
    intervals = [
        [
            Interval(float(value), float(value - width), float(value + width), sides.n)
            for value, width in zip(*own, strict=True)
        ]
        for own in zip(means, reach * np.sqrt(variance), strict=True)
    ]
    return [SetComparison(*each) for each in zip(*intervals, controls, strict=True)]


def _variance(drawn: Values, left: Sequence[Values]) -> Values:
    """Of means over draws `(draws, 3, statistics)`: the jackknife's, and what few draws add."""
    replicates = np.stack([each.mean(axis=0) for each in left])
    spread: Values = (len(left) - 1) / len(left) * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0)
    few: Values = drawn.var(axis=0, ddof=1) / len(drawn)
    return spread + few


def _without_excess(variance: Values, of_equal: Sequence[Sequence[Values]]) -> Values:
    """The variance of the difference without what the jackknife of equal sets has too much.

    Args:
        variance: of each statistic.
        of_equal: of each equal set its draws, and of the first one its replicates.
    """
    true: Values = np.var([drawn.mean(axis=0)[2] for drawn, *_ in of_equal], axis=0, ddof=1)
    drawn, *left = of_equal[0]
    excess = np.maximum(_variance(drawn, left)[2] - true, 0)
    least = np.maximum(true, LEAST_LEFT * variance)
    needed: Values = np.minimum(variance, np.maximum(variance - excess, least))
    return needed


def _equal_sets(real: Groups, synthetic: Groups, sides: Sides, number: int, seed: int) -> list[Sides]:
    """Sides of sets that are equal, as patients and prompts are dealt anew. Rows are those of both, real ones first."""
    codes = [_numbered(each) for each in (real, synthetic)]
    counts = [int(own.max()) + 1 for own in codes]
    sizes = [len(own) / count for own, count in zip(codes, counts, strict=True)]
    if number == 0 or sides.n > MOST_ROWS or max(sizes) > ALIKE * min(sizes):
        return []
    units = np.concatenate([codes[0], codes[1] + counts[0]])
    rng = numpy_generator("equal sets", seed)
    made = []
    for place in range(number):
        first = rng.permutation(sum(counts))[units] < counts[0]
        x, y = np.flatnonzero(first), np.flatnonzero(~first)
        own = draw_sides(units[x], units[y], place, len(sides.draws), 0 if place else EQUAL_GROUPS, sides.n)
        whole, *left = [
            [(x[one], x[other], y[ours]) for one, other, ours in each] for each in (own.draws, *own.replicates)
        ]
        made.append(Sides(whole, left, own.n, own.least))
    # Patients of many images may be dealt such that sides are smaller, and vary more.
    return made if all(own.n > LEAST_OF_SIDE * sides.n for own in made) else []


def _numbered(groups: Groups) -> NDArray[np.intp]:
    """Groups as numbers from 0."""
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _order(codes: NDArray[np.integer], rng: np.random.Generator) -> Rows:
    """All rows, patient by patient, both in random order."""
    rank = rng.permutation(int(codes.max()) + 1)[codes]
    return np.lexsort((rng.permutation(len(codes)), rank))


def _sides(
    order: tuple[Rows, ...], patients: NDArray[np.integer], kept: Sequence[NDArray[np.bool_]], wanted: int
) -> tuple[Rows, Rows, Rows]:
    """The first rows of each order, and the last real ones of other patients; without rows that are not kept."""
    real, synthetic = (own[keep[own]] for own, keep in zip(order, kept, strict=True))
    # Half of the rows, so that the patient in the middle leaves rows on the other side.
    one = real[: min(wanted, max(len(real) // 2, 1))]
    seen = np.zeros(int(patients.max()) + 1, bool)
    seen[patients[one]] = True
    others = real[~seen[patients[real]]]
    return one, others[::-1][:wanted], synthetic[:wanted]


def _smallest(draws: Draws) -> int:
    return min(len(side) for draw in draws for side in draw)


def _cut(draw: tuple[Rows, Rows, Rows], n: int) -> tuple[Rows, Rows, Rows]:
    one, other, ours = draw
    return one[:n], other[:n], ours[:n]


def _finite(values: Values) -> Values:
    if not np.isfinite(values).all():
        raise UserError(f"{int((~np.isfinite(values)).sum())} of {values.size} statistics of sets are not finite.")
    return values
