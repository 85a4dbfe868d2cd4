"""Scores of a classifier: accuracy, macro F1, area under the ROC curve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from medloom.core.errors import UserError


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Fraction of correctly predicted labels, 0 to 1.

    Args:
        truth: labels `(n,)`, integers or names.
        predicted: labels `(n,)`.

    Raises:
        UserError: no labels, or different lengths.

    Examples:
        >>> truth, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
        >>> medloom.metrics.accuracy(truth, predicted)
        0.75
    """
    return float(accuracy_score(*_pairs(truth, predicted)))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that occur in truth or prediction, 0 to 1.

    A class without a true positive has F1 = 0.

    Args:
        truth: labels `(n,)`, integers or names.
        predicted: labels `(n,)`.

    Raises:
        UserError: no labels, or different lengths.

    Examples:
        >>> truth, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
        >>> round(medloom.metrics.macro_f1(truth, predicted), 2)
        0.73
    """
    return float(f1_score(*_pairs(truth, predicted), average="macro", zero_division=0))


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive scores above a negative; ties count half.

    Args:
        truth: `(n,)` of 0 and 1 (or booleans), both present.
        scores: `(n,)`, finite, higher for positives.

    Raises:
        UserError: different lengths, labels other than 0 and 1, one class only, or scores that are not finite.

    Examples:
        >>> medloom.metrics.auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.8]))
        0.75
    """
    truth, scores = _pairs(truth, scores)
    classes = np.unique(truth).tolist()
    if classes != [0, 1]:
        raise UserError(f"AUROC of labels {classes}; both 0 and 1 must occur, and nothing else.")
    if not np.isfinite(scores).all():
        raise UserError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} AUROC scores are not finite.")
    return float(roc_auc_score(truth, scores))


@dataclass(frozen=True)
class ByClass:
    """A score of each class of several labels, and the unweighted mean.

    Attributes:
        macro: mean over the classes that have a score.
        of: score of each class; nan if undefined, e.g. AUROC with positives only.
        left_out: names of the classes without a score.

    Examples:
        >>> truth = np.array([[0, 1], [1, 1], [1, 1]])
        >>> medloom.metrics.f1_by_class(truth, truth, ["effusion", "nodule"]).macro
        1.0
    """

    macro: float
    of: dict[str, float]
    left_out: tuple[str, ...]


def auroc_by_class(truth: np.ndarray, scores: np.ndarray, classes: Sequence[str]) -> ByClass:
    """AUROC of each of several labels, and their mean.

    Args:
        truth: `(n, classes)` of 0, 1, and nan for unknown labels, which are excluded from their class only.
        scores: `(n, classes)`, finite, higher for positives.
        classes: names.

    Raises:
        UserError: different shapes, labels other than 0, 1 and nan, or no class with both.

    Examples:
        >>> truth = np.array([[0, 1], [1, 0], [1, np.nan]])
        >>> scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.5]])
        >>> medloom.metrics.auroc_by_class(truth, scores, ["effusion", "nodule"]).of
        {'effusion': 1.0, 'nodule': 1.0}
    """
    return _by_class(truth, scores, classes, "AUROC", lambda t, s: auroc(t, s) if len(set(t.tolist())) == 2 else np.nan)


def f1_by_class(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> ByClass:
    """F1 of the positives of each of several labels, and their mean; undefined for a class without positives.

    Args:
        truth: `(n, classes)` of 0, 1 and nan.
        predicted: `(n, classes)` of 0 and 1.
        classes: names.

    Raises:
        UserError: as `auroc_by_class`.

    Examples:
        >>> truth = np.array([[0, 1], [1, 0], [1, 0]])
        >>> predicted = np.array([[0, 1], [1, 0], [1, 1]])
        >>> scores = medloom.metrics.f1_by_class(truth, predicted, ["effusion", "nodule"])
        >>> {name: round(score, 2) for name, score in scores.of.items()}
        {'effusion': 1.0, 'nodule': 0.67}
    """
    return _by_class(
        truth,
        predicted,
        classes,
        "F1",
        lambda t, p: float(f1_score(t, p, zero_division=0)) if t.any() else np.nan,
    )


def _by_class(
    truth: np.ndarray,
    other: np.ndarray,
    classes: Sequence[str],
    what: str,
    score: Callable[[np.ndarray, np.ndarray], float],
) -> ByClass:
    truth, other = np.asarray(truth, dtype=float), np.asarray(other, dtype=float)
    if truth.ndim != 2 or truth.shape != other.shape or truth.shape[1] != len(classes) or not len(truth):
        raise UserError(f"{what} of labels {truth.shape} and scores {other.shape} of {len(classes)} classes.")
    known = ~np.isnan(truth)
    if not np.isin(truth[known], (0, 1)).all() or not np.isfinite(other).all():
        raise UserError(f"{what}: labels must be 0, 1, or nan if unknown, and scores finite.")
    of = {
        name: float(score(truth[known[:, c], c], other[known[:, c], c])) if known[:, c].any() else float("nan")
        for c, name in enumerate(classes)
    }
    left_out = tuple(name for name, value in of.items() if np.isnan(value))
    if len(left_out) == len(of):
        raise UserError(f"{what} is undefined for all of {', '.join(classes)}: each has one class only.")
    return ByClass(float(np.nanmean(list(of.values()))), of, left_out)


def _pairs(truth: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, other = np.asarray(truth), np.asarray(other)
    if truth.ndim != 1 or truth.shape != other.shape or not len(truth):
        raise UserError(f"labels of shape {truth.shape} and predictions of shape {other.shape}; give (n,) for both.")
    return truth, other
