"""Proportions with intervals over patients that cover near 0 and 1 and with uneven patients."""

import numpy as np
from scipy.stats import beta

from medloom.core.errors import UserError
from medloom.metrics.uncertainty import Groups, Interval, codes_of, effective_number, finite_values

# Clusters whose images are all alike, by assumption. Where a rate's rare outcome is in few clusters, it says little of
# how alike the images of a cluster are.
ALIKE = 0.5


def proportion_interval(
    hits: np.ndarray, clusters: Groups, weights: np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """A proportion with an interval over clusters that covers near 0 and 1 and with uneven clusters.

    The images count as fewer independent ones, as many as the images of a cluster are alike (effective sample size,
    Kish 1965). How alike they are is estimated from the rare outcome, by the variance between clusters and by pairs
    within clusters, and half a cluster of equal images is added to this. With this sample size the ends are quantiles
    of beta distributions (Korn and Graubard 1998), halfway between Clopper and Pearson's, which cover 97 % and more,
    and Jeffreys', which cover as little as 87 %.

    Args:
        hits: `(k,)` of 0 and 1, or means of such.
        clusters: `(k,)`, the patient or prompt of each hit. Nearly everything is possible after a single one.
        weights: `(k,)`, above 0, of each hit; by default all are equal.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: see `bootstrap_mean`; or values outside 0 to 1, or weights that are not above 0.

    Examples:
        >>> found = medloom.metrics.proportion_interval(np.ones(20), clusters=range(20))
        >>> found.value, round(found.low, 2), found.high
        (1.0, 0.86, 1.0)
        >>> found = medloom.metrics.proportion_interval(np.ones(20), clusters=np.repeat(range(5), 4))
        >>> round(found.low, 2), found.n
        (0.54, 5)
    """
    values, (codes, count) = finite_values(hits), codes_of(clusters, len(hits), level, least=1)
    shares = np.ones(len(values)) if weights is None else finite_values(weights)
    if values.min() < 0 or values.max() > 1 or len(shares) != len(values) or shares.min() <= 0:
        raise UserError(
            f"a proportion of values from {values.min():g} to {values.max():g} with {len(shares)} weights from"
            f" {shares.min():g}; give {len(values)} values from 0 to 1 and as many weights above 0."
        )
    value = float(np.average(values, weights=shares))
    # Independent images and clusters that would give as precise a mean as these uneven ones.
    images, units = effective_number(shares), effective_number(np.bincount(codes, shares))
    n = max(images / _design_effect(values, codes, shares, images / units), units)
    low, high = _beta_ends(value * n, (1 - value) * n, level)
    return Interval(value, low, high, count)


def proportion_ratio(hits: np.ndarray, others: np.ndarray, clusters: Groups, level: float = 0.95) -> Interval:
    """The ratio of two proportions of the same rows with an interval over clusters that covers near 1.

    The intervals of `proportion_interval` are joined by the method of Donner and Zou (2012), with the correlation of
    the two between clusters.

    Args:
        hits: `(k,)` of 0 and 1.
        others: `(k,)` of 0 and 1, of which at least one is 1.
        clusters: `(k,)`, the patient of each row.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: see `proportion_interval`; or no hit among the others.

    Examples:
        >>> ours, theirs = np.arange(40) < 20, np.arange(40) < 25
        >>> found = medloom.metrics.proportion_ratio(ours, theirs, clusters=range(40))
        >>> found.value, found.low < 0.8 < found.high < 1
        (0.8, True)
    """
    a, b = (proportion_interval(rows, clusters, level=level) for rows in (hits, others))
    if b.value == 0:
        raise UserError("the ratio to a proportion of 0 is undefined; give rows of which some are hits.")
    codes, count = codes_of(clusters, len(hits), level, least=1)
    one, other = (np.bincount(codes, np.asarray(rows, float) - np.mean(rows), count) for rows in (hits, others))
    spread = float(np.linalg.norm(one) * np.linalg.norm(other))
    correlation = float(one @ other) / spread if spread > 0 else 0.0

    def end(own: float, theirs: float, side: int) -> float:
        """With the end of the first proportion on one side and the end of the second on the other."""
        shared = a.value * b.value - correlation * (a.value - own) * (theirs - b.value)
        first, second = own * (2 * a.value - own), theirs * (2 * b.value - theirs)
        return (shared + side * float(np.sqrt(max(shared**2 - first * second, 0.0)))) / second

    return Interval(a.value / b.value, end(a.low, b.high, -1), end(a.high, b.low, 1), count)


def _design_effect(values: np.ndarray, codes: np.ndarray, shares: np.ndarray, worst: float) -> float:
    """How many images count as one, from 1 to about `worst`, which it is where all images of a cluster are alike."""
    value = np.average(values, weights=shares)
    rare = values if value <= 1 / 2 else 1 - values
    sizes, found = np.bincount(codes), np.bincount(codes, rare)
    # Images in the clusters of rare ones: only these say how alike the images of a cluster are.
    pairs = found * (sizes - 1)
    if len(sizes) < 2 or not pairs.any():
        return worst
    residuals = np.bincount(codes, shares * (values - value)) / shares.sum()
    between = len(sizes) / (len(sizes) - 1) * (residuals**2).sum() * effective_number(shares) / (value * (1 - value))
    rate = found.sum() / sizes.sum()
    alike = np.clip(((found * (found - 1)).sum() / pairs.sum() - rate) / (1 - rate), 0, 1)
    estimate, information = max(between, 1 + (worst - 1) * alike), effective_number(pairs)
    return float(max((information * estimate + ALIKE * worst) / (information + ALIKE), 1.0))


def _beta_ends(hits: float, misses: float, level: float) -> tuple[float, float]:
    """Ends of a proportion's interval; at no hits or no misses it reaches 0 or 1."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits + 0.25, misses + 0.75)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 0.75, misses + 0.25)) if misses > 0 else 1.0
    return low, high
