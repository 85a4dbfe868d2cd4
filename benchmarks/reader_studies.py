"""Multi-reader studies by simulation: how often equal arms are found to differ, and how often intervals cover.

Scores follow the model of Roe and Metz (1997), with its four structures of variance: high or low correlation between
readers' scores of a case, and low or high variability of readers. Ratings of three levels come from the same model.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from medloom.core.seeds import numpy_generator
from medloom.metrics import agreement_interval, gwet_ac, multi_reader_analysis, multi_reader_bootstrap

Floats = NDArray[np.float64]
# Separation of the classes, which gives an area of 0.856.
SEPARATION = 1.5
LEVEL, MARGIN = 0.05, 0.05


@dataclass(frozen=True)
class Structure:
    """Variances of scores (Roe and Metz 1997, table 1).

    Attributes:
        case: of cases, and of cases in an arm.
        reader_by_case: of a reader's view of a case.
        error: of what is left.
        reader: of readers, and of readers in an arm, for each class.
    """

    case: float
    reader_by_case: float
    error: float
    reader: float


STRUCTURES = {
    "high correlation, low reader variability": Structure(0.3, 0.2, 0.2, 0.0055),
    "low correlation, low reader variability": Structure(0.1, 0.2, 0.6, 0.0055),
    "high correlation, high reader variability": Structure(0.3, 0.2, 0.2, 0.03),
    "low correlation, high reader variability": Structure(0.1, 0.2, 0.6, 0.03),
}


def drawn_study(
    random: np.random.Generator, structure: Structure, readers: int, cases: int, arms: int = 2, lead: float = 0.0
) -> tuple[Floats, Floats]:
    """Truth `(cases,)` and scores `(arms, readers, cases)` of a study with as many positives as negatives.

    Args:
        random: draws them.
        structure: of the variance.
        readers: number of them.
        cases: number of them, half of them positive.
        arms: number of them.
        lead: further separation in the first arm.
    """
    truth = np.arange(cases) % 2
    shape = (arms, readers, cases)

    def part(variance: float, *sides: int) -> Floats:
        return np.asarray(variance**0.5 * random.standard_normal(sides))

    scores = part(structure.case, 1, 1, cases) + part(structure.case, arms, 1, cases)
    scores = scores + part(structure.reader_by_case, 1, readers, cases) + part(structure.error, *shape)
    for label in (0, 1):
        own = part(structure.reader, 1, readers, 1) + part(structure.reader, arms, readers, 1)
        scores[..., truth == label] += own
    separations = np.full(arms, SEPARATION)
    separations[0] += lead
    return truth.astype(float), scores + separations[:, None, None] * truth


def area_of(structure: Structure, separation: float) -> float:
    """The expected area of a reader of the population."""
    spread = 2 * (2 * structure.case + structure.reader_by_case + structure.error + 2 * structure.reader)
    return float(norm.cdf(separation / spread**0.5))


def drawn_ratings(random: np.random.Generator, items: int, raters: int) -> Floats:
    """Ratings of three levels by raters who differ in what they call good."""
    latent = random.standard_normal((items, 1)) + 0.5 * random.standard_normal((1, raters))
    levels = np.digitize(latent + 0.7 * random.standard_normal((items, raters)), (-0.8, 0.4))
    return (1 + levels).astype(np.float64)


def rate(hits: int, n: int) -> str:
    """A rate with its standard error."""
    value = hits / n
    return f"{value:.3f} ({(value * (1 - value) / n) ** 0.5:.3f})"


def main(arguments: list[str]) -> None:
    """Print a table of studies, and one of ratings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reader_studies", description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--bootstraps", type=int, default=200, help="studies with a bootstrap of 300 resamples")
    parser.add_argument("--ratings", type=int, default=300, help="sets of ratings, 300 resamples each")
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--cases", type=int, default=100)
    options = parser.parse_args(arguments)

    print(
        "rate (standard error) | random readers reject | fixed readers reject | interval covers one arm's area", end=""
    )
    print(f" | found equivalent at {MARGIN} with a true difference of {MARGIN} | bootstrap excludes 0")
    for number, (name, structure) in enumerate(STRUCTURES.items()):
        rejected = fixed = covered = equivalent = excluded = 0
        area = area_of(structure, SEPARATION)
        # The separation in the first arm that makes its area larger by the margin.
        spread = SEPARATION / norm.ppf(area)
        lead = float(norm.ppf(area + MARGIN)) * spread - SEPARATION
        for study in range(options.studies):
            random = numpy_generator("reader studies", number, study)
            truth, scores = drawn_study(random, structure, options.readers, options.cases)
            found = multi_reader_analysis(truth, scores)
            rejected += found.p < LEVEL
            fixed += multi_reader_analysis(truth, scores, fixed_readers=True).p < LEVEL
            interval = found.means[0].interval()
            covered += interval.low <= area <= interval.high
            led = multi_reader_analysis(*drawn_study(random, structure, options.readers, options.cases, lead=lead))
            equivalent += led.comparisons[0].difference.equivalence_p(MARGIN) < LEVEL
            if study < options.bootstraps:
                both = multi_reader_bootstrap(truth, scores, seed=study, n=300).differences[0, 1]
                excluded += not both.low <= 0 <= both.high
        n = options.studies
        row = [rate(hits, n) for hits in (rejected, fixed, covered, equivalent)]
        print(" | ".join([name, *row, rate(excluded, min(n, options.bootstraps))]), flush=True)

    print("\nitems, raters | interval of AC2 covers | width")
    truth_of_ratings = np.mean(
        [gwet_ac(drawn_ratings(numpy_generator("ratings", k), 800, 40), "quadratic") for k in range(40)]
    )
    for items, raters in ((40, 3), (40, 5), (100, 8)):
        covered, width = 0, 0.0
        for study in range(options.ratings):
            ratings = drawn_ratings(numpy_generator("ratings", items, raters, study), items, raters)
            interval = agreement_interval("gwet_ac", ratings, seed=study, n=300, weights="quadratic")
            covered += interval.low <= truth_of_ratings <= interval.high
            width += interval.high - interval.low
        print(f"{items}, {raters} | {rate(covered, options.ratings)} | {width / options.ratings:.2f}", flush=True)
