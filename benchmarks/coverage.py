"""Coverage and width of every kind of interval that reports use, by simulation with known truths.

A kind is one row of KINDS: a function that draws data of a size and returns the interval and the truth.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from medloom.core.seeds import numpy_generator
from medloom.metrics import (
    auroc_difference,
    auroc_interval,
    bootstrap_mean,
    compare_sets,
    difference,
    dose_line,
    frechet_distance,
    membership_auc,
    prdc,
    proportion_interval,
    proportion_ratio,
    recovered_fraction,
    squared_mmd,
    student_mean,
    subsample_interval,
)
from medloom.metrics.uncertainty import Interval

LEAST_COVERAGE, MOST_COVERAGE, MOST_WIDTH = 0.93, 0.97, 1.5
# Intra-cluster correlation of images of a patient.
ALIKE = 0.3
DIMENSIONS, SUBSAMPLES = 8, 200

Random = np.random.Generator
Floats = NDArray[np.float64]
Drawn = tuple[Interval, float | None]
Draw = Callable[[Random, int], Drawn]


@dataclass(frozen=True)
class Kind:
    """A kind of interval on data of one kind.

    Attributes:
        draw: from a generator and a size to an interval and the truth, None for the mean of all estimates; or to one of
            each of `parts`.
        sizes: three numbers.
        counted: what they count.
        parts: names of intervals that are drawn together, each a row.
    """

    draw: Draw | Callable[[Random, int], Sequence[Drawn]]
    sizes: tuple[int, int, int]
    counted: str = "patients"
    parts: tuple[str, ...] = ()

    def drawn(self, random: Random, size: int) -> list[Drawn]:
        """One interval and truth for each row."""
        found = self.draw(random, size)
        return list(cast(Sequence[Drawn], found)) if self.parts else [cast(Drawn, found)]


def main(words: list[str]) -> None:
    """Repeat every kind at its three sizes, and print coverage and width."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop a row after them")
    parser.add_argument("--only", default="", help="kinds whose names have this in them")
    options = parser.parse_args(words)
    print(
        "| interval | at | repetitions | coverage | width over ideal | fails at |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name, kind in KINDS.items():
        if options.only in name:
            for row in _rows(name, kind, options.repetitions, options.seconds):
                print(row, flush=True)


@dataclass(frozen=True)
class Measured:
    """What a kind does at one size.

    Attributes:
        size: of the data.
        repetitions: that were made.
        coverage: fraction of intervals that hold the truth.
        width: mean width over that of a normal interval of the estimates' true spread.
    """

    size: int
    repetitions: int
    coverage: float
    width: float

    @property
    def passes(self) -> bool:
        """Whether it covers, and is not much wider than it needs to be."""
        return self.coverage >= LEAST_COVERAGE and (self.coverage <= MOST_COVERAGE or self.width <= MOST_WIDTH)


def _rows(name: str, kind: Kind, repetitions: int, seconds: float) -> list[str]:
    """The rows of a kind, each at its sizes."""
    found = [measured(name, kind, size, repetitions, seconds) for size in kind.sizes]
    rows = []
    for part, own in zip(kind.parts or ("",), zip(*found, strict=True), strict=True):
        cells = (
            f"{part}, {name}" if part else name,
            f"{', '.join(str(each.size) for each in own)} {kind.counted}",
            ", ".join(f"{each.repetitions}" for each in own),
            ", ".join(f"{each.coverage:.3f}" for each in own),
            ", ".join(f"{each.width:.2f}" for each in own),
            ", ".join(f"**{each.size}**" for each in own if not each.passes),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def measured(name: str, kind: Kind, size: int, repetitions: int, seconds: float) -> list[Measured]:
    """Repeat a kind at one size; one entry for each of its parts."""
    until, drawn = time.monotonic() + seconds, list[list[Drawn]]()
    for repetition in range(repetitions):
        drawn.append(kind.drawn(numpy_generator("coverage", repetition, f"{name} {size}"), size))
        if time.monotonic() > until:
            break
    return [_measured(size, own) for own in zip(*drawn, strict=True)]


def _measured(size: int, drawn: Sequence[Drawn]) -> Measured:
    values, low, high = (np.array([getattr(own, end) for own, _ in drawn]) for end in ("value", "low", "high"))
    known = np.array([values.mean() if truth is None else truth for _, truth in drawn])
    ideal = 2 * norm.ppf(0.975) * values.std(ddof=1)
    covered = (low <= known) & (known <= high)
    return Measured(size, len(drawn), float(covered.mean()), float((high - low).mean() / ideal))


def patients_of(random: Random, patients: int, most: int) -> NDArray[np.intp]:
    """The patient of each image: 1 to `most` images each."""
    return np.arange(patients).repeat(random.integers(1, most + 1, patients))


def normal_scores(random: Random, patients: NDArray[np.intp], alike: float = ALIKE) -> Floats:
    """Standard normal scores whose correlation within patients is `alike`."""
    own = random.standard_normal(patients.max() + 1)[patients]
    return np.asarray(alike**0.5 * own + (1 - alike) ** 0.5 * random.standard_normal(len(patients)))


def hits_of(random: Random, patients: NDArray[np.intp], rate: float) -> Floats:
    """0 and 1 whose correlation within patients is ALIKE (beta-binomial)."""
    scale = (1 - ALIKE) / ALIKE
    own = random.beta(rate * scale, (1 - rate) * scale, patients.max() + 1)[patients]
    return (random.random(len(patients)) < own).astype(float)


def mean(random: Random, size: int, of: Callable[..., Interval], skewed: bool) -> tuple[Interval, float]:
    """The mean of values of patients with one to six images."""
    patients = patients_of(random, size, 6)
    own = random.exponential(size=size) - 1 if skewed else random.standard_normal(size)
    return of(own[patients] + 0.3 * random.standard_normal(len(patients)), patients), 0.0


def proportion(random: Random, size: int, rate: float, most: int) -> tuple[Interval, float]:
    """A rate with up to `most` images per patient."""
    patients = patients_of(random, size, most)
    return proportion_interval(hits_of(random, patients, rate), patients), rate


def excess(random: Random, size: int, rates: tuple[float, float], one_patient: bool) -> tuple[Interval, float]:
    """The difference of two rates; half of the first set's images may be of one patient."""
    first = np.concatenate([np.zeros(size, int), np.arange(size)]) if one_patient else np.arange(size)
    second = np.arange(size)
    sets = zip((first, second), rates, strict=True)
    found = [proportion_interval(hits_of(random, patients, rate), patients) for patients, rate in sets]
    return difference(*found), rates[0] - rates[1]


def area(random: Random, size: int, truth: float, negatives: int = 100) -> tuple[Interval, float]:
    """An area of normal scores with few positive patients of one to five images each."""
    sides = [patients_of(random, count, 5) for count in (size, negatives)]
    scores = [normal_scores(random, patients) for patients in sides]
    labels = np.repeat([1, 0], [len(side) for side in sides])
    shifted = np.concatenate([scores[0] + 2**0.5 * norm.ppf(truth), scores[1]])
    return auroc_interval(labels, shifted, np.concatenate([sides[0], size + sides[1]])), truth


def area_lead(random: Random, size: int, truths: tuple[float, float]) -> tuple[Interval, float]:
    """The difference of two areas of correlated scores of the same images, as many positives as negatives."""
    patients, labels = np.arange(2 * size), np.repeat([1, 0], size)
    shared = random.standard_normal(2 * size)
    scores = [
        (shared + random.standard_normal(2 * size)) / 2**0.5 + labels * 2**0.5 * norm.ppf(truth) for truth in truths
    ]
    return auroc_difference((labels, labels), (scores[0], scores[1]), patients), truths[0] - truths[1]


def attack(random: Random, size: int, truth: float) -> tuple[Interval, float]:
    """A membership attack on patients with one image."""
    members, others = random.standard_normal(size) + 2**0.5 * norm.ppf(truth), random.standard_normal(size)
    return membership_auc(members, others, range(size), range(size, 2 * size)), truth


def fraction(random: Random, size: int) -> tuple[Interval, float]:
    """The recovered fraction of effects that vary between patients, two rows each."""
    patients = np.arange(size).repeat(2)
    true = 10 + 3 * random.standard_normal(size)[patients]
    estimated = 0.8 * true + 4 * normal_scores(random, patients)
    return recovered_fraction(true, estimated, patients, seed=0), 0.8


def slope(random: Random, size: int) -> tuple[Interval, float]:
    """The slope over three doses, one row per patient and dose."""
    patients, doses = np.arange(size).repeat(3), np.tile([1.0, 2.0, 3.0], size)
    true = 5 * doses + random.standard_normal(size)[patients]
    estimated = 0.8 * true + 3 * normal_scores(random, patients)
    return dose_line(true, estimated, doses.tolist(), patients, seed=0).slope, 0.8


def accuracies(random: Random, size: int, rates: tuple[float, float]) -> tuple[Interval, float]:
    """The ratio of the accuracies of two classifiers that are often wrong on the same images; three per patient."""
    patients = np.arange(size).repeat(3)
    hard = normal_scores(random, patients)
    hits = [(hard + random.standard_normal(len(patients))) / 2**0.5 < norm.ppf(rate) for rate in rates]
    # A set without any hit has no ratio; at these rates there is none.
    return proportion_ratio(hits[0], hits[1], patients), rates[0] / rates[1]


def infinite_distance(random: Random, size: int, shift: float) -> tuple[Interval, float | None]:
    """The Frechet distance of infinite Gaussians whose means are `shift` apart in every dimension."""
    x, y = random.standard_normal((2, size, DIMENSIONS))
    y += shift
    rows = np.arange(size)
    found = subsample_interval(
        lambda i, j: frechet_distance(x[i], y[j]), rows, rows, seed=0, at="infinity", repeats=SUBSAMPLES
    )
    return found, DIMENSIONS * shift**2


def compared(random: Random, size: int, shift: float) -> list[Drawn]:
    """Statistics of sets, and how far they are beyond those of two sides of the real one, as `compare_sets` gives them.

    Two images a patient; the means are `shift` apart in every dimension.
    """
    patients = np.arange(size // 2).repeat(2)
    x, y = (np.stack([normal_scores(random, patients) for _ in range(DIMENSIONS)], axis=1) for _ in range(2))
    found = compare_sets(
        lambda real, other: [frechet_distance(real, other), squared_mmd(real, other), prdc(real, other).coverage],
        x,
        y + shift,
        patients,
        patients,
        seed=0,
    )
    # The mean of all differences is the truth where the sets differ.
    beyond = 0.0 if shift == 0 else None
    return [drawn for each in found for drawn in ((each.value, None), (each.beyond, beyond))]


def nearer(random: Random, size: int) -> tuple[Interval, float | None]:
    """The median distance of synthetic images to training images, over that of held-out images."""
    far = [np.abs(random.normal(scale, 0.3, size)) for scale in (1.0, 0.8)]
    rows = np.arange(size)
    found = subsample_interval(
        lambda x, y: float(np.median(far[1][y]) / np.median(far[0][x])), rows, rows, seed=0, at="n", repeats=SUBSAMPLES
    )
    return found, None


SETS = (50, 100, 200)
COMPARED = tuple(
    f"{name}{beyond}"
    for name in ("Frechet distance", "kernel distance", "coverage")
    for beyond in ("", " beyond its reference")
)
MANY, FEW = (30, 100, 400), (8, 30, 100)
KINDS: dict[str, Kind] = {
    "mean, normal values": Kind(partial(mean, of=partial(bootstrap_mean, seed=0), skewed=False), FEW),
    "mean, skewed values": Kind(partial(mean, of=partial(bootstrap_mean, seed=0), skewed=True), FEW),
    "mean by patient, normal values": Kind(partial(mean, of=student_mean, skewed=False), FEW),
    "mean by patient, skewed values": Kind(partial(mean, of=student_mean, skewed=True), FEW),
    **{
        f"proportion {rate}, {images}": Kind(partial(proportion, rate=rate, most=most), MANY)
        for images, most in (("one image a patient", 1), ("1 to 20 images a patient", 20))
        for rate in (0.5, 0.95, 0.99)
    },
    "difference of proportions 0.3 and 0.2": Kind(partial(excess, rates=(0.3, 0.2), one_patient=False), MANY),
    "difference of proportions 0.02 and 0.02": Kind(partial(excess, rates=(0.02, 0.02), one_patient=False), MANY),
    "difference of 0.2 and 0.1, half of a set of one patient": Kind(
        partial(excess, rates=(0.2, 0.1), one_patient=True), MANY
    ),
    **{
        f"AUROC {truth}, 100 negative patients": Kind(partial(area, truth=truth), (5, 10, 30), "positive patients")
        for truth in (0.7, 0.95, 0.99)
    },
    "difference of AUROCs 0.8 and 0.7": Kind(partial(area_lead, truths=(0.8, 0.7)), MANY, "patients a side"),
    "membership AUC 0.5": Kind(partial(attack, truth=0.5), MANY, "patients a side"),
    "membership AUC 0.66": Kind(partial(attack, truth=0.66), MANY, "patients a side"),
    "recovered fraction": Kind(fraction, FEW),
    "slope over doses": Kind(slope, FEW),
    "ratio of accuracies 0.8 and 0.9": Kind(partial(accuracies, rates=(0.8, 0.9)), MANY),
    "ratio of accuracies 0.97 and 0.98": Kind(partial(accuracies, rates=(0.97, 0.98)), MANY),
    **{
        name: Kind(partial(compared, shift=shift), SETS, "images a set", COMPARED)
        for name, shift in (("equal sets", 0.0), ("means 0.5 apart", 0.5))
    },
    **{
        f"Frechet distance of infinite sets, {name}": Kind(
            partial(infinite_distance, shift=shift), SETS, "images a set"
        )
        for name, shift in (("equal", 0.0), ("means 0.5 apart", 0.5))
    },
    "nearest-neighbour distance ratio": Kind(nearer, SETS, "images"),
}
