"""Whether raters put items in the same order, whatever levels each of them prefers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloom.metrics.agreement import MISSING, Floats, Rated


def rest_correlation(ratings: np.ndarray) -> Floats:
    """Spearman's correlation of each rater with the mean of the others, on the items that both rated.

    It says whether raters put items in the same order, whatever level each of them prefers.

    Args:
        ratings: `(items, raters)`, nan for missing.

    Returns:
        `(raters,)`; nan for a rater with fewer than two such items, or where one side is constant.

    Raises:
        UserError: see `Rated.of`.

    Examples:
        >>> ratings = np.array([[1, 2], [2, 3], [3, 4]])  # the second is stricter
        >>> medloom.metrics.rest_correlation(ratings).round(2).tolist()
        [1.0, 1.0]
    """
    rated = Rated.of(ratings)
    return rest_of_items(ranked_with_others(rated), rated.items)


def ranked_with_others(rated: Rated) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """For each rater the items that another one rated too, the order of its own ratings, and that of the others' means.

    Orders are codes: equal values have one, larger values a larger one.
    """
    known = rated.codes != MISSING
    values = np.where(known, rated.levels[rated.codes], 0.0)
    found = []
    for rater in range(len(rated.raters)):
        others = np.where(np.arange(len(rated.raters)) == rater, 0.0, rated.raters)
        times = (known * others).sum(axis=1)
        rows = np.flatnonzero(known[:, rater] & (times > 0))
        mean = (values[rows] @ others) / times[rows]
        # Sums of the same ratings in another order differ in the last digit.
        _, order = np.unique(mean.round(9), return_inverse=True)
        found.append((rows, rated.codes[rows, rater], order))
    return found


def rest_of_items(
    ranked: Sequence[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]], items: Floats
) -> Floats:
    """Spearman's correlations of items that count more than once; see `rest_correlation`."""
    found = np.full(len(ranked), np.nan)
    for rater, (rows, own, others) in enumerate(ranked):
        weights = items[rows]
        if (weights > 0).sum() < 2:
            continue
        one, other = (_ranks(codes, weights) for codes in (own, others))
        spread = float(np.sqrt((weights @ one**2) * (weights @ other**2)))
        if spread > 0:
            found[rater] = float(weights @ (one * other)) / spread
    return found


def _ranks(codes: NDArray[np.intp], weights: Floats) -> Floats:
    """Mean ranks of values that count as often as their weights, less their mean."""
    held = np.bincount(codes, weights)
    ranks = (np.cumsum(held) - held / 2)[codes]
    return np.asarray(ranks - weights @ ranks / weights.sum())
