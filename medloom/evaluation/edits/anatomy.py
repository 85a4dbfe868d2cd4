"""Whether edits keep the anatomy, as a network sees it that segments other patients' real images.

It is trained on the masks of --train and measured on patients that it has not seen. On the edits it says how well their
anatomy lies where the later image's mask does, how well it stays where the earlier image has it, what changes outside
of it, and whether there is more of it than real images have: two hearts, or a third lung.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.data.masks import read_labels
from medloom.downstream.classifier import hold_out
from medloom.downstream.segmenter import Segmenter, mean_dice, train_segmenter
from medloom.evaluation.edits.judges import KINDS, sets_of, whole_set
from medloom.evaluation.edits.measure import SECTION
from medloom.evaluation.images.classifiers import Workshop
from medloom.evaluation.report.metrics import HIGHER, LOWER, Figure, Reference, rate
from medloom.metrics.structural import RADIUS, ssim
from medloom.metrics.uncertainty import Interval, bootstrap_mean

MASK = "mask"
PLACED, KEPT = "anatomy on the later image's mask (Dice)", "anatomy on the earlier image's (Dice)"
OUTSIDE, PARTS = "likeness to the earlier image outside of the anatomy (SSIM)", "more parts of an anatomy than real"
SHARE_HELD = 0.2
# Of a class's usual size: what is smaller is no part of its own.
LEAST_PART = 0.1
# Quantile of the parts that real images of other patients show by the same network.
USUAL_PARTS = 0.99
EDITED, COPY, LATER = KINDS


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the network finds.

    Attributes:
        segmenter: the network.
        patients: of each edit.
        images: kind of KINDS to `(N, C, *size)` in [-1, 1].
        labels: kind of KINDS to label maps `(N, *size)`.
        later_masks: of each later image `(N, *size)`; -1 all over where there is none.
        usual: class -> pixels of it, and the most parts, in held-out real images.
    """

    segmenter: Segmenter
    patients: NDArray[Any]
    images: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]]
    later_masks: NDArray[Any]
    usual: Mapping[int, tuple[float, int]]


def segment_edits(shop: Workshop, train: Sequence[Sample], edits: Sequence[tuple[Sample, Sample]]) -> Segmented:
    """Train the network, and have it look at edits, earlier and later images.

    Args:
        shop: where images are made.
        train: real images of other patients.
        edits: pairs of an edit, whose path is that of its image, and the triple that it was made of.

    Raises:
        UserError: masks of fewer than two patients, or masks that cannot be read.
    """
    known = [sample for sample in train if sample.condition.mask is not None]
    patients = [sample.patient for sample in known]
    if len(set(patients)) < 2:
        raise UserError(f"--judge {MASK}: masks of {len(set(patients))} patients in --train; it takes two or more.")
    members = whole_set(known, f"judge of {MASK}")
    images, masks = shop.images(members), _masks(known, shop)
    held = np.zeros(len(known), bool)
    held[hold_out(patients, [MASK] * len(known), SHARE_HELD, shop.options.seed)] = True
    segmenter = train_segmenter(images, masks, held, shop.options)
    seen = {kind: shop.images(own) for kind, own in sets_of(edits).items()}
    return Segmented(
        segmenter,
        np.array([triple.patient for _, triple in edits]),
        seen,
        {kind: segmenter.predict(own) for kind, own in seen.items()},
        _masks([triple for _, triple in edits], shop),
        _usual(segmenter, images[held]),
    )


def _masks(samples: Sequence[Sample], shop: Workshop) -> NDArray[np.int16]:
    """Label maps on the judges' grid; -1 all over where there is none."""
    empty = np.full(shop.spec.size, -1, np.int16)
    paths = [(sample.condition.mask, sample.path) for sample in samples]
    return np.stack([empty if mask is None else read_labels(mask, shop.spec, image) for mask, image in paths])


def _usual(segmenter: Segmenter, images: NDArray[Any]) -> dict[int, tuple[float, int]]:
    labels = segmenter.predict(images)
    usual = {}
    for label in segmenter.classes:
        sizes = (labels == label).reshape(len(labels), -1).sum(axis=1)
        size = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
        counts = [parts(found == label, size) for found in labels]
        usual[label] = (size, int(np.quantile(counts, USUAL_PARTS)))
    return usual


def parts(region: NDArray[np.bool_], usual: float) -> int:
    """How many connected parts a region has, of a tenth or more of its class's usual size in pixels."""
    from scipy.ndimage import label

    numbered, _ = label(region)
    sizes = np.bincount(numbered.ravel())[1:]
    return int((sizes >= max(1.0, LEAST_PART * usual)).sum())


def anatomy_figures(found: Segmented, seed: int) -> tuple[list[Figure], list[str]]:
    """Figures with intervals over patients; and what the network is worth.

    Args:
        found: see `segment_edits`.
        seed: of the resamples.
    """
    figures = [_kept(found, seed), _parts(found, seed)]
    if (found.later_masks != -1).any():
        figures.insert(0, _placed(found, seed))
    if min(found.images[EDITED].shape[2:]) > RADIUS:
        figures.append(_outside(found, seed))
    worth = "none" if found.segmenter.dice is None else f"{found.segmenter.dice:.2f}"
    return figures, [f"judge of {MASK}: mean Dice with the masks of held-out real patients {worth}."]


def _placed(found: Segmented, seed: int) -> Figure:
    def of(kind: str) -> Interval:
        return _mean(mean_dice(found.labels[kind], found.later_masks, found.segmenter.classes), found, seed)

    note = f"the later images themselves: {of(LATER).value:.2f}"
    return _figure(PLACED, of(EDITED), Reference.of(of(COPY), COPY), HIGHER, note)


def _kept(found: Segmented, seed: int) -> Figure:
    def of(kind: str) -> Interval:
        return _mean(mean_dice(found.labels[kind], found.labels[COPY], found.segmenter.classes), found, seed)

    return _figure(KEPT, of(EDITED), Reference.of(of(LATER), LATER), HIGHER, "")


def _outside(found: Segmented, seed: int) -> Figure:
    """SSIM of windows that no anatomy reaches, in the earlier image or in the other one."""
    from scipy.ndimage import binary_dilation

    def of(kind: str) -> Interval:
        values = []
        for image, prior, one, other in zip(
            found.images[kind], found.images[COPY], found.labels[kind], found.labels[COPY], strict=True
        ):
            anatomy = binary_dilation((one > 0) | (other > 0), iterations=RADIUS)
            shifted = [np.clip(np.asarray(part, np.float32), -1, 1) + 1 for part in (image, prior)]
            values.append(ssim(shifted[0], shifted[1], 2.0, ~anatomy))
        return _mean(np.array(values), found, seed)

    return _figure(OUTSIDE, of(EDITED), Reference.of(of(LATER), LATER), HIGHER, "")


def _parts(found: Segmented, seed: int) -> Figure:
    def of(kind: str) -> Interval:
        more = [
            any(parts(labels == label, size) > most for label, (size, most) in found.usual.items())
            for labels in found.labels[kind]
        ]
        return rate(np.array(more), found.patients.tolist(), seed)

    return _figure(PARTS, of(EDITED), Reference.of(of(LATER), LATER), LOWER, "share of images")


def _mean(values: NDArray[np.float64], found: Segmented, seed: int) -> Interval:
    known = ~np.isnan(values)
    return bootstrap_mean(values[known], found.patients[known].tolist(), seed)


def _figure(metric: str, interval: Interval, reference: Reference, better: str, note: str) -> Figure:
    told = {"section": SECTION, "metric": metric, "subset": MASK, "counted": "patients"}
    return Figure.of(interval, reference=reference, better=better, note=note, **told)
