"""Scores of a classifier: accuracy, macro F1, area under the ROC curve."""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from medloom.core.errors import UserError


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of labels predicted right, 0 to 1.

    Args:
        truth: labels `(n,)`, integers or names.
        predicted: labels `(n,)`.

    Raises:
        UserError: no labels, or lengths that differ.
    """
    return float(accuracy_score(*_pairs(truth, predicted)))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over classes of F1, 0 to 1; the classes are those that occur in truth or prediction.

    A class without a single true positive has F1 = 0.

    Raises:
        UserError: no labels, or lengths that differ.
    """
    return float(f1_score(*_pairs(truth, predicted), average="macro", zero_division=0))


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive is scored above a negative, ties counting half.

    Args:
        truth: `(n,)` of 0 and 1 (or booleans), both present.
        scores: `(n,)`, finite, higher for positives.

    Raises:
        UserError: lengths that differ, labels other than 0 and 1, one class only, or scores that are not finite.
    """
    truth, scores = _pairs(truth, scores)
    classes = np.unique(truth).tolist()
    if classes != [0, 1]:
        raise UserError(f"AUROC of labels {classes}; both 0 and 1 must occur, and nothing else.")
    if not np.isfinite(scores).all():
        raise UserError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} AUROC scores are not finite.")
    return float(roc_auc_score(truth, scores))


def _pairs(truth: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, other = np.asarray(truth), np.asarray(other)
    if truth.ndim != 1 or truth.shape != other.shape or not len(truth):
        raise UserError(f"labels of shape {truth.shape} and predictions of shape {other.shape}; give (n,) for both.")
    return truth, other
