"""Are synthetic images distributed like real ones? Distances, precision, recall, density, coverage, variety, detail.

A distance between two finite sets is never 0. So each metric is computed on n' images per side, and compared with the
same metric between two sides of the real images, also n' each, and with that of a set made without a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom import metrics as known_metrics
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.evaluation.images import detail, proofs, variety
from medloom.evaluation.images.features import FeatureSet, refuse_collapsed
from medloom.evaluation.images.kept_comparisons import kept_comparisons
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.report.metrics import EQUAL, EVERYTHING, Metric, Reference, Units, number, sampled_units
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics import FEATURES, METRICS, MetricInfo
from medloom.metrics.diversity import vendi_score
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.kernel import kernel_distance, squared_mmd
from medloom.metrics.neighbours import prdc
from medloom.metrics.set_comparison import DRAWS, GROUPS, SetComparison, Sides, compare_sets, draw_sides
from medloom.metrics.uncertainty import Interval, subsample_interval

FD, FD_INFINITY = "Frechet distance", "Frechet distance of infinite sets"
TOO_CLOSE = " It is below 0: the synthetic images depend on these real ones, they are too close to them."
EXCESS = "excess Frechet distance"
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
LEAST = 20
LEAST_PATIENTS = 8
# Images that every side of every draw needs: one more than the 5 neighbours of precision and recall.
LEAST_SIDE = 6
# More images per side make a metric slower and hardly more certain: all draws together use more.
MOST_SIDE = 1000
# Those of them that a plot shows, in its order.
PLOTTED = (EXCESS, "precision", "recall", "density", "coverage", VENDI)
# Draws and groups of a subset, of which there may be many.
FEWER_DRAWS, FEWER_GROUPS = 6, 20
REPEATS = 100
IMAGES_PER_DIMENSION = 10
# A side has half of the held-out images, or all synthetic ones if they are fewer.
A_SIDE = "images a side"

Floats = NDArray[np.floating]
Statistic = Callable[[Floats, Floats], Sequence[float]]


def measure(inputs: Inputs) -> Found:
    """Measure the section by every extractor; further metrics of `inputs.metrics` as well."""
    real, synthetic, seed = inputs.data.real, inputs.data.synthetic, inputs.seed
    further = {name: METRICS[name] for name in inputs.metrics}
    found = Found([], meanings={name: _meaning(name) for name in further})
    for metrics, notes in (
        *(
            fidelity_metrics(
                name,
                inputs.features(name, real),
                inputs.features(name, synthetic),
                seed,
                further,
                control=inputs.control(name),
                cache=inputs.cache.folder / "comparisons",
            )
            for name in inputs.extractors
        ),
        proofs.proof_metrics(inputs),
        variety.variety_metrics(inputs.cache, real, synthetic, inputs.classifier, seed),
        detail.detail_metrics(inputs.cache, real, synthetic, seed, inputs.stand_ins(inputs.data.spec)),
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
    # One patient of most images leaves too few for a side that has none of that patient.
    side = _sides(real, synthetic, EVERYTHING).least
    if side < LEAST_SIDE:
        return (
            f"a few patients have most of the {len(real)} held-out real images, which leaves {side} of other patients"
            f" and it needs {LEAST_SIDE}"
        )
    return None


def _sides(real: Units, synthetic: Units, subset: str) -> Sides:
    """The draws, which are the same for every seed: that they are large enough is known before anything is measured."""
    draws, groups = (DRAWS, GROUPS) if subset == EVERYTHING else (FEWER_DRAWS, FEWER_GROUPS)
    return draw_sides(np.asarray(real), sampled_units(synthetic), 0, draws, groups, MOST_SIDE)


def fidelity_metrics(
    extractor: str,
    real: FeatureSet,
    synthetic: FeatureSet,
    seed: int,
    further: Mapping[str, MetricInfo] | None = None,
    verbose: bool = True,
    control: FeatureSet | None = None,
    cache: Path | None = None,
) -> tuple[list[Metric], list[str]]:
    """Metrics over all images and by subset, and notes on subsets that are too small.

    Args:
        extractor: name of the features' extractor.
        real: features of real images; the units are patients.
        synthetic: features of synthetic images; the units are prompts.
        seed: of subsets and subsamples.
        further: metrics on features to measure as well, by name.
        verbose: whether to show progress.
        control: features of a set made without a model.
        cache: folder in which what was measured is kept, so that an interrupted evaluation resumes; None for none.

    Raises:
        UserError: too few images or patients in all, or features that are the same for all real images.
    """
    refuse_collapsed(extractor, real.values)
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
                bad = None if control is None else control.part(subset)
                metrics += _measured(extractor, subset, one, other, seed, further or {}, bad, cache)
            advance()
    return metrics, notes


def _measured(
    extractor: str,
    subset: str,
    real: FeatureSet,
    synthetic: FeatureSet,
    seed: int,
    further: Mapping[str, MetricInfo],
    control: FeatureSet | None,
    cache: Path | None,
) -> list[Metric]:
    units = real.units, sampled_units(synthetic.units)
    sides = _sides(*units, subset)
    bad = control.values if control is not None and len(control.values) > LEAST_SIDE else None
    statistics = _statistics(real.values.shape[1], tuple(further))
    x, y, bad = _spanned(real.values, synthetic.values, bad) if not further else (real.values, synthetic.values, bad)

    def compared() -> list[SetComparison]:
        return compare_sets(statistics, x, y, *units, seed, control=bad, sides=sides)

    # Functions of the user's own may change, and are measured each time.
    parts = (real.values, synthetic.values, *units, *(() if bad is None else (bad,)))
    names = (*MEASURED, str(seed))
    found = compared() if cache is None or further else kept_comparisons(cache, names, parts, compared)
    width, n = real.values.shape[1], sides.n
    small = f"n is below 10 d (d = {width}): compare it only with its reference."
    notes = {FD: small if n < IMAGES_PER_DIMENSION * width else ""}
    if subset == EVERYTHING:
        notes[KERNEL] = _as_published(real.values, synthetic.values, seed)
    metrics = []
    for (name, info), each in zip({**MEASURED, **further}.items(), found, strict=True):
        metrics.append(
            Metric(
                name=name,
                subset=subset,
                value=each.value.value,
                low=max(each.value.low, info.low),
                high=min(each.value.high, info.high),
                n=n,
                counted=A_SIDE,
                reference=Reference.of(each.reference, REAL_TO_REAL),
                better=info.better,
                extractor=extractor,
                note=notes.get(name, ""),
                beyond=each.beyond,
                control=each.control,
            )
        )
    distance = found[list(MEASURED).index(FD)]
    variance = float(real.values.var(axis=0, ddof=1, dtype=np.float64).sum())
    value, low, high = (end / variance for end in (distance.beyond.value, distance.beyond.low, distance.beyond.high))
    excess = Interval(value, low, high, n)
    bad_excess = None if distance.control is None else (distance.control - distance.reference.value) / variance
    # The bias of finite sets is removed, on all images; two infinite samples of one distribution have 0.
    infinite = subsample_interval(
        lambda i, j: frechet_distance(x[i], y[j]), *units, seed=seed, at="infinity", repeats=REPEATS
    )
    common: dict[str, Any] = {"subset": subset, "better": EQUAL, "extractor": extractor}
    equal = "equal distributions"
    return [
        Metric.of(
            excess,
            name=EXCESS,
            counted=A_SIDE,
            reference=Reference(equal, 0.0),
            beyond=excess,
            control=bad_excess,
            **common,
        ),
        *metrics,
        Metric.of(
            replace(infinite, n=min(len(x), len(y))),
            name=FD_INFINITY,
            counted="images",
            reference=Reference(equal, 0.0),
            beyond=infinite,
            note=f"Extrapolated.{TOO_CLOSE if infinite.high < 0 else ''}",
            **common,
        ),
    ]


def _as_published(real: Floats, synthetic: Floats, seed: int) -> str:
    """The kernel distance as it is usually published: mean and standard deviation over 100 subsets."""
    kid = kernel_distance(real, synthetic, seed)
    return (
        f"As usually published (KID): mean {number(kid.mean)}, standard deviation {number(kid.std)} over 100 subsets of"
        f" {kid.size} images a side. The deviation is that of subsets, not the uncertainty of the mean."
    )


def control_beyond(
    real: FeatureSet, synthetic: FeatureSet, control: FeatureSet, seed: int, further: Sequence[str] = ()
) -> dict[tuple[str, str], float]:
    """What each metric of a control set is beyond its reference, by name and subset.

    A control set of fewer images than a side of the draws is compared with sides of as many, since the bias of a
    distance depends on their number.

    Args:
        real: features of real images; the units are patients.
        synthetic: features of synthetic images, whose sides are used.
        control: features of a set that is known to be bad.
        seed: of the images of the control set in each draw.
        further: names of metrics on features that are measured as well.

    Returns:
        Name and subset to the value less the reference, of subsets of which all three sets have enough images.
    """
    statistics = _statistics(real.values.shape[1], further)
    found: dict[tuple[str, str], float] = {}
    for subset in (EVERYTHING, *real.parts):
        one, other, bad = (each.part(subset) for each in (real, synthetic, control))
        if lacking(one.units, other.units) or len(bad.values) <= LEAST_SIDE:
            continue
        x, y = (one.values, bad.values) if further else _spanned(one.values, bad.values, None)[:2]
        sides, rng = _sides(one.units, other.units, subset), numpy_generator("control set", seed)
        n, differences = min(sides.n, len(y)), []
        for first, second, _ in sides.draws:
            values = statistics(x[first[:n]], y[rng.permutation(len(y))[:n]])
            differences.append(np.subtract(values, statistics(x[first[:n]], x[second[:n]])))
        beyond = dict(zip((*MEASURED, *further), np.mean(differences, axis=0).tolist(), strict=True))
        variance = float(one.values.var(axis=0, ddof=1, dtype=np.float64).sum())
        found |= {(name, subset): value for name, value in beyond.items()}
        found[EXCESS, subset] = beyond[FD] / variance
    return found


def _spanned(real: Floats, synthetic: Floats, control: Floats | None) -> tuple[Floats, Floats, Floats | None]:
    """Coordinates in the space that the features span, if it has fewer dimensions: all distances stay."""
    sets = [real, synthetic, *([] if control is None else [control])]
    if sum(map(len, sets)) >= real.shape[1]:
        return real, synthetic, control
    together = np.concatenate(sets).astype(np.float64)
    coordinates: NDArray[np.float64] = np.asarray(np.linalg.qr(together.T, mode="r")).T
    parts = np.split(coordinates, np.cumsum([len(each) for each in sets])[:-1])
    return parts[0], parts[1], parts[2] if control is not None else None


def _statistics(width: int, further: Sequence[str]) -> Statistic:
    """The metrics of MEASURED, then further ones, of a real and another set of features.

    Args:
        width: dimensions of the features as they were extracted, which scale the kernel.
        further: names of metrics on features.
    """
    functions = [known_metrics.metric(name) for name in further]

    def statistics(real: Floats, other: Floats) -> list[float]:
        near = prdc(real, other)
        return [
            frechet_distance(real, other),
            near.precision,
            near.recall,
            near.density,
            near.coverage,
            squared_mmd(real, other, width),
            vendi_score(other),
            *(float(function(real, other)) for function in functions),
        ]

    return statistics


def plots(metrics: Sequence[Metric]) -> Plots:
    """A plot per extractor, a panel per metric, a row per subset."""
    found = []
    for extractor in dict.fromkeys(metric.extractor for metric in metrics if metric.extractor):
        own = [metric for metric in metrics if metric.extractor == extractor and metric.name in PLOTTED]
        panels = [
            Panel(
                name,
                [(metric.subset, metric) for metric in own if metric.name == name],
                FRACTION if name in ("precision", "recall", "coverage") else None,
            )
            for name in PLOTTED
            if any(metric.name == name for metric in own)
        ]
        found.append((f"features: {extractor}", panels))
    return found


SECTION = Section(
    heading="Fidelity",
    question="Are synthetic images distributed like real ones?",
    metrics={
        EXCESS: "Frechet distance less that of two sides of the real images, over the variance of real features; 0 for"
        " equal distributions, 1 if they differ as much as real images do",
        FD: "distance between the two clouds of features; 0 only for infinite equal sets, lower is better",
        FD_INFINITY: "the same, extrapolated to infinite sets, where equal distributions have 0",
        "precision": "fraction of synthetic images that look like some real image; low means unrealistic images",
        "recall": "fraction of real images that look like some synthetic image; low means missing variety",
        "density": "number of real images that a synthetic one is close to, over 5; about 1 for equal sets",
        "coverage": "fraction of real images with a synthetic neighbour; low means missing kinds of images",
        KERNEL: "squared distance of the clouds by a cubic kernel (KID of all pairs); about 0 for equal sets",
        VENDI: "effective number of different images among n",
        **proofs.MEANINGS,
        **detail.MEANINGS,
        **variety.MEANINGS,
    },
    measure=measure,
    plots=plots,
    lacking=lambda data: lacking(data.real.units, data.synthetic.units),
    requires=f"{LEAST} synthetic images; {2 * LEAST} held-out real images of {LEAST_PATIENTS} patients",
)
