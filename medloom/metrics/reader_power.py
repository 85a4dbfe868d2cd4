"""Power of multi-reader studies by the model of Obuchowski and Rockette (Hillis, Obuchowski and Berbaum 2011)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, ncf, norm
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.metrics.multi_reader import Components

# Chi-squared quantiles over which the power of an equivalence test is averaged.
QUANTILES = 2000


@dataclass(frozen=True)
class Study:
    """A planned study, and what its figures of merit are assumed to vary with.

    Attributes:
        components: of the variance, as of a pilot.
        pilot_cases: number of cases of the pilot, in the proportion of positives that the study will have.
        readers: of the planned study.
        cases: of the planned study.
        arms: 1, against a fixed value, or 2, compared with each other.
    """

    components: Components
    pilot_cases: int
    readers: int
    cases: int
    arms: int = 2

    def __post_init__(self) -> None:
        """Refuse what is no study."""
        if self.arms not in (1, 2) or self.readers < 2 or min(self.cases, self.pilot_cases) < 4:
            planned = f"{self.arms} arms, {self.readers} readers and {self.cases} cases"
            raise UserError(f"a study of {planned}; give 1 or 2 arms, at least 2 readers and at least 4 cases.")

    @property
    def error_and_freedom(self) -> tuple[float, float]:
        """The standard error of the difference of two arms, or of the mean of one, and Hillis' degrees of freedom."""
        known, scale = self.components, self.pilot_cases / self.cases
        error, cov1, cov2, cov3 = (scale * part for part in (known.error, known.cov1, known.cov2, known.cov3))
        if self.arms == 1:
            square = max(known.reader, 0.0) + error - cov2
            shared = max(cov2, 0.0)
        else:
            square = max(known.arm_by_reader, 0.0) + error - cov1 - (cov2 - cov3)
            shared = max(cov2 - cov3, 0.0)
        term = square + self.readers * shared
        freedom = (self.readers - 1) * (term / square) ** 2 if square > 0 else math.inf
        return math.sqrt((2 if self.arms == 2 else 1) / self.readers * term), freedom


def power_of_difference(study: Study, difference: float, size: float = 0.05) -> float:
    """The probability that the two-sided test of equal arms rejects if they differ.

    Args:
        study: the plan and its assumptions.
        difference: true difference of the arms, or of the arm and the fixed value.
        size: of the test, in (0, 1).

    Raises:
        UserError: a difference of 0.

    Examples:
        >>> from medloom.metrics.multi_reader import Components
        >>> from medloom.metrics.reader_power import Study, power_of_difference
        >>> known = Components(0.0015, 0.0002, 0.0008, 0.00035, 0.00034, 0.00024)
        >>> round(power_of_difference(Study(known, 114, readers=6, cases=200), 0.05), 2)
        0.85
    """
    if not difference:
        raise UserError("a difference of 0 has no power; give the smallest one that matters.")
    error, freedom = study.error_and_freedom
    if not math.isfinite(freedom):
        reach = float(norm.ppf(1 - size / 2))
        return float(norm.sf(reach - abs(difference) / error) + norm.cdf(-reach - abs(difference) / error))
    bound = float(student.ppf(1 - size / 2, freedom)) ** 2
    return float(ncf.sf(bound, 1, freedom, (difference / error) ** 2))


def power_of_equivalence(study: Study, margin: float, difference: float = 0.0, size: float = 0.05) -> float:
    """The probability that two one-sided tests find the arms equivalent.

    Args:
        study: the plan and its assumptions.
        margin: largest difference that does not matter, above 0.
        difference: the true one.
        size: of each test, in (0, 1).

    Raises:
        UserError: a margin that is not above 0.

    Examples:
        >>> from medloom.metrics.multi_reader import Components
        >>> from medloom.metrics.reader_power import Study, power_of_equivalence
        >>> known = Components(0.0015, 0.0002, 0.0008, 0.00035, 0.00034, 0.00024)
        >>> round(power_of_equivalence(Study(known, 114, readers=6, cases=200), 0.05), 2)
        0.84
    """
    if not margin > 0:
        raise UserError(f"equivalence margin {margin}; allowed: above 0.")
    error, freedom = study.error_and_freedom
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    spread = np.sqrt(chi2.ppf(middles, freedom) / freedom) if math.isfinite(freedom) else np.ones(1)
    reach = (margin / error) - student.ppf(1 - size, freedom) * spread
    shift = difference / error
    return float(np.where(reach > 0, norm.cdf(reach - shift) - norm.cdf(-reach - shift), 0.0).mean())
