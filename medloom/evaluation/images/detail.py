"""Are synthetic images as sharp as real ones? Their fraction of fine detail over that of real images."""

import math

import numpy as np
from numpy.typing import NDArray

from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EQUAL, EVERYTHING, Metric, Reference, sampled_units
from medloom.metrics.spectral import SMALLEST, fine_detail
from medloom.metrics.uncertainty import Interval, bootstrap_mean

DETAIL = "fine detail ratio"
MEANINGS = {
    DETAIL: "fraction of variance in the finest half of frequencies, over real images'; below 1 means blurred images"
}
LEAST = 20
# The fraction of an image without any detail is 0, which has no logarithm.
SMALLEST_FRACTION = 1e-8


def detail_metrics(
    cache: EvaluationCache,
    real: ImageSet,
    synthetic: ImageSet,
    seed: int,
    control: NDArray[np.floating] | None = None,
) -> tuple[list[Metric], list[str]]:
    """The geometric mean fraction of fine detail of synthetic images over that of real ones, of all and by subset.

    Args:
        cache: decodes images.
        real: held-out real images.
        synthetic: the images that are evaluated.
        seed: of resamples.
        control: images of a set made without a model, `(N, C, *size)`.

    Returns:
        Metrics, and a note if images are too small.
    """
    if min(cache.spec.size) < SMALLEST:
        return [], [f"No fine detail: images of {' x '.join(map(str, cache.spec.size))} pixels are too small for it."]
    logarithms, units = [], []
    for members in (real, synthetic):
        images = cache.images(members)
        logarithms.append(_logarithms(images))
        units.append(np.asarray(members.units))
    bad = None if control is None else float(_logarithms(control).mean())
    metrics = []
    for subset in (EVERYTHING, *real.parts):
        theirs, ours = (members.within(subset) for members in (real, synthetic))
        if min(theirs.sum(), ours.sum()) < LEAST or len(set(units[0][theirs])) < 2:
            continue
        ratio = ratio_of_means(
            bootstrap_mean(logarithms[1][ours], sampled_units(units[1][ours]), seed),
            bootstrap_mean(logarithms[0][theirs], units[0][theirs], seed),
        )
        metrics.append(
            Metric.of(
                ratio,
                name=DETAIL,
                subset=subset,
                counted="units",
                reference=Reference("as sharp as real images", 1.0),
                better=EQUAL,
                note="Of images at the size of this evaluation. Above 1 there is more noise, or there are artefacts.",
                control=None if bad is None or subset != EVERYTHING else math.exp(bad - logarithms[0].mean()),
            )
        )
    return metrics, []


def _logarithms(images: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array([math.log(max(fine_detail(image), SMALLEST_FRACTION)) for image in images])


def ratio_of_means(ours: Interval, theirs: Interval) -> Interval:
    """exp(ours - theirs) of two means of logarithms, with the interval of independent ones (Zou, Donner 2008)."""
    value = ours.value - theirs.value
    low = value - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = value + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Interval(math.exp(value), math.exp(low), math.exp(high), min(ours.n, theirs.n))
