"""Intervals of the agreement of raters, for other items and other raters."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medloom.core.lookup import look_up
from medloom.core.seeds import numpy_generator
from medloom.metrics.agreement import Floats, Rated, alpha, fleiss, gwet, mean_cohen, observed_agreement
from medloom.metrics.rank_agreement import ranked_with_others, rest_of_items
from medloom.metrics.uncertainty import Groups, Interval, codes_of, percentile_ends

# What is measured -> the coefficient of ratings that count more than once.
COEFFICIENTS: dict[str, Callable[..., float]] = {
    "percent_agreement": observed_agreement,
    "cohen_kappa": mean_cohen,
    "fleiss_kappa": fleiss,
    "gwet_ac": gwet,
    "krippendorff_alpha": alpha,
}
# With two raters there is one pair: nothing says how other raters would differ.
FEWEST_RATERS = 3
# Part of the resamples that may lack the coefficient.
MOST_UNDEFINED = 0.2


def agreement_interval(
    measure: str,
    ratings: np.ndarray,
    *,
    seed: int,
    units: Groups | None = None,
    categories: Sequence[float] | None = None,
    fixed_raters: bool = False,
    n: int = 1000,
    level: float = 0.95,
    **options: str,
) -> Interval:
    """A coefficient of agreement with a bootstrap interval over items and over raters.

    Items and raters are resampled with replacement, independently. A rater who is drawn twice is not compared with
    itself, which would be perfect agreement. Two raters are taken as they are: with one pair nothing says how others
    would differ.

    Args:
        measure: percent_agreement, cohen_kappa, fleiss_kappa, gwet_ac or krippendorff_alpha.
        ratings: `(items, raters)`, nan for missing.
        seed: of the resamples.
        units: `(items,)`, the patient of each item; a patient is drawn as a whole. By default each item is its own.
        categories: all levels of the scale; by default those that occur.
        fixed_raters: whether the result is to hold for these raters only; items alone are resampled then.
        n: number of resamples.
        level: nominal coverage, in (0, 1).
        options: of the coefficient: `weights="quadratic"`; of alpha, `level_of="ordinal"`.

    Returns:
        The interval over the patients of items that two or more raters rated. Value and ends are nan where the
        coefficient is undefined, and the ends alone where it is in more than a fifth of the resamples.

    Raises:
        UserError: see `medloom.metrics.agreement.Rated.of`; or an unknown measure or option.

    Examples:
        >>> ratings = np.array([[1, 1, 1], [2, 2, 3], [3, 3, 3], [1, 2, 1], [2, 2, 2]] * 6)
        >>> found = medloom.metrics.agreement_interval("gwet_ac", ratings, seed=0, weights="quadratic")
        >>> round(found.value, 2), found.low < found.value < found.high, found.n
        (0.81, True, 30)
    """
    coefficient = look_up(COEFFICIENTS, measure, "measure of agreement")
    if "level_of" in options:
        options = {"level": options["level_of"]}
    rated = Rated.of(ratings, None if measure == "krippendorff_alpha" else categories)

    def of(drawn: Rated) -> Floats:
        return np.array([coefficient(drawn, **options)])

    return bootstrap_agreement(of, rated, seed, units, fixed_raters, n, level)[0]


def rest_correlation_intervals(
    ratings: np.ndarray, *, seed: int, units: Groups | None = None, n: int = 1000, level: float = 0.95
) -> list[Interval]:
    """Spearman's correlation of each rater with the mean of the others, with a bootstrap interval over items.

    Args:
        ratings: `(items, raters)`, nan for missing.
        seed: of the resamples.
        units: as of `agreement_interval`.
        n: number of resamples.
        level: nominal coverage, in (0, 1).

    Returns:
        One per rater; see `agreement_interval` for nan.

    Raises:
        UserError: see `medloom.metrics.agreement.Rated.of`.

    Examples:
        >>> ratings = np.array([[1, 2, 1], [2, 3, 3], [3, 4, 3], [1, 1, 2], [2, 2, 2]] * 6)
        >>> found = medloom.metrics.rest_correlation_intervals(ratings, seed=0)
        >>> [round(one.value, 2) for one in found]
        [0.97, 0.82, 0.79]
    """
    rated = Rated.of(ratings)
    ranked = ranked_with_others(rated)
    return bootstrap_agreement(lambda drawn: rest_of_items(ranked, drawn.items), rated, seed, units, True, n, level)


def bootstrap_agreement(
    coefficients: Callable[[Rated], Floats],
    rated: Rated,
    seed: int,
    units: Groups | None,
    fixed_raters: bool,
    n: int,
    level: float,
) -> list[Interval]:
    """See `agreement_interval`; of one or more coefficients, from the same resamples."""
    rng, raters = numpy_generator("agreement", seed), len(rated.raters)
    names = np.arange(len(rated.items)) if units is None else units
    codes, count = codes_of(names, len(rated.items), level, least=1)
    used = len(np.unique(codes[(rated.codes >= 0).sum(axis=1) >= 2]))
    values = np.asarray(coefficients(rated), np.float64)
    random_raters = not fixed_raters and raters >= FEWEST_RATERS

    def drawn_raters() -> Floats:
        """How often each rater is drawn; two different ones at least, without whom nothing can be compared."""
        while True:
            times = rng.multinomial(raters, np.full(raters, 1 / raters))
            if (times > 0).sum() >= 2:
                return np.asarray(times, np.float64)

    replicates = np.empty((n if used > 1 and not np.isnan(values).all() else 0, len(values)))
    for place in range(len(replicates)):
        items = rng.multinomial(count, np.full(count, 1 / count)).astype(np.float64)[codes]
        drawn = replace(rated, items=items, raters=drawn_raters() if random_raters else rated.raters)
        replicates[place] = coefficients(drawn)
    found = []
    for value, column in zip(values, replicates.T, strict=True):
        defined = column[~np.isnan(column)]
        enough = not np.isnan(value) and len(defined) >= max((1 - MOST_UNDEFINED) * n, 1)
        ends = percentile_ends(defined, used, level) if enough else (float("nan"), float("nan"))
        found.append(Interval(float(value), *ends, used))
    return found
