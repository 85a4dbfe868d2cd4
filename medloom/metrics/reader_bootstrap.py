"""Bootstrap of multi-reader studies over readers and cases; readers may lack scores."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.seeds import numpy_generator
from medloom.metrics.reader_merits import LEAVE_ONE_OUT, Floats, findings_of
from medloom.metrics.uncertainty import Interval, percentile_ends


@dataclass(frozen=True)
class BootstrappedReaders:
    """Means over readers, and their differences.

    Attributes:
        means: of each arm.
        differences: numbers of two arms -> the first less the second.
    """

    means: list[Interval]
    differences: dict[tuple[int, int], Interval]


def multi_reader_bootstrap(
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    seed: int,
    merit: str = "auc",
    threshold: float | None = None,
    fixed_readers: bool = False,
    n: int = 1000,
    level: float = 0.95,
) -> BootstrappedReaders:
    """Mean figures of merit with percentile intervals over readers and cases; the design need not be crossed.

    Readers, positive and negative cases are each drawn with replacement. With few readers the intervals are wider than
    those of `multi_reader_analysis`, since resampled readers and cases vary more than theirs do (Gallas 2009).

    Args:
        truth: `(cases,)` of 0 and 1.
        scores: `(arms, readers, cases)`, higher for positives; nan where a reader did not score a case.
        seed: of the resamples.
        merit: auc, accuracy, sensitivity or specificity.
        threshold: from which a score is a positive finding; for all merits but auc.
        fixed_readers: whether cases alone are drawn.
        n: number of resamples.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: other shapes, fewer than two positives or negatives, an arm without a reader who scored both, or an
            unknown merit.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> truth = np.arange(60) % 2
        >>> scores = rng.normal(size=(2, 4, 60)) + truth * np.array([1.0, 1.6])[:, None, None]
        >>> scores[0, 0, :10] = np.nan
        >>> found = medloom.metrics.multi_reader_bootstrap(truth, scores, seed=0)
        >>> difference = found.differences[0, 1]
        >>> difference.value < 0, difference.low < difference.value < difference.high
        (True, True)
    """
    look_up(LEAVE_ONE_OUT, merit, "figure of merit")
    labels, values = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    if values.ndim != 3 or labels.shape != values.shape[2:] or 0 in values.shape or np.isinf(values).any():
        raise UserError(
            f"truth {labels.shape} and scores {values.shape}; give (cases,) and (arms, readers, cases) without infinite"
            " scores."
        )
    positives, negatives = labels == 1, labels == 0
    if min(positives.sum(), negatives.sum()) < 2 or not (positives | negatives).all():
        raise UserError(
            f"{int(positives.sum())} positive and {int(negatives.sum())} negative cases of {len(labels)}; give two of"
            " each, and no other label than 0 and 1."
        )
    values = findings_of(values, merit, threshold)
    rng, readers = numpy_generator("multi-reader", seed), values.shape[1]
    # How often each case and each reader counts: first all of them once, then in each resample.
    cases = np.ones((n + 1, len(labels)))
    for side in (positives, negatives):
        cases[1:, side] = rng.multinomial(side.sum(), np.full(side.sum(), 1 / side.sum()), n)
    times = np.ones((n + 1, readers))
    if not fixed_readers:
        times[1:] = rng.multinomial(readers, np.full(readers, 1 / readers), n)

    means = []
    for arm in range(values.shape[0]):
        merits = np.stack([_merits(positives, own, cases, merit) for own in values[arm]], axis=1)
        known = ~np.isnan(merits)
        with np.errstate(invalid="ignore"):
            means.append((np.where(known, merits, 0.0) * times).sum(axis=1) / (known * times).sum(axis=1))
        if np.isnan(means[-1][0]):
            raise UserError(
                f"no reader of arm {arm} scored both positive and negative cases; its {merit} is undefined."
            )

    def interval(replicates: Floats) -> Interval:
        # A resample without a reader of an arm says nothing of it.
        drawn = replicates[1:][~np.isnan(replicates[1:])]
        return Interval(float(replicates[0]), *percentile_ends(drawn, len(labels), level), len(labels))

    pairs = combinations(range(len(means)), 2)
    return BootstrappedReaders(
        [interval(mean) for mean in means], {(i, j): interval(means[i] - means[j]) for i, j in pairs}
    )


def _merits(positives: NDArray[np.bool_], scores: Floats, cases: Floats, merit: str) -> Floats:
    """One reader's figure in each resample of cases; nan without a case that it needs."""
    known = ~np.isnan(scores)
    if merit == "auc":
        own, others = (np.flatnonzero(known & side) for side in (positives, ~positives))
        order = (np.sign(scores[own][:, None] - scores[others][None, :]) + 1) / 2
        weights = cases[:, own], cases[:, others]
        sums = ((weights[0] @ order) * weights[1]).sum(axis=1)
        compared = weights[0].sum(axis=1) * weights[1].sum(axis=1)
    else:
        counted = (
            known & {"accuracy": np.ones_like(positives), "sensitivity": positives, "specificity": ~positives}[merit]
        )
        weights_of = cases[:, counted]
        sums = weights_of @ (scores[counted] == positives[counted]).astype(np.float64)
        compared = weights_of.sum(axis=1)
    return np.asarray(np.divide(sums, compared, out=np.full(len(cases), np.nan), where=compared > 0))
