"""Agreement of raters: arrays `(items, raters)`, nan where a rater did not rate an item.

Every coefficient corrects the observed agreement for that of chance, and they differ in what chance is: Cohen's kappa
has each rater's own distribution of levels, Fleiss' kappa one distribution of all raters, Gwet's AC one that is flat
where nearly all ratings are of one level. Where nearly all items are of one level, kappa is low although raters agree
on almost every item; read it together with the percent agreement and AC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.lookup import look_up

Floats = NDArray[np.float64]
MISSING = -1


@dataclass(frozen=True, eq=False)
class Compared:
    """What all resamples of the same ratings have in common.

    Attributes:
        one: first rater of each pair `(pairs,)`.
        other: second rater of each pair.
        first: codes of the first raters `(items, pairs)`.
        second: codes of the second raters.
        both: whether both rated the item.
        held: whether a rater gave an item a level `(items, raters, levels)`, 0 or 1.
    """

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    both: NDArray[np.bool_]
    held: Floats

    @classmethod
    def of(cls, codes: NDArray[np.intp], levels: int) -> "Compared":
        """Of codes `(items, raters)`."""
        one, other = (np.array(side) for side in zip(*combinations(range(codes.shape[1]), 2), strict=True))
        first, second = codes[:, one], codes[:, other]
        held = (codes[..., None] == np.arange(levels)).astype(np.float64)
        return cls(one, other, first, second, (first != MISSING) & (second != MISSING), held)


@dataclass(frozen=True, eq=False)
class Rated:
    """Ratings of items by raters, both of which may count more than once, as in a resample.

    Ratings of one rater are never compared with each other, even if the rater counts twice.

    Attributes:
        codes: `(items, raters)`, the index of the level; MISSING where there is no rating.
        levels: `(levels,)`, the levels as numbers, ascending.
        items: `(items,)`, how often each counts.
        raters: `(raters,)`, how often each counts.
        compared: what resamples have in common.
    """

    codes: NDArray[np.intp]
    levels: Floats
    items: Floats
    raters: Floats
    compared: Compared

    @classmethod
    def of(cls, ratings: np.ndarray, categories: Sequence[float] | None = None) -> "Rated":
        """Check ratings.

        Args:
            ratings: `(items, raters)`, nan for missing.
            categories: all levels of the scale; by default those that occur.

        Raises:
            UserError: another shape, infinite ratings, a rating that is no category, fewer than two raters, or no item
                that two of them rated.
        """
        given = np.asarray(ratings, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] < 2:
            raise UserError(
                f"ratings of shape {given.shape}; agreement needs (items, raters) with at least two raters."
            )
        known = ~np.isnan(given)
        if not (known.sum(axis=1) >= 2).any():
            raise UserError(
                f"no item of {given.shape[0]} was rated by two of the {given.shape[1]} raters; agreement needs items in"
                " common."
            )
        levels = np.unique(given[known]) if categories is None else np.unique(np.asarray(categories, np.float64))
        misfits = np.argwhere(known & ~np.isin(given, levels))
        if not np.isfinite(levels).all() or len(misfits):
            item, rater = misfits[0] if len(misfits) else np.argwhere(np.isinf(given))[0]
            raise UserError(
                f"rating {given[item, rater]:g} of item {item} by rater {rater}; allowed are"
                f" {'finite numbers' if categories is None else ', '.join(f'{level:g}' for level in levels)}."
            )
        codes = np.where(known, np.searchsorted(levels, np.where(known, given, levels[0])), MISSING)
        return cls(codes, levels, np.ones(len(given)), np.ones(given.shape[1]), Compared.of(codes, len(levels)))

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Ratings of both raters of each pair `(items, pairs)`, and how often pairs count; 0 where one is missing."""
        known = self.compared
        return known.first, known.second, known.both * (self.raters[known.one] * self.raters[known.other])

    def shares(self) -> Floats:
        """Of each item, the part of its ratings that has each level `(items, levels)`; nan for an item without any."""
        counts = self.raters @ self.compared.held
        with np.errstate(invalid="ignore"):
            return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def observed(self, weights: Floats) -> float:
        """The mean agreement of pairs of raters, as the mean of items that two or more rated."""
        first, second, times = self.pairs()
        # A missing one indexes the last level, and counts 0 times.
        per_item, compared = (weights[first, second] * times).sum(axis=1), times.sum(axis=1)
        rated = compared > 0
        counted = self.items[rated].sum()
        return float(self.items[rated] @ (per_item[rated] / compared[rated]) / counted) if counted else float("nan")

    def prevalence(self) -> Floats:
        """The mean part of ratings that has each level, over items with a rating."""
        shares = self.shares()
        rated = ~np.isnan(shares[:, 0])
        counted = self.items[rated].sum()
        return np.asarray(self.items[rated] @ shares[rated] / counted if counted else np.full(shares.shape[1], np.nan))


def percent_agreement(ratings: np.ndarray, weights: str = "none", categories: Sequence[float] | None = None) -> float:
    """How often two raters agree: the mean over items of the fraction of pairs of raters with the same rating.

    Args:
        ratings: `(items, raters)`, nan for missing; items that fewer than two rated do not count.
        weights: none, linear, quadratic or ordinal: what near ratings count; see `gwet_ac`.
        categories: all levels of the scale, for weights; by default those that occur.

    Raises:
        UserError: see `Rated.of`; or unknown weights.

    Examples:
        >>> round(medloom.metrics.percent_agreement(np.array([[1, 1, 2], [3, 3, np.nan]])), 3)
        0.667
    """
    return observed_agreement(Rated.of(ratings, categories), weights)


def cohen_kappa(ratings: np.ndarray, weights: str = "none", categories: Sequence[float] | None = None) -> float:
    """Cohen's kappa (1960; weighted 1968), the mean over pairs of raters on the items that both rated.

    Args:
        ratings: `(items, raters)`, nan for missing.
        weights: none, linear, quadratic or ordinal.
        categories: all levels of the scale; by default those that occur.

    Returns:
        The mean of the pairs whose kappa is defined; nan if none is, because both gave all items one level.

    Raises:
        UserError: see `Rated.of`; or unknown weights.

    Examples:
        >>> ratings = np.array([[1, 1], [1, 2], [2, 2], [2, 2]])
        >>> medloom.metrics.cohen_kappa(ratings)
        0.5
    """
    return mean_cohen(Rated.of(ratings, categories), weights)


def fleiss_kappa(ratings: np.ndarray, weights: str = "none", categories: Sequence[float] | None = None) -> float:
    """Fleiss' kappa (1971), also for unequal numbers of raters per item and for weights (Gwet 2014, section 3.3).

    Chance is the distribution of all ratings. With an equal number of ratings per item this is Fleiss' own; otherwise
    every item counts once.

    Args:
        ratings: `(items, raters)`, nan for missing; columns need not be the same persons.
        weights: none, linear, quadratic or ordinal.
        categories: all levels of the scale; by default those that occur.

    Returns:
        Kappa; nan if all ratings are of one level.

    Raises:
        UserError: see `Rated.of`; or unknown weights.

    Examples:
        >>> ratings = np.array([[1, 1, 2], [2, 2, 2], [1, 1, 1]])
        >>> round(medloom.metrics.fleiss_kappa(ratings), 2)
        0.55
    """
    return fleiss(Rated.of(ratings, categories), weights)


def gwet_ac(ratings: np.ndarray, weights: str = "none", categories: Sequence[float] | None = None) -> float:
    """Gwet's AC1 (2008), and with weights AC2 (2014): stable where nearly all ratings are of one level.

    Args:
        ratings: `(items, raters)`, nan for missing.
        weights: none (AC1), linear, quadratic or ordinal (AC2). Of levels c and k of a scale of length L, linear is
            1 - |c - k| / L and quadratic 1 - (c - k)^2 / L^2; ordinal counts the pairs of levels from c to k.
        categories: all levels of the scale. Chance depends on their number; by default those that occur.

    Returns:
        AC; 1 if all ratings are of one level.

    Raises:
        UserError: see `Rated.of`; or unknown weights.

    Examples:
        >>> ratings = np.array([[1, 1, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]])
        >>> round(medloom.metrics.gwet_ac(ratings), 2), round(medloom.metrics.fleiss_kappa(ratings), 2)
        (0.77, 0.4)
    """
    return gwet(Rated.of(ratings, categories), weights)


def krippendorff_alpha(ratings: np.ndarray, level: str = "ordinal") -> float:
    """Krippendorff's alpha (2011) for any number of raters and any missing ratings.

    Args:
        ratings: `(items, raters)`, nan for missing; items that fewer than two rated do not count.
        level: of measurement: nominal, ordinal or interval.

    Returns:
        1 less the observed over the expected disagreement; nan if all ratings are of one level.

    Raises:
        UserError: see `Rated.of`; or an unknown level.

    Examples:
        >>> ratings = np.array([[1, 1, np.nan], [2, 2, 3], [3, 3, 3]])
        >>> round(medloom.metrics.krippendorff_alpha(ratings, "ordinal"), 2)
        0.78
    """
    return alpha(Rated.of(ratings), level)


def undefined(ratings: np.ndarray) -> str:
    """Why kappa and alpha are undefined: all ratings are of one level; empty if they are not.

    Args:
        ratings: `(items, raters)`, nan for missing.
    """
    given = np.asarray(ratings, dtype=np.float64)
    paired = given[(~np.isnan(given)).sum(axis=1) >= 2]
    levels = np.unique(paired[~np.isnan(paired)])
    return f"all ratings are {levels[0]:g}: there is no agreement by chance to compare with" if len(levels) == 1 else ""


def observed_agreement(rated: Rated, weights: str = "none") -> float:
    """See `percent_agreement`."""
    return rated.observed(_weights(weights, rated.levels))


def mean_cohen(rated: Rated, weights: str = "none") -> float:
    """See `cohen_kappa`."""
    table, count = _weights(weights, rated.levels), len(rated.levels)
    total, times = 0.0, 0.0
    for one, other in combinations(range(len(rated.raters)), 2):
        often = rated.raters[one] * rated.raters[other]
        both = (rated.codes[:, one] != MISSING) & (rated.codes[:, other] != MISSING)
        if not often or not rated.items[both].any():
            continue
        cells = rated.codes[both, one] * count + rated.codes[both, other]
        joint = np.bincount(cells, rated.items[both], count**2).reshape(count, count)
        joint = joint / joint.sum()
        chance = float((table * np.outer(joint.sum(axis=1), joint.sum(axis=0))).sum())
        if chance < 1:
            total += float(often) * (float((table * joint).sum()) - chance) / (1 - chance)
            times += float(often)
    return total / times if times else float("nan")


def fleiss(rated: Rated, weights: str = "none") -> float:
    """See `fleiss_kappa`."""
    table, prevalence = _weights(weights, rated.levels), rated.prevalence()
    chance = float(prevalence @ table @ prevalence)
    return (rated.observed(table) - chance) / (1 - chance) if chance < 1 else float("nan")


def gwet(rated: Rated, weights: str = "none") -> float:
    """See `gwet_ac`."""
    table, prevalence, count = _weights(weights, rated.levels), rated.prevalence(), len(rated.levels)
    # With a single level on the scale there is no chance, and every pair agrees.
    spread = float((prevalence * (1 - prevalence)).sum()) / (count * (count - 1)) if count > 1 else 0.0
    chance = float(table.sum()) * spread
    return (rated.observed(table) - chance) / (1 - chance)


def alpha(rated: Rated, level: str = "ordinal") -> float:
    """See `krippendorff_alpha`."""
    look_up(dict.fromkeys(("nominal", "ordinal", "interval")), level, "level of measurement")
    first, second, times = rated.pairs()
    compared, size = times.sum(axis=1), ((rated.codes != MISSING) * rated.raters).sum(axis=1)
    paired = compared > 0
    if not rated.items[paired].any():
        return float("nan")
    # Each item gives as many pairable values as it has ratings.
    share = rated.items[paired] * size[paired] / compared[paired]
    first, second, times = first[paired], second[paired], times[paired] * share[:, None]
    count = len(rated.levels)
    both = times > 0
    held = [np.bincount(side[both], times[both], count) for side in (first, second)]
    values = np.asarray(held[0] + held[1]) / 2
    total = values.sum()
    # Ordinal distances are those of mean ranks: all ratings between two levels, and half of those of both.
    scale = np.cumsum(values) - values / 2 if level == "ordinal" else rated.levels
    differ = first != second
    distance = (differ if level == "nominal" else (scale[first] - scale[second]) ** 2) * times
    apart = 1.0 - np.eye(count) if level == "nominal" else (scale[:, None] - scale[None, :]) ** 2
    expected = float(values @ apart @ values / (total * (total - 1)))
    return 1 - float(distance.sum() / total) / expected if expected > 0 else float("nan")


def _weights(name: str, levels: Floats) -> Floats:
    """What a pair of ratings counts, `(levels, levels)`, from 0 to 1 (Gwet 2014, section 3.5)."""
    look_up(dict.fromkeys(("none", "linear", "quadratic", "ordinal")), name, "weights")
    apart = np.abs(levels[:, None] - levels[None, :])
    if name == "none" or len(levels) == 1:
        return np.asarray(apart == 0, dtype=np.float64)
    if name == "ordinal":
        places = np.arange(float(len(levels)))
        steps = np.abs(places[:, None] - places[None, :])
        apart = steps * (steps + 1) / 2
    relative = apart / apart.max()
    return np.asarray(1 - (relative**2 if name == "quadratic" else relative))
