"""Figures of merit of readers, and how they vary with the sample of cases."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError

Floats = NDArray[np.float64]


def findings_of(scores: Floats, merit: str, threshold: float | None) -> Floats:
    """Scores as a figure of merit takes them: findings, 0 and 1, for all but auc; nan stays.

    Raises:
        UserError: a threshold for auc, or none for another one.
    """
    if merit == "auc" and threshold is None:
        return scores
    if merit == "auc" or threshold is None:
        need = "takes no" if merit == "auc" else "needs a"
        raise UserError(f"merit {merit} {need} threshold from which a score is a finding.")
    return np.where(np.isnan(scores), np.nan, scores >= threshold)


def placements(truth: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Of each positive the fraction of negatives below it, of each negative that of positives above; ties count half.

    Args:
        truth: `(cases,)`.
        scores: `(..., cases)`.
    """
    positives, negatives = scores[..., truth], scores[..., ~truth]
    above = np.empty_like(positives)
    below = np.empty_like(negatives)
    for place in np.ndindex(scores.shape[:-1]):
        own, others = positives[place], negatives[place]
        above[place] = _below(own, others)
        below[place] = 1 - _below(others, own)
    return above, below


def _below(own: Floats, others: Floats) -> Floats:
    others = np.sort(others)
    return np.asarray((np.searchsorted(others, own) + np.searchsorted(others, own, side="right")) / (2 * len(others)))


def delong(truth: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Areas and their covariance by DeLong's structural components (1988)."""
    above, below = placements(truth, scores)
    areas = above.mean(axis=-1)
    sides = (side.reshape(-1, side.shape[-1]) for side in (above, below))
    return areas, sum((np.cov(side) / side.shape[-1] for side in sides), np.zeros((areas.size, areas.size)))


def _areas_without(truth: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Areas, and those without each case `(..., cases)`."""
    above, below = placements(truth, scores)
    areas = above.mean(axis=-1)
    others = np.empty_like(scores)
    others[..., truth] = _mean_without(above)
    others[..., ~truth] = _mean_without(below)
    return areas, others


def _fractions_without(truth: NDArray[np.bool_], findings: Floats, of: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Fractions of right findings of some cases, and those without each case; without another case they stay."""
    right = (findings == truth)[..., of].astype(np.float64)
    fractions = right.mean(axis=-1)
    others = np.repeat(fractions[..., None], len(truth), axis=-1)
    others[..., of] = _mean_without(right)
    return fractions, others


def _mean_without(values: Floats) -> Floats:
    """The mean of the others, for each value of the last axis."""
    return np.asarray((values.sum(axis=-1, keepdims=True) - values) / (values.shape[-1] - 1))


# Figure of merit -> from truth and scores (or findings, 0 and 1) its values, and those without each case.
LEAVE_ONE_OUT: dict[str, Callable[[NDArray[np.bool_], Floats], tuple[Floats, Floats]]] = {
    "auc": _areas_without,
    "accuracy": lambda truth, found: _fractions_without(truth, found, np.ones(len(truth), dtype=bool)),
    "sensitivity": lambda truth, found: _fractions_without(truth, found, truth),
    "specificity": lambda truth, found: _fractions_without(truth, found, ~truth),
}
