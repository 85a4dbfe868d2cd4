"""Whether synthetic images are distributed like real ones: distances, precision, recall, density, coverage, variety.

A distance between two finite sets is never 0, so each figure is computed on n' images a side and stands beside the same
figure between two halves of the real images, n' a side as well.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, LOWER, Figure, Reference
from medloom.metrics.diversity import vendi_score
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.kernel import squared_mmd
from medloom.metrics.neighbours import PRDC, prdc
from medloom.metrics.uncertainty import floor, subsample_interval

SECTION = "fidelity"
FD, FD_INFINITY = "Frechet distance", "Frechet distance, endless sets"
KERNEL, VENDI = "kernel distance", "Vendi score"
# The lowest and highest possible value, and which is better.
BOUNDS = {
    FD: (0.0, np.inf, LOWER),
    "precision": (0.0, 1.0, HIGHER),
    "recall": (0.0, 1.0, HIGHER),
    "density": (0.0, np.inf, HIGHER),
    "coverage": (0.0, 1.0, HIGHER),
    # Unbiased, so that it falls below 0 about as often as above for equal distributions.
    KERNEL: (-np.inf, np.inf, LOWER),
    VENDI: (1.0, np.inf, HIGHER),
}
REAL_TO_REAL = "real against real"
# Half of them, a subsample, still holds more than the 5 neighbours of precision and recall.
LEAST = 20
LEAST_PATIENTS = 8
REPEATS = 100
# The value is the mean over so many draws of n' images a side; its interval has the width of one draw's.
DRAWS = 20
DIMENSIONS_RULE = 10

Rows = NDArray[np.intp]
Statistic = Callable[[Rows, Rows], float]


def fidelity_figures(
    extractor: str, real: FeatureSet, synthetic: FeatureSet, seed: int, shown: bool = True
) -> tuple[list[Figure], list[str]]:
    """Figures over all images and by subset, and notes on what was left out.

    Args:
        extractor: name of the features' extractor.
        real: features of real images, units being patients.
        synthetic: features of synthetic images, units being prompts.
        seed: of subsets and subsamples.
        shown: whether to show progress.

    Raises:
        UserError: fewer images or patients in all than the figures need.
    """
    require_enough(real, synthetic)
    figures: list[Figure] = []
    notes: list[str] = []
    subsets = [EVERYTHING, *real.parts]
    with progress(f"fidelity by {extractor}", len(subsets) * (1 + len(BOUNDS)), "figures", 0, shown) as advance:
        for subset in subsets:
            pair = _subset(real, subset), _subset(synthetic, subset)
            lack = _lack(*pair)
            if lack:
                notes.append(f"{subset}: no fidelity figures, since {lack}.")
                advance(1 + len(BOUNDS))
                continue
            for figure in _figures(extractor, subset, *pair, seed):
                figures.append(figure)
                advance()
    return figures, notes


class Counted(Protocol):
    """A set that says the unit of each of its images."""

    @property
    def units(self) -> Sequence[Any] | NDArray[Any]:
        """One an image."""
        ...


def require_enough(real: Counted, synthetic: Counted) -> None:
    """Refuse sets that are too small.

    Raises:
        UserError: says how many images and patients are there and needed.
    """
    lack = _lack(real, synthetic)
    if lack:
        raise UserError(f"fidelity cannot be measured: {lack}.")


def _lack(real: Counted, synthetic: Counted) -> str:
    """What is missing, or nothing."""
    if len(synthetic.units) < LEAST:
        return f"there are {len(synthetic.units)} synthetic images and it needs {LEAST}"
    if len(real.units) < 2 * LEAST:
        return f"there are {len(real.units)} held-out real images and it needs {2 * LEAST} (two sides of {LEAST})"
    patients = len(set(real.units))
    if patients < LEAST_PATIENTS:
        return f"the held-out real images are of {patients} patients and it needs {LEAST_PATIENTS}"
    return ""


def _subset(features: FeatureSet, name: str) -> FeatureSet:
    return features if name == EVERYTHING else features.part(name)


def _figures(extractor: str, subset: str, real: FeatureSet, synthetic: FeatureSet, seed: int) -> Iterator[Figure]:
    width = real.values.shape[1]
    real, synthetic = _in_their_span(real, synthetic.with_sampled_units())
    n = min(len(synthetic.values), len(real.values) // 2)
    drawn = [_matched(real, synthetic, n, seed, draw) for draw in range(DRAWS)]
    ours, theirs = [_statistics(*pair, width) for pair in drawn], _statistics(real, real, width)
    whole = np.arange(n)
    note = f"n is below 10 d (d = {width}): read it beside its reference only." if n < DIMENSIONS_RULE * width else ""
    for name, (lowest, highest, better) in BOUNDS.items():
        units = drawn[0][0].units, drawn[0][1].units
        interval = subsample_interval(ours[0][name], *units, seed=seed, at="n", repeats=REPEATS)
        value = float(np.mean([statistics[name](whole, whole) for statistics in ours]))
        yield Figure(
            section=SECTION,
            metric=name,
            subset=subset,
            value=value,
            low=max(value - interval.value + interval.low, lowest),
            high=min(value - interval.value + interval.high, highest),
            n=n,
            counted="images",
            reference=Reference.of(floor(theirs[name], real.units, n, seed=seed), REAL_TO_REAL),
            better=better,
            extractor=extractor,
            note=note if name == FD else "",
        )
    yield _endless(extractor, subset, real, synthetic, seed)


def _in_their_span(*sets: FeatureSet) -> list[FeatureSet]:
    """Features in coordinates of the space that they span, where that has fewer dimensions: all distances stay."""
    together = np.concatenate([features.values for features in sets]).astype(np.float64)
    if len(together) >= together.shape[1]:
        return list(sets)
    coordinates: NDArray[np.float64] = np.asarray(np.linalg.qr(together.T, mode="r")).T
    parts = np.split(coordinates, np.cumsum([len(features.values) for features in sets])[:-1])
    return [replace(own, values=part) for part, own in zip(parts, sets, strict=True)]


def _endless(extractor: str, subset: str, real: FeatureSet, synthetic: FeatureSet, seed: int) -> Figure:
    """FD with the bias of finite sets taken off, on all images; two endless samples of one distribution have 0."""
    statistic = _statistics(real, synthetic, real.values.shape[1])[FD]
    interval = subsample_interval(statistic, real.units, synthetic.units, seed=seed, at="infinity", repeats=REPEATS)
    return Figure(
        section=SECTION,
        metric=FD_INFINITY,
        subset=subset,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=min(len(real.values), len(synthetic.values)),
        counted="images",
        reference=Reference("equal distributions", 0.0),
        better=LOWER,
        extractor=extractor,
        note="Extrapolated; it may fall below 0 where the distance is small.",
    )


def _statistics(real: FeatureSet, synthetic: FeatureSet, width: int) -> dict[str, Statistic]:
    """The metrics as functions of row numbers; the four shares of the same rows are computed once.

    Args:
        real: features; synthetic: features.
        width: dimensions of the features as they were extracted, which the kernel is scaled by.
    """
    shares = _remembered(lambda x, y: prdc(real.values[x], synthetic.values[y]))
    return {
        FD: lambda x, y: frechet_distance(real.values[x], synthetic.values[y]),
        "precision": lambda x, y: shares(x, y).precision,
        "recall": lambda x, y: shares(x, y).recall,
        "density": lambda x, y: shares(x, y).density,
        "coverage": lambda x, y: shares(x, y).coverage,
        KERNEL: lambda x, y: squared_mmd(real.values[x], synthetic.values[y], width),
        VENDI: lambda x, y: vendi_score(synthetic.values[y]),
    }


def _remembered(function: Callable[[Rows, Rows], PRDC]) -> Callable[[Rows, Rows], PRDC]:
    known: dict[tuple[bytes, bytes], PRDC] = {}

    def recall(x: Rows, y: Rows) -> PRDC:
        key = (x.tobytes(), y.tobytes())
        if key not in known:
            known[key] = function(x, y)
        return known[key]

    return recall


def _matched(real: FeatureSet, synthetic: FeatureSet, n: int, seed: int, draw: int) -> tuple[FeatureSet, FeatureSet]:
    return _some(real, n, seed, draw), _some(synthetic, n, seed, draw)


def _some(features: FeatureSet, n: int, seed: int, draw: int) -> FeatureSet:
    """n rows of as few units as hold them, as the sides of the reference are drawn."""
    rng = numpy_generator("fidelity", seed, draw)
    names, codes = np.unique(features.units, return_inverse=True)
    rank = rng.permutation(len(names))[codes]
    order = np.lexsort((rng.permutation(len(codes)), rank))
    return features.rows(np.sort(order[:n]))
