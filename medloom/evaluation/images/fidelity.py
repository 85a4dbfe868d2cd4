"""Are synthetic images distributed like real ones? Distances, precision, recall, density, coverage, variety, detail.

A distance between two finite sets is never 0. So each metric is computed on n' images per side, and compared with the
same metric between two halves of the real images, also n' per side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medloom import metrics as known_metrics
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.evaluation.images import detail, variety
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.report.metrics import EVERYTHING, LOWER, Metric, Reference, Units, sampled_units
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics import FEATURES, METRICS, MetricInfo
from medloom.metrics.diversity import vendi_score
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.kernel import squared_mmd
from medloom.metrics.neighbours import PRDC, prdc
from medloom.metrics.uncertainty import floor, subsample_interval

FD, FD_INFINITY = "Frechet distance", "Frechet distance of infinite sets"
KERNEL, VENDI = "kernel distance", "Vendi score"
_FRACTION = replace(METRICS["prdc"], high=1.0)
# What is measured by every extractor, with range and direction.
MEASURED: Mapping[str, MetricInfo] = {
    FD: METRICS["frechet_distance"],
    "precision": _FRACTION,
    "recall": _FRACTION,
    "density": METRICS["prdc"],
    "coverage": _FRACTION,
    KERNEL: METRICS["squared_mmd"],
    VENDI: METRICS["vendi_score"],
}
REAL_TO_REAL = "real vs real"
# A subsample of half of them still has more than the 5 neighbours of precision and recall.
LEAST = 20
LEAST_PATIENTS = 8
REPEATS = 100
# The value is the mean over so many draws of n' images per side; its interval has the width of one draw's.
DRAWS = 20
IMAGES_PER_DIMENSION = 10

Rows = NDArray[np.intp]
Floats = NDArray[np.floating]
Statistic = Callable[[Rows, Rows], float]


def measure(inputs: Inputs) -> Found:
    """Measure the section by every extractor; further metrics of `inputs.metrics` as well."""
    real, synthetic, seed = inputs.data.real, inputs.data.synthetic, inputs.seed
    further = {name: METRICS[name] for name in inputs.metrics}
    found = Found([], meanings={name: _meaning(name) for name in further})
    for metrics, notes in (
        *(
            fidelity_metrics(name, inputs.features(name, real), inputs.features(name, synthetic), seed, further)
            for name in inputs.extractors
        ),
        variety.variety_metrics(inputs.cache, real, synthetic, inputs.classifier, seed),
        detail.detail_metrics(inputs.cache, real, synthetic, seed),
    ):
        found.metrics.extend(metrics)
        found.notes.extend(notes)
    return found


def check_metrics(names: Sequence[str]) -> None:
    """Refuse metrics that cannot be measured on the features of two sets.

    Raises:
        UserError: an unknown name, or a metric that takes something else; lists those that can be measured.
    """
    able = [name for name, info in METRICS.items() if info.takes == FEATURES]
    for name in names:
        takes = look_up(METRICS, name, "metric in --metrics").takes
        if name not in able:
            raise UserError(f"--metrics {name} takes {takes}; give a metric on features: {', '.join(able)}.")


def _meaning(name: str) -> str:
    source = METRICS[name].source
    return (known_metrics.metric(name).__doc__ or name).strip().splitlines()[0] + (f" ({source})" if source else "")


def lacking(real: Units, synthetic: Units) -> str | None:
    """Why sets with these units are too small, or None."""
    if len(synthetic) < LEAST:
        return f"there are {len(synthetic)} synthetic images and it needs {LEAST}"
    if len(real) < 2 * LEAST:
        return f"there are {len(real)} held-out real images and it needs {2 * LEAST} (two sides of {LEAST})"
    patients = len(set(real))
    if patients < LEAST_PATIENTS:
        return f"the held-out real images are of {patients} patients and it needs {LEAST_PATIENTS}"
    return None


def fidelity_metrics(
    extractor: str,
    real: FeatureSet,
    synthetic: FeatureSet,
    seed: int,
    further: Mapping[str, MetricInfo] | None = None,
    verbose: bool = True,
) -> tuple[list[Metric], list[str]]:
    """Metrics over all images and by subset, and notes on subsets that are too small.

    Args:
        extractor: name of the features' extractor.
        real: features of real images; the units are patients.
        synthetic: features of synthetic images; the units are prompts.
        seed: of subsets and subsamples.
        further: metrics on features to measure as well, by name.
        verbose: whether to show progress.

    Raises:
        UserError: too few images or patients in all.
    """
    metrics: list[Metric] = []
    notes: list[str] = []
    subsets = [EVERYTHING, *real.parts]
    with progress(f"fidelity by {extractor}", len(subsets), "subsets", 0, verbose) as advance:
        for subset in subsets:
            one, other = real.part(subset), synthetic.part(subset)
            lack = lacking(one.units, other.units)
            if lack and subset == EVERYTHING:
                raise UserError(f"fidelity cannot be measured: {lack}.")
            if lack:
                notes.append(f"{subset}: fidelity was not measured, since {lack}.")
            else:
                metrics += _measured(extractor, subset, one, other, seed, further or {})
            advance()
    return metrics, notes


def _measured(
    extractor: str, subset: str, real: FeatureSet, synthetic: FeatureSet, seed: int, further: Mapping[str, MetricInfo]
) -> list[Metric]:
    width = real.values.shape[1]
    units = real.units, sampled_units(synthetic.units)
    n = min(len(synthetic.values), len(real.values) // 2)
    drawn = [tuple(_some(own, n, seed, draw) for own in units) for draw in range(DRAWS)]
    x, y = real.values, synthetic.values
    if len(x) + len(y) < width:
        # Coordinates in the space that the features span, which has fewer dimensions: all distances stay.
        together = np.concatenate([x, y]).astype(np.float64)
        coordinates: NDArray[np.float64] = np.asarray(np.linalg.qr(together.T, mode="r")).T
        x, y = coordinates[: len(x)], coordinates[len(x) :]
    between = {**_statistics(x, y, width), **_further(real.values, synthetic.values, further)}
    among = {**_statistics(x, x, width), **_further(real.values, real.values, further)}
    small = f"n is below 10 d (d = {width}): compare it only with its reference."
    metrics = []
    for name, info in {**MEASURED, **further}.items():
        interval = subsample_interval(
            lambda x, y, of=between[name]: of(drawn[0][0][x], drawn[0][1][y]),  # type: ignore[misc]
            *(own[rows] for own, rows in zip(units, drawn[0], strict=True)),
            seed=seed,
            at="n",
            repeats=REPEATS,
        )
        value = float(np.mean([between[name](*rows) for rows in drawn]))
        metrics.append(
            Metric(
                name=name,
                subset=subset,
                value=value,
                low=max(value - interval.value + interval.low, info.low),
                high=min(value - interval.value + interval.high, info.high),
                n=n,
                counted="images",
                reference=Reference.of(floor(among[name], real.units, n, seed=seed), REAL_TO_REAL),
                better=info.better,
                extractor=extractor,
                note=small if name == FD and n < IMAGES_PER_DIMENSION * width else "",
            )
        )
    # The bias of finite sets is removed, on all images; two infinite samples of one distribution have 0.
    infinite = subsample_interval(between[FD], *units, seed=seed, at="infinity", repeats=REPEATS)
    metrics.append(
        Metric.of(
            replace(infinite, n=min(len(real.values), len(synthetic.values))),
            name=FD_INFINITY,
            subset=subset,
            counted="images",
            reference=Reference("equal distributions", 0.0),
            better=LOWER,
            extractor=extractor,
            note="Extrapolated; it may fall below 0 if the distance is small.",
        )
    )
    return metrics


def _statistics(real: Floats, synthetic: Floats, width: int) -> dict[str, Statistic]:
    """The metrics as functions of row numbers; the four fractions of the same rows are computed once.

    Args:
        real: features.
        synthetic: features.
        width: dimensions of the features as they were extracted, which scale the kernel.
    """
    known: dict[tuple[bytes, bytes], PRDC] = {}

    def fractions(x: Rows, y: Rows) -> PRDC:
        key = (x.tobytes(), y.tobytes())
        if key not in known:
            known[key] = prdc(real[x], synthetic[y])
        return known[key]

    return {
        FD: lambda x, y: frechet_distance(real[x], synthetic[y]),
        "precision": lambda x, y: fractions(x, y).precision,
        "recall": lambda x, y: fractions(x, y).recall,
        "density": lambda x, y: fractions(x, y).density,
        "coverage": lambda x, y: fractions(x, y).coverage,
        KERNEL: lambda x, y: squared_mmd(real[x], synthetic[y], width),
        VENDI: lambda x, y: vendi_score(synthetic[y]),
    }


def _further(real: Floats, synthetic: Floats, names: Mapping[str, MetricInfo]) -> dict[str, Statistic]:
    def statistic(function: Callable[[Floats, Floats], float]) -> Statistic:
        return lambda x, y: float(function(real[x], synthetic[y]))

    return {name: statistic(known_metrics.metric(name)) for name in names}


def _some(units: NDArray[np.generic], n: int, seed: int, draw: int) -> Rows:
    """n rows of as few units as hold them, as the sides of the reference are drawn."""
    rng = numpy_generator("fidelity", seed, draw)
    names, codes = np.unique(units, return_inverse=True)
    rank = rng.permutation(len(names))[codes]
    return np.sort(np.lexsort((rng.permutation(len(codes)), rank))[:n])


def plots(metrics: Sequence[Metric]) -> Plots:
    """A plot per extractor, a panel per metric, a row per subset."""
    found = []
    for extractor in dict.fromkeys(metric.extractor for metric in metrics if metric.extractor):
        own = [metric for metric in metrics if metric.extractor == extractor and metric.name != FD_INFINITY]
        panels = [
            Panel(
                name,
                [(metric.subset, metric) for metric in own if metric.name == name],
                FRACTION if name in ("precision", "recall", "coverage") else None,
            )
            for name in dict.fromkeys(metric.name for metric in own)
        ]
        found.append((f"features: {extractor}", panels))
    return found


SECTION = Section(
    heading="Fidelity",
    question="Are synthetic images distributed like real ones?",
    metrics={
        FD: "distance between the two clouds of features; 0 only for infinite equal sets, lower is better",
        FD_INFINITY: "the same, extrapolated to infinite sets, where equal distributions have 0",
        "precision": "fraction of synthetic images that look like some real image; low means unrealistic images",
        "recall": "fraction of real images that look like some synthetic image; low means missing variety",
        "density": "number of real images that a synthetic one is close to, over 5; about 1 for equal sets",
        "coverage": "fraction of real images with a synthetic neighbour; low means missing kinds of images",
        KERNEL: "squared distance of the clouds by a cubic kernel (KID of all pairs); about 0 for equal sets",
        VENDI: "effective number of different images among n",
        **detail.MEANINGS,
        **variety.MEANINGS,
    },
    measure=measure,
    plots=plots,
    lacking=lambda data: lacking(data.real.units, data.synthetic.units),
    requires=f"{LEAST} synthetic images; {2 * LEAST} held-out real images of {LEAST_PATIENTS} patients",
)
