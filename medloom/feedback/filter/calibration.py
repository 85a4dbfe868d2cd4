"""Is a score a probability? Calibration of a filter on ratings that it has not learnt from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from medloom.core.seeds import numpy_generator

BINS, FOLDS = 10, 10
EDGE = 1e-4


@dataclass(frozen=True)
class Calibration:
    """A line on the log-odds of a score (Platt 1999).

    Attributes:
        slope: of the log-odds; above 0.
        offset: added to them.
    """

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of scores in [0, 1]."""
        return 1 / (1 + np.exp(-(self.slope * _log_odds(scores) + self.offset)))


def calibrated(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> Calibration:
    """The calibration by which scores say how often images are of the best level.

    Where one kind is missing, or scores order images the wrong way round, nothing is changed.
    """
    if right.all() or not right.any():
        return Calibration()
    fitted = LogisticRegression(C=10.0).fit(_log_odds(scores)[:, None], right)
    slope = float(fitted.coef_[0, 0])
    return Calibration(slope, float(fitted.intercept_[0])) if slope > 0 else Calibration()


def cross_calibrated(
    scores: NDArray[np.floating], right: NDArray[np.bool_], groups: tuple[str, ...], seed: int
) -> NDArray[np.float64]:
    """Each score by the calibration of ratings of other groups, in FOLDS parts, so that an error is not its own."""
    names = sorted(set(groups))
    order = numpy_generator("calibration", seed).permutation(len(names))
    fold = {names[place]: number % FOLDS for number, place in enumerate(order)}
    folds = np.array([fold[group] for group in groups])
    found = np.asarray(scores, np.float64).copy()
    for own in range(FOLDS):
        known, other = folds != own, folds == own
        if known.any() and other.any():
            found[other] = calibrated(scores[known], right[known]).apply(scores[other])
    return found


@dataclass(frozen=True)
class Reliability:
    """How often images of a range of scores were of the best level.

    Attributes:
        score: mean score of each range that has images.
        fraction: of its images that were of the best level.
        count: its images.
    """

    score: tuple[float, ...]
    fraction: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al. 2015): the mean distance of score and fraction."""
        counts = np.array(self.count)
        away = np.abs(np.array(self.score) - np.array(self.fraction))
        return float((away * counts).sum() / counts.sum())


def reliability(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> Reliability:
    """Scores in ten ranges of equal width."""
    place = np.minimum((np.asarray(scores) * BINS).astype(int), BINS - 1)
    used = [number for number in range(BINS) if (place == number).any()]
    return Reliability(
        tuple(float(scores[place == number].mean()) for number in used),
        tuple(float(right[place == number].mean()) for number in used),
        tuple(int((place == number).sum()) for number in used),
    )


def _log_odds(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(scores, np.float64), EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))
