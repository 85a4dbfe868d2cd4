"""Membership inference: whether a model's training images can be distinguished from other images."""

import numpy as np
from scipy.stats import betabinom

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.areas import auroc_interval
from medloom.metrics.uncertainty import Groups, Interval

PERMUTATIONS = 1000


def membership_auc(
    members: np.ndarray, others: np.ndarray, member_patients: Groups, other_patients: Groups
) -> Interval:
    """Probability that a member scores above another image, with a 95 % interval over patients; 0.5 is chance.

    The interval is that of `auroc_interval`.

    Args:
        members: scores `(n,)` of training images, higher for suspected members.
        others: scores `(m,)` of other images.
        member_patients: patient of each training image.
        other_patients: patient of each other image; none of them a member.

    Raises:
        UserError: no scores, values that are not finite, or a patient on both sides.

    Examples:
        >>> members, others = np.array([0.9, 0.8, 0.4]), np.array([0.1, 0.2, 0.5])
        >>> round(medloom.metrics.membership_auc(members, others, [0, 1, 2], [3, 4, 5]).value, 2)
        0.89
    """
    truth, scores = _together(members, others)
    return auroc_interval(truth, scores, _patients(member_patients, other_patients))


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


def detected_by_chance(
    members: np.ndarray,
    others: np.ndarray,
    member_patients: Groups,
    other_patients: Groups,
    false_positives: float,
    seed: int,
) -> Interval:
    """What `detected` gives if members and others cannot be distinguished: the mean, and the range of 95 % of cases.

    The threshold is one of the others' scores, so that the false-positive rate beyond it varies, and is higher than the
    nominal one in the mean: (k + 1) / (m + 1) if k of m others may exceed it. With one image per patient the number of
    members above it is beta-binomial, whatever the scores. With several, patients are permuted between the two sides.

    Args:
        members: scores `(n,)`.
        others: scores `(m,)`; m must be at least 1 / false_positives.
        member_patients: patient of each member.
        other_patients: patient of each other image; none of them a member.
        false_positives: see `detected`.
        seed: of the permutations.

    Returns:
        The mean and the range; n is the number of other patients.

    Raises:
        UserError: as `membership_auc`, or too few others.

    Examples:
        >>> members, others = np.zeros(100), np.zeros(100)
        >>> patients = range(100), range(100, 200)
        >>> found = medloom.metrics.detected_by_chance(members, others, *patients, false_positives=0.01, seed=0)
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.02, 0.0, 0.07)
    """
    _, scores = _together(members, others)
    names = _patients(member_patients, other_patients)
    allowed = _allowed(len(others), false_positives)
    patients, codes = np.unique(names, return_inverse=True)
    count = len(set(np.asarray(other_patients).tolist()))
    if len(patients) == len(names):
        chance = betabinom(len(members), allowed + 1, len(others) - allowed)
        low, high = chance.ppf([0.025, 0.975]) / len(members)
        return Interval(float(chance.mean() / len(members)), float(low), float(high), count)
    codes = codes[np.argsort(-scores, kind="stable")]
    rng = numpy_generator("detected by chance", seed)
    found = [_found(rng.permutation(len(patients))[codes] < count, false_positives) for _ in range(PERMUTATIONS)]
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(np.mean(found)), float(low), float(high), count)


def threshold(others: np.ndarray, false_positives: float) -> float:
    """The score that at most this fraction of others exceeds.

    Raises:
        UserError: a fraction out of range, or too few others to resolve it.
    """
    return float(np.sort(np.asarray(others, float))[::-1][_allowed(len(others), false_positives)])


def _allowed(others: int, false_positives: float) -> int:
    """How many others may exceed the threshold.

    Raises:
        UserError: a fraction out of range, or too few others to resolve it.
    """
    if not 0 < false_positives < 1 or others * false_positives < 1:
        raise UserError(
            f"detection at {false_positives:.2%} false positives of {others} images; give"
            f" {round(1 / false_positives) if 0 < false_positives < 1 else 'a rate below 1 and'} others or more."
        )
    return int(others * false_positives + 1e-9)


def _found(are_others: np.ndarray, false_positives: float) -> float:
    """The fraction of members above the threshold; images from the highest score on."""
    allowed = int(are_others.sum() * false_positives + 1e-9)
    place = int(np.searchsorted(np.cumsum(are_others), allowed + 1))
    return float((place - allowed) / max((~are_others).sum(), 1))


def _patients(member_patients: Groups, other_patients: Groups) -> np.ndarray:
    """The patients of both sides.

    Raises:
        UserError: a patient on both.
    """
    sides = [np.asarray(side).astype(str) for side in (member_patients, other_patients)]
    if shared := set(sides[0].tolist()) & set(sides[1].tolist()):
        raise UserError(f"{len(shared)} patients are both members and not; give different patients on the two sides.")
    return np.concatenate(sides)


def _together(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = [np.asarray(side, float) for side in (members, others)]
    if any(side.ndim != 1 or not len(side) or not np.isfinite(side).all() for side in sides):
        raise UserError(
            f"membership scores of shapes {sides[0].shape} and {sides[1].shape}; give finite numbers (n,) for both."
        )
    return np.repeat([1, 0], [len(sides[0]), len(sides[1])]), np.concatenate(sides)
