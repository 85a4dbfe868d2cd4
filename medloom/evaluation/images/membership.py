"""Whether a generator gives away which images it was trained on, beside attacks that cannot know.

An attack is only a finding above its controls: the same attack between two halves of the training images, where nothing
can be told, and a classifier that sees images and no model, which tells sets apart that were never drawn alike.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medloom.core.seeds import numpy_generator
from medloom.evaluation.report.metrics import EVERYTHING, LOWER, Figure, Reference, rate
from medloom.metrics.membership import membership_auc, threshold
from medloom.metrics.uncertainty import Interval

SECTION = "privacy"
ATTACK, HALVES, BLIND, FOUND = (
    "membership, attack by loss",
    "membership, two halves of the members",
    "membership, images alone",
    "members found at 1 % false positives",
)
CHANCE = "members cannot be told"
FALSE_POSITIVES = 0.01
COMPONENTS, FOLDS = 16, 5
LEAST_PATIENTS = 20


def membership_figures(
    member_scores: NDArray[np.floating],
    other_scores: NDArray[np.floating],
    patients: tuple[Sequence[str], Sequence[str]],
    pixels: tuple[NDArray[np.floating], NDArray[np.floating]],
    seed: int,
    how: str,
) -> tuple[list[Figure], list[str]]:
    """The attack, its two controls, and a note that says how they are to be read together.

    Args:
        member_scores: of training images, higher where the attack says that they were trained on.
        other_scores: of held-out images.
        patients: of the two.
        pixels: what an attack sees that has no model, `(n, d)` each.
        seed: of halves, folds and resamples.
        how: how the scores came about, for the report.
    """
    attack = membership_auc(member_scores, other_scores, *patients, seed)
    halves = _between_halves(member_scores, patients[0], seed)
    blind = _blind(pixels, patients, seed)
    rows = [(ATTACK, attack, LOWER, how), (HALVES, halves, "", ""), (BLIND, blind, "", "")]
    figures = [
        Figure.of(
            interval,
            section=SECTION,
            metric=metric,
            subset=EVERYTHING,
            counted="patients",
            reference=Reference(CHANCE, 0.5),
            better=better,
            note=note,
        )
        for metric, interval, better, note in rows
    ]
    if len(other_scores) * FALSE_POSITIVES >= 1:
        figures.append(_found(member_scores, other_scores, patients[0], seed))
    return figures, [_reading(attack, halves, blind)]


def _reading(attack: Interval, halves: Interval, blind: Interval) -> str:
    above = attack.low > max(0.5, halves.high, blind.high)
    told = f"AUC {attack.value:.3f} ({attack.low:.3f} to {attack.high:.3f}) on {attack.n} patients"
    if above:
        return f"Membership: the attack tells members, {told}, above both of its controls: the model leaks."
    if max(halves.low, blind.low) > 0.5:
        return (
            f"Membership: a control is above chance, so that the sets differ by more than training; {told} says nothing"
            " of the model."
        )
    return f"Membership: the attack is not above its controls, {told}; a stronger one may be."


def _between_halves(scores: NDArray[np.floating], patients: Sequence[str], seed: int) -> Interval:
    names = np.asarray(patients)
    everyone = numpy_generator("member halves", seed).permutation(np.unique(names))
    first = np.isin(names, everyone[: len(everyone) // 2])
    return membership_auc(scores[first], scores[~first], names[first], names[~first], seed)


def _blind(
    pixels: tuple[NDArray[np.floating], NDArray[np.floating]],
    patients: tuple[Sequence[str], Sequence[str]],
    seed: int,
) -> Interval:
    """A classifier of images alone, judged on patients that it was not fitted on (Das et al. 2024)."""
    x, truth = np.concatenate(pixels), np.repeat([1, 0], [len(side) for side in pixels])
    names = np.concatenate([np.asarray(side).astype(str) for side in patients])
    scores = np.empty(len(x))
    for fitted, judged in GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, truth, names):
        kept = min(COMPONENTS, *x[fitted].shape)
        model = make_pipeline(PCA(kept, random_state=0), StandardScaler(), LogisticRegression(class_weight="balanced"))
        scores[judged] = model.fit(x[fitted], truth[fitted]).decision_function(x[judged])
    return membership_auc(scores[truth == 1], scores[truth == 0], names[truth == 1], names[truth == 0], seed)


def _found(members: NDArray[np.floating], others: NDArray[np.floating], patients: Sequence[str], seed: int) -> Figure:
    """The share of members above the score that 1 % of the others are above."""
    return Figure.of(
        rate(members > threshold(others, FALSE_POSITIVES), patients, seed),
        section=SECTION,
        metric=FOUND,
        subset=EVERYTHING,
        counted="patients",
        reference=Reference("chance", FALSE_POSITIVES),
        better=LOWER,
        note=f"The threshold is that of {len(others)} held-out images, and as uncertain as their highest scores.",
    )
