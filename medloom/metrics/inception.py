"""The Inception Score of any classifier's class probabilities."""

from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator

TOLERANCE = 1e-3


@dataclass(frozen=True)
class InceptionScore:
    """The score over splits.

    Attributes:
        mean: over the splits, 1 to the number of classes.
        deviation: of the splits.
        splits: how many.
    """

    mean: float
    deviation: float
    splits: int


def inception_score(probabilities: np.ndarray, seed: int, splits: int = 10) -> InceptionScore:
    """IS = exp(E_x KL(p(y|x) || p(y))), mean over splits (Salimans et al. 2016, section 4).

    The score knows no real image: a generator of one perfect image a class gets the highest. Images are shuffled
    before they are split, so that the order in which files were written does not matter.

    Args:
        probabilities: p(y|x) `(n, classes)`, each row from 0 to 1 and of sum 1: not logits, and not features.
        seed: of the shuffling.
        splits: how many; each needs two images.

    Raises:
        UserError: rows that are no probabilities, one class, or too few images.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2 or splits < 1 or len(p) < 2 * splits:
        raise UserError(f"Inception Score of {p.shape} in {splits} splits; give (n, classes), two images a split.")
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > TOLERANCE:
        raise UserError(
            "Inception Score of rows that are no probabilities (0 to 1, sum 1); give the softmax of the classifier,"
            " not its logits."
        )
    order = numpy_generator("inception score", seed).permutation(len(p))
    scores = [_score(p[rows]) for rows in np.array_split(order, splits)]
    deviation = float(np.std(scores, ddof=1)) if splits > 1 else 0.0
    return InceptionScore(float(np.mean(scores)), deviation, splits)


def _score(p: np.ndarray) -> float:
    marginal = p.mean(axis=0)
    # 0 log 0 = 0; a class that has probability in some row has it in the mean.
    terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(np.where(marginal > 0, marginal, 1))), 0)
    return float(np.exp(terms.sum(axis=1).mean()))
