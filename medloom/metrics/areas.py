"""Areas under the ROC curve with intervals over patients that cover near 1 and with few positives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.metrics.uncertainty import Groups, Interval, difference

Floats = NDArray[np.float64]
# Patients of each class whose scores vary as exponential ones do, by assumption: an area that few pairs in wrong order
# keep from 1 says little of its variance.
ASSUMED = 1.0
# Nearest to an end of an interval that a root is looked for.
NEAR = 1e-9


def auroc_interval(truth: np.ndarray, scores: np.ndarray, patients: Groups, level: float = 0.95) -> Interval:
    """The area under the ROC curve with an interval over patients; of several columns, the mean of their areas.

    The interval holds the areas from which the estimate is no farther than its error allows (a score interval, as
    method 5 of Newcombe 2006), so that it has a width after perfect separation. Its variance as a function of the area
    is that of exponential scores (Hanley and McNeil 1982) for the effective number of patients (Kish 1965), scaled to
    the estimated variance between patients (DeLong 1988, for several images per patient Obuchowski 1997) as far as
    pairs in wrong order allow an estimate. The quantiles are Student's, with degrees of freedom from both classes.

    Args:
        truth: `(n,)` or `(n, columns)` of 0 and 1, both present; nan for a row that does not take part.
        scores: of the same shape, finite, higher for positives.
        patients: `(n,)`; a patient may have images of both classes.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: different shapes, other labels, a single class, scores that are not finite, or a level out of range.

    Examples:
        >>> truth, scores = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([1, 2, 3, 5, 4, 6, 7, 8])
        >>> found = medloom.metrics.auroc_interval(truth, scores, patients=range(8))
        >>> round(found.value, 3), round(found.low, 2), found.n
        (0.938, 0.44, 8)
    """
    return _Areas.of(truth, scores, patients).interval(level)


def auroc_difference(
    truths: tuple[np.ndarray, np.ndarray],
    scores: tuple[np.ndarray, np.ndarray],
    patients: Groups,
    level: float = 0.95,
) -> Interval:
    """The difference of two areas under the ROC curve on the same rows, with an interval over patients.

    The intervals of both are joined by Zou's method (2007), with the correlation that patients in common give.

    Args:
        truths: labels of the two, as in `auroc_interval`; nan where a row takes part in the other one only.
        scores: of the two.
        patients: `(n,)`, of both.
        level: nominal coverage, in (0, 1).

    Returns:
        The first area less the second.

    Raises:
        UserError: see `auroc_interval`.

    Examples:
        >>> truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> scores = np.array([1, 2, 3, 5, 4, 6, 7, 8]), np.array([5, 6, 1, 2, 7, 3, 4, 8])
        >>> found = medloom.metrics.auroc_difference((truth, truth), scores, patients=range(8))
        >>> round(found.value, 2), found.low < 0 < found.high
        (0.19, True)
    """
    one, other = (_Areas.of(*given, patients) for given in zip(truths, scores, strict=True))
    spread = float(np.linalg.norm(one.influence) * np.linalg.norm(other.influence))
    correlation = float(one.influence @ other.influence) / spread if spread > 0 else 0.0
    return difference(one.interval(level), other.interval(level), correlation)


@dataclass(frozen=True, eq=False)
class _Side:
    """One class of one column.

    Attributes:
        n: number of images.
        units: effective number of patients.
        influence: of each patient on the area `(patients,)`.
        variance: of the area, from this class.
        wrong: of each patient, the part of pairs in the less frequent order `(patients,)`.
    """

    n: int
    units: float
    influence: Floats
    variance: float
    wrong: Floats


@dataclass(frozen=True, eq=False)
class _Areas:
    """The mean of the areas of several columns.

    Attributes:
        value: the mean.
        sides: positives and negatives of each column.
        patients: number of them.
    """

    value: float
    sides: list[tuple[_Side, _Side]]
    patients: int

    @classmethod
    def of(cls, truth: np.ndarray, scores: np.ndarray, patients: Groups) -> "_Areas":
        truth, scores = np.asarray(truth, float), np.asarray(scores, float)
        if truth.ndim not in (1, 2) or truth.shape != scores.shape or len(patients) != len(truth):
            raise UserError(
                f"areas of labels {truth.shape} and scores {scores.shape} of {len(patients)} patients; give one shape,"
                " and a patient per row."
            )
        names, codes = np.unique(np.asarray(patients), return_inverse=True)
        columns = zip(truth.reshape(len(truth), -1).T, scores.reshape(len(truth), -1).T, strict=True)
        found = [_sides(labels, own, codes, len(names)) for labels, own in columns]
        return cls(float(np.mean([value for value, _ in found])), [sides for _, sides in found], len(names))

    @property
    def influence(self) -> Floats:
        """Of each patient on the mean `(patients,)`."""
        return np.asarray(np.mean([one.influence + other.influence for one, other in self.sides], axis=0))

    def interval(self, level: float) -> Interval:
        """See `auroc_interval`."""
        if not 0 < level < 1:
            raise UserError(f"an interval of level {level}; give a level in (0, 1).")
        reach = student.ppf((1 + level) / 2, self._freedom()) ** 2 * self._scale()
        low, high = (_end(self.value, bound, lambda area: reach * self._assumed(area)) for bound in (0.0, 1.0))
        return Interval(self.value, low, high, self.patients)

    def _assumed(self, area: float) -> float:
        """The variance at an area if scores are exponential and all images of a patient and all columns alike."""
        return float(np.mean([_exponential(area, p.units, n.units) ** 0.5 for p, n in self.sides]) ** 2)

    def _scale(self) -> float:
        """The variance over the assumed one, estimated as far as wrong pairs allow."""
        wrong = [np.sum([sides[place].wrong for sides in self.sides], axis=0) for place in (0, 1)]
        if not all(side.any() for side in wrong):
            return 1.0
        count = len(self.sides)
        own = float(sum((side.influence**2).sum() for sides in self.sides for side in sides)) / count**2
        # What one patient's images of several classes and columns have in common.
        shared = float((self.influence**2).sum()) - own
        variance = sum(side.variance for sides in self.sides for side in sides) / count**2 + shared
        information = min(float(side.sum() ** 2 / (side**2).sum()) for side in wrong)
        assumed = self._assumed(self.value)
        estimate = (information * variance / assumed + ASSUMED) / (information + ASSUMED)
        # No fewer than all images and columns, each on its own.
        least = sum(_exponential(self.value, p.n, n.n) for p, n in self.sides) / count**2
        return float(max(estimate, least / assumed))

    def _freedom(self) -> float:
        """Degrees of freedom: Satterthwaite's of the classes, a mean over columns, and two that are assumed."""
        weights, freedom = [], []
        for sides in self.sides:
            parts = [side.variance for side in sides]
            loss = sum(part**2 / max(side.units - 1, 1) for part, side in zip(parts, sides, strict=True))
            weights.append(sum(parts) ** 0.5)
            # Without any wrong pair the smaller class decides, which is the least that Satterthwaite's can be.
            least = max(min(side.units for side in sides) - 1, 1.0)
            freedom.append(max(sum(parts) ** 2 / loss, 1.0) if loss > 0 else least)
        return float(np.average(freedom, weights=weights if any(weights) else None)) + 2 * ASSUMED


def _sides(truth: Floats, scores: Floats, codes: NDArray[np.intp], count: int) -> tuple[float, tuple[_Side, _Side]]:
    """The area of one column, and its two classes."""
    known = ~np.isnan(truth)
    truth, scores, codes = truth[known], scores[known], codes[known]
    classes = np.unique(truth).tolist()
    if classes != [0, 1] or not np.isfinite(scores).all():
        raise UserError(
            f"AUROC of labels {classes} with {int((~np.isfinite(scores)).sum())} scores that are not finite; both 0 and"
            " 1 must occur, nothing else, and scores must be finite."
        )
    above = _order(scores[truth == 1], scores[truth == 0])
    below = 1 - _order(scores[truth == 0], scores[truth == 1])
    value = float(above.mean())

    def side(own: NDArray[np.intp], order: Floats) -> _Side:
        images = np.bincount(own, minlength=count)
        influence = np.bincount(own, order - value, count) / len(own)
        wrong = np.bincount(own, 1 - order if value >= 1 / 2 else order, count)
        units = len(own) ** 2 / float((images.astype(float) ** 2).sum())
        patients = int((images > 0).sum())
        variance = patients / max(patients - 1, 1) * float((influence**2).sum())
        return _Side(len(own), units, np.asarray(influence), variance, np.asarray(wrong, float))

    return value, (side(codes[truth == 1], above), side(codes[truth == 0], below))


def _order(own: Floats, others: Floats) -> Floats:
    """Of each score, the fraction of others below it; ties count half."""
    others = np.sort(others)
    return np.asarray((np.searchsorted(others, own) + np.searchsorted(others, own, side="right")) / (2 * len(others)))


def _exponential(area: float, positives: float, negatives: float) -> float:
    """The variance of an area of exponential scores, with a mean of both sample sizes (Newcombe 2006, method 5)."""
    others = max((positives + negatives) / 2 - 1, 0.0)
    return area * (1 - area) * (1 + others * ((1 - area) / (2 - area) + area / (1 + area))) / (positives * negatives)


def _end(value: float, bound: float, squared_reach: Callable[[float], float]) -> float:
    """The area between the estimate and 0 or 1 from which the estimate is exactly as far as its error reaches."""

    def beyond(area: float) -> float:
        return (area - value) ** 2 - squared_reach(area)

    nearest = value + NEAR * (bound - value)
    # An estimate of 0 or 1 is an end itself.
    if value == bound or beyond(nearest) >= 0:
        return value
    return float(brentq(beyond, bound, nearest))
