"""Whether synthetic images are as sharp as real ones: their share of fine detail, over that of real images."""

import math

import numpy as np
from numpy.typing import NDArray

from medloom.evaluation.images.classifiers import Workshop
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, Figure, Reference, sampled_units
from medloom.metrics.spectral import SMALLEST, fine_detail
from medloom.metrics.uncertainty import Interval, bootstrap_mean

SECTION = "fidelity"
DETAIL = "fine detail over real images'"
LEAST = 20
# An image without any detail has a share of 0, which has no logarithm.
FLOOR = 1e-8


def detail_figures(
    workshop: Workshop, real: ImageSet, synthetic: ImageSet, seed: int
) -> tuple[list[Figure], list[str]]:
    """The geometric mean share of fine detail of synthetic images over that of real ones, over all and by subset;
    and a note where images are too small for it.

    Args:
        workshop: where images are read.
        real: held-out real images.
        synthetic: the images in question.
        seed: of resamples.
    """
    if min(workshop.spec.size) < SMALLEST:
        return [], [
            f"No fine detail: images of {' x '.join(map(str, workshop.spec.size))} pixels are too small for it."
        ]
    theirs, ours = (_logarithms(workshop.images(members)) for members in (real, synthetic))
    figures = []
    for subset in (EVERYTHING, *real.parts):
        rows = [
            np.ones(len(members), bool)
            if subset == EVERYTHING
            else members.parts.get(subset, np.zeros(len(members), bool))
            for members in (real, synthetic)
        ]
        if min(own.sum() for own in rows) >= LEAST and len(set(np.asarray(real.units)[rows[0]])) > 1:
            known = (theirs[rows[0]], np.asarray(real.units)[rows[0]])
            made = (ours[rows[1]], sampled_units(np.asarray(synthetic.units)[rows[1]]))
            figures.append(_figure(subset, known, made, seed))
    return figures, []


def _logarithms(images: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array([math.log(max(fine_detail(image), FLOOR)) for image in images])


def _figure(
    subset: str, real: tuple[NDArray[np.float64], NDArray], synthetic: tuple[NDArray[np.float64], NDArray], seed: int
) -> Figure:
    ratio = ratio_of_means(*(bootstrap_mean(values, units, seed) for values, units in (synthetic, real)))
    return Figure.of(
        ratio,
        section=SECTION,
        metric=DETAIL,
        subset=subset,
        counted="units",
        reference=Reference("as sharp as real images", 1.0),
        better=HIGHER,
        note="Of images at the size of this evaluation. Above 1 there is more noise, or there are artefacts.",
    )


def ratio_of_means(ours: Interval, theirs: Interval) -> Interval:
    """exp(ours - theirs) of two means of logarithms, with the interval of independent ones (Zou, Donner 2008)."""
    value = ours.value - theirs.value
    low = value - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = value + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Interval(math.exp(value), math.exp(low), math.exp(high), min(ours.n, theirs.n))
