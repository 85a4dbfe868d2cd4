"""What each extractor can tell on these data: real images that were changed or halved, from real ones.

An extractor that cannot distinguish the set made without a model from real images says nothing about synthetic ones.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.section import Inputs
from medloom.evaluation.report.metrics import CONTROL_SET, WITHOUT_MODEL, Metric, Reference
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.set_comparison import draw_sides
from medloom.metrics.uncertainty import Interval

DETECTED = "excess Frechet distance of degraded real images"
MEANINGS = {
    DETECTED: "what each extractor can see on your data: the excess of your own real images after a degradation; within"
    " the reference, it is blind to it"
}
# Real images that are degraded, and pixels of the shortest axis by which they are blurred.
MOST, BLUR, LEAST_BLUR, GRAIN = 200, 0.015, 0.8, 0.1
# Fraction of the last axis by which they are moved.
MOVED = 0.06
LEAST = 20
# Images of a side of a draw with fewer than so many say nothing.
LEAST_SIDE = 10
REPEATED = 1.96

Images = NDArray[np.floating]
Degradation = Callable[[Images, int], Images]


def _blurred(images: Images, seed: int) -> Images:
    deviation = max(BLUR * min(images.shape[2:]), LEAST_BLUR)
    return np.asarray(ndimage.gaussian_filter(images, (0, 0, *[deviation] * (images.ndim - 2)), mode="nearest"))


def _grainy(images: Images, seed: int) -> Images:
    noise = numpy_generator("grain", seed).normal(0, GRAIN, (len(images), 1, *images.shape[2:]))
    return np.clip(images + noise, -1, 1).astype(np.float32)


def _moved(images: Images, seed: int) -> Images:
    places = np.arange(images.shape[-1]) - max(round(MOVED * images.shape[-1]), 1)
    return images[..., np.maximum(places, 0)]


DEGRADATIONS: Mapping[str, Degradation] = {
    "blurred": _blurred,
    "noise of 5 % of the range": _grainy,
    "moved by 6 % of the width": _moved,
}
HALVED = "half of the classes"


def proof_metrics(inputs: Inputs) -> tuple[list[Metric], list[str]]:
    """The excess of degraded real images by every extractor, and a note on extractors that are blind."""
    real = inputs.data.real
    rows = np.sort(numpy_generator("proof", inputs.seed).permutation(len(real))[:MOST])
    some = real.rows(rows)
    if len(some) < LEAST:
        return [], []
    metrics, notes = [], []
    for name in inputs.extractors:
        own, extractor = inputs.features(name, some), inputs.extractor(name)
        images = np.asarray(inputs.images(real, rows, extractor.spec), np.float32)
        found = [
            (what, excess(own, extractor.of(change(images, inputs.seed)))) for what, change in DEGRADATIONS.items()
        ]
        labels = np.array([str(label) for label in some.labels])
        classes = sorted(some.classes)
        if len(classes) > 1:
            half = np.isin(labels, classes[: len(classes) // 2])
            found.append((HALVED, excess(own, own.values, half)))
        found.append((WITHOUT_MODEL, excess(own, inputs.control(name).values, None, False)))
        if inputs.data.control is not None:
            bad = inputs.features(name, inputs.data.control).values
            found.append((CONTROL_SET, excess(own, bad, None, False)))
        for what, interval in found:
            if interval is not None:
                reference = Reference("real images as they are", 0.0)
                metrics.append(
                    Metric.of(
                        interval,
                        name=DETECTED,
                        subset=what,
                        counted="images",
                        reference=reference,
                        extractor=name,
                        beyond=interval,
                    )
                )
                if what in (WITHOUT_MODEL, CONTROL_SET) and interval.low <= 0:
                    notes.append(
                        f"{name} does not distinguish {what} from real images: its metrics say"
                        " nothing about these synthetic images."
                    )
    return metrics, notes


def excess(
    real: FeatureSet, changed: NDArray[np.floating], kept: NDArray[np.bool_] | None = None, paired: bool = True
) -> Interval | None:
    """The excess Frechet distance of changed real images; None if they are too few.

    Args:
        real: features of real images.
        changed: features of the same images after a change, or of others.
        kept: which of the changed images are used; None for all.
        paired: whether a changed image is left out where its original is on the other side.

    Returns:
        The mean over draws, with the range of single draws: what one evaluation of this size would see.
    """
    sides = draw_sides(real.units, real.units, 0, groups=0)
    variance = float(real.values.var(axis=0, ddof=1, dtype=np.float64).sum())
    found: list[float] = []
    for one, other, _ in sides.draws:
        ours = other if kept is None else other[kept[other]]
        if not paired:
            ours = numpy_generator("proof rows", len(found)).permutation(len(changed))[: len(other)]
        if min(len(ours), len(one)) < LEAST_SIDE:
            return None
        n = min(len(ours), len(one))
        distance = frechet_distance(real.values[one[:n]], changed[ours[:n]])
        found.append((distance - frechet_distance(real.values[one[:n]], real.values[other[:n]])) / variance)
    mean, spread = float(np.mean(found)), REPEATED * float(np.std(found, ddof=1))
    return Interval(mean, mean - spread, mean + spread, n)
