"""Membership inference: whether the images that a model was trained on can be told from others."""

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.uncertainty import Groups, Interval, bootstrap_interval


def membership_auc(
    members: np.ndarray, others: np.ndarray, member_patients: Groups, other_patients: Groups, seed: int
) -> Interval:
    """Probability that a member has the higher score, with a 95 % interval over patients; 0.5 where nothing is told.

    Args:
        members: scores `(n,)` of images that were trained on, higher where the attack says member.
        others: scores `(m,)` of images that were not.
        member_patients: patient of each.
        other_patients: patient of each; none of them a member.
        seed: of the bootstrap.

    Raises:
        UserError: no scores, values that are not finite, or a patient on both sides.
    """
    truth, scores = _together(members, others)
    names = np.concatenate([np.asarray(member_patients).astype(str), np.asarray(other_patients).astype(str)])
    if shared := set(names[: len(members)]) & set(names[len(members) :]):
        raise UserError(f"{len(shared)} patients are members and not; membership is told between different patients.")

    def area(rows: np.ndarray) -> float:
        drawn = truth[rows] == 1
        return _area(scores[rows][drawn], scores[rows][~drawn])

    return bootstrap_interval(area, names, seed)


def detected(members: np.ndarray, others: np.ndarray, false_positives: float) -> float:
    """Share of members that are found when at most this share of others is called a member (Carlini et al. 2022).

    Args:
        members: scores `(n,)`.
        others: scores `(m,)`; m has to be 1 / false_positives or more, or the share cannot be told.
        false_positives: allowed share of others, in (0, 1).

    Raises:
        UserError: as `membership_auc`, or too few others.
    """
    _together(members, others)
    return float((np.asarray(members, float) > threshold(others, false_positives)).mean())


def threshold(others: np.ndarray, false_positives: float) -> float:
    """The score that at most this share of others is above.

    Raises:
        UserError: a share out of range, or too few others to tell it.
    """
    if not 0 < false_positives < 1 or len(others) * false_positives < 1:
        raise UserError(
            f"detection at {false_positives:.2%} false positives of {len(others)} images; give"
            f" {round(1 / false_positives) if 0 < false_positives < 1 else 'a share below 1 and'} others or more."
        )
    allowed = int(len(others) * false_positives + 1e-9)
    return float(np.sort(np.asarray(others, float))[::-1][allowed])


def _area(members: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties counting half: a thousand resamples of scikit-learn's take minutes."""
    # A resample of very few patients may hold one side only, which tells nothing.
    if not len(members) or not len(others):
        return 0.5
    ranked = np.sort(others)
    below, up_to = np.searchsorted(ranked, members), np.searchsorted(ranked, members, side="right")
    return float((below + up_to).mean() / (2 * len(others)))


def _together(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = [np.asarray(side, float) for side in (members, others)]
    if any(side.ndim != 1 or not len(side) or not np.isfinite(side).all() for side in sides):
        raise UserError(
            f"membership scores of shapes {sides[0].shape} and {sides[1].shape}; give finite numbers (n,) for both."
        )
    return np.repeat([1, 0], [len(sides[0]), len(sides[1])]), np.concatenate(sides)
