"""How far a pair agrees beyond what unrelated images of the same kind do: the evidence that one is a copy of the other.

Unrelated images are real images of different patients. Their best cosine grows with the usual cosine of the query: two
hands agree more than two chests. The score of a pair is its distance from that line, on Fisher's scale, in robust
standard deviations. The line and its deviation are those of most images, so that the few that are copies among the real
ones do not hide copies among the synthetic ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.evaluation.copies.matches import Matches

# A pair with a higher score is listed as a copy; docs/benchmarks.md says how many copies and unrelated images are.
LISTED_ABOVE = 4.5
# With fewer unrelated images the line is a guess.
LEAST = 30
ROUNDS = 30
# Deviations beyond which an image counts less (Huber), and those of a normal distribution in its median deviation.
HUBER, NORMAL = 1.5, 1.4826

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Unrelated:
    """How real images of different patients agree.

    Attributes:
        intercept: of the line, on Fisher's scale.
        slope: of the best cosine over the usual one.
        deviation: of images from the line, robust.
        n: number of images.
    """

    intercept: float
    slope: float
    deviation: float
    n: int

    def scores(self, matches: Matches) -> Floats:
        """Evidence that each query is a copy, in standard deviations of unrelated images: `(n,)`."""
        expected = self.intercept + self.slope * np.arctanh(matches.usual)
        return np.asarray((np.arctanh(matches.cosines) - expected) / self.deviation)


def measure_unrelated(*known: Matches) -> Unrelated:
    """Fit the line of unrelated images (Huber's M-estimator, with the median absolute deviation as scale).

    Args:
        known: matches of real images with those of other patients.

    Raises:
        UserError: too few images.
    """
    best = np.arctanh(np.concatenate([matches.cosines for matches in known]))
    usual = np.arctanh(np.concatenate([matches.usual for matches in known]))
    if len(best) < LEAST:
        raise UserError(
            f"copies are distinguished from chance by {LEAST} or more real images, and there are {len(best)}."
        )
    terms = np.stack([np.ones_like(usual), usual], axis=1)
    weights = np.ones_like(best)
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        line, *_ = np.linalg.lstsq(terms * root[:, None], best * root, rcond=None)
        away = np.abs(best - terms @ line)
        deviation = max(NORMAL * float(np.median(away)), 1e-6)
        weights = np.minimum(1, HUBER * deviation / np.maximum(away, 1e-12))
    return Unrelated(float(line[0]), float(line[1]), deviation, len(best))
