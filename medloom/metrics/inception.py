"""The Inception Score of the class probabilities of any classifier."""

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
        std: standard deviation over the splits.
        splits: number of splits.

    Examples:
        >>> medloom.metrics.inception_score(np.full((4, 2), 0.5), seed=0, splits=2)
        InceptionScore(mean=1.0, std=0.0, splits=2)
    """

    mean: float
    std: float
    splits: int


def inception_score(probabilities: np.ndarray, seed: int, splits: int = 10) -> InceptionScore:
    """IS = exp(E_x KL(p(y|x) || p(y))), mean over splits (Salimans et al. 2016, section 4).

    The score does not involve real images: one perfect image per class gets the highest score. Images are shuffled
    before they are split, so that the order of the files does not matter.

    Args:
        probabilities: p(y|x) `(n, classes)`; each row is from 0 to 1 and sums to 1 (not logits, not features).
        seed: of the shuffling.
        splits: number of splits; each needs two images.

    Raises:
        UserError: rows that are not probabilities, one class, or too few images.

    Examples:
        >>> probabilities = np.eye(2)[[0, 1, 0, 1]]
        >>> score = medloom.metrics.inception_score(probabilities, seed=0, splits=1)
        >>> round(score.mean, 2)
        2.0
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2 or splits < 1 or len(p) < 2 * splits:
        raise UserError(
            f"Inception Score of {p.shape} in {splits} splits; give (n, classes) with two images per split."
        )
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > TOLERANCE:
        raise UserError(
            "Inception Score of rows that are not probabilities (0 to 1, sum 1); give the softmax of the classifier,"
            " not its logits."
        )
    order = numpy_generator("inception score", seed).permutation(len(p))
    scores: list[float] = []
    for part in (p[rows] for rows in np.array_split(order, splits)):
        marginal = part.mean(axis=0)
        # 0 log 0 = 0; a class that is possible in some row is possible in the mean.
        ratios = np.log(np.where(part > 0, part, 1)) - np.log(np.where(marginal > 0, marginal, 1))
        scores.append(float(np.exp(np.where(part > 0, part * ratios, 0).sum(axis=1).mean())))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores, ddof=1)) if splits > 1 else 0.0, splits)
