"""Membership inference: whether a model's training images can be distinguished from other images."""

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.uncertainty import Groups, Interval, bootstrap_interval


def membership_auc(
    members: np.ndarray, others: np.ndarray, member_patients: Groups, other_patients: Groups, seed: int
) -> Interval:
    """Probability that a member scores above another image, with a 95 % interval over patients; 0.5 is chance.

    Args:
        members: scores `(n,)` of training images, higher for suspected members.
        others: scores `(m,)` of other images.
        member_patients: patient of each training image.
        other_patients: patient of each other image; none of them a member.
        seed: of the bootstrap.

    Raises:
        UserError: no scores, values that are not finite, or a patient on both sides.

    Examples:
        >>> members, others = np.array([0.9, 0.8, 0.4]), np.array([0.1, 0.2, 0.5])
        >>> patients = ([0, 1, 2], [3, 4, 5])
        >>> found = medloom.metrics.membership_auc(members, others, *patients, seed=0)
        >>> round(found.value, 2)
        0.89
    """
    truth, scores = _together(members, others)
    names = np.concatenate([np.asarray(member_patients).astype(str), np.asarray(other_patients).astype(str)])
    if shared := set(names[: len(members)]) & set(names[len(members) :]):
        raise UserError(f"{len(shared)} patients are both members and not; give different patients on the two sides.")

    def area(rows: np.ndarray) -> float:
        """Area under the ROC curve by ranks; ties count half. Scikit-learn takes minutes for a thousand resamples."""
        drawn = truth[rows] == 1
        inside, outside = scores[rows][drawn], np.sort(scores[rows][~drawn])
        # A resample of very few patients may have one side only, which is no evidence.
        if not len(inside) or not len(outside):
            return 0.5
        below, up_to = np.searchsorted(outside, inside), np.searchsorted(outside, inside, side="right")
        return float((below + up_to).mean() / (2 * len(outside)))

    return bootstrap_interval(area, names, seed)


def detected(members: np.ndarray, others: np.ndarray, false_positives: float) -> float:
    """True-positive rate at a given false-positive rate (Carlini et al. 2022).

    Args:
        members: scores `(n,)`.
        others: scores `(m,)`; m must be at least 1 / false_positives.
        false_positives: allowed rate of others that are called members, in (0, 1).

    Raises:
        UserError: as `membership_auc`, or too few others.

    Examples:
        >>> members, others = np.array([0.9, 0.3]), np.linspace(0, 0.5, 10)
        >>> medloom.metrics.detected(members, others, false_positives=0.1)
        0.5
    """
    _together(members, others)
    return float((np.asarray(members, float) > threshold(others, false_positives)).mean())


def threshold(others: np.ndarray, false_positives: float) -> float:
    """The score that at most this fraction of others exceeds.

    Raises:
        UserError: a fraction out of range, or too few others to resolve it.
    """
    if not 0 < false_positives < 1 or len(others) * false_positives < 1:
        raise UserError(
            f"detection at {false_positives:.2%} false positives of {len(others)} images; give"
            f" {round(1 / false_positives) if 0 < false_positives < 1 else 'a rate below 1 and'} others or more."
        )
    allowed = int(len(others) * false_positives + 1e-9)
    return float(np.sort(np.asarray(others, float))[::-1][allowed])


def _together(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = [np.asarray(side, float) for side in (members, others)]
    if any(side.ndim != 1 or not len(side) or not np.isfinite(side).all() for side in sides):
        raise UserError(
            f"membership scores of shapes {sides[0].shape} and {sides[1].shape}; give finite numbers (n,) for both."
        )
    return np.repeat([1, 0], [len(sides[0]), len(sides[1])]), np.concatenate(sides)
