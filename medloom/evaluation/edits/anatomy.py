"""Do edits keep the anatomy? Judged by a network that segments other patients' real images.

The network is trained on the masks of --train and tested on patients that it has not seen. It says how well the edits'
anatomy lies on the later image's mask, how well it stays where the prior image has it, what changes outside of it, and
whether there is more of it than in real images: two hearts, or a third lung.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.data.masks import read_labels
from medloom.downstream.classifier import hold_out
from medloom.downstream.segmenter import Segmenter, mean_dice, train_segmenter
from medloom.evaluation.edits.judges import COPIED, EDITED, LATER, Pairs, sets_of
from medloom.evaluation.images.cache import EvaluationCache, Images
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.estimates import estimate_mean, estimate_proportion
from medloom.evaluation.report.metrics import HIGHER, LOWER, Estimate, Metric, Reference
from medloom.metrics.structural import RADIUS, ssim

MASK = "mask"
PLACED, KEPT = "anatomy on the later image's mask (Dice)", "anatomy on the prior image's (Dice)"
OUTSIDE, PARTS = "similarity to the prior image outside of the anatomy (SSIM)", "more parts of an anatomy than real"
MEANINGS: Mapping[str, str] = {
    PLACED: "overlap of the anatomy that a network finds in the edit with the later image's mask",
    KEPT: "overlap of the anatomy that a network finds in the edit and in the prior image",
    OUTSIDE: "structural similarity of edit and prior image where neither has anatomy",
    PARTS: "fraction of images in which an anatomy has more parts than 99 % of real ones, such as two hearts",
}
HELD_OUT = 0.2
# Of a class's usual size: anything smaller is not counted as a part.
LEAST_PART = 0.1
# Quantile of the parts that the same network finds in real images of other patients.
USUAL_PARTS = 0.99

Labels = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the network finds.

    Attributes:
        segmenter: the network.
        patients: of each edit.
        images: kind of KINDS to `(N, C, *size)` in [-1, 1].
        labels: kind of KINDS to label maps `(N, *size)`.
        later_masks: of each later image `(N, *size)`; -1 everywhere if it has none.
        usual: class to its size in pixels and its most parts in held-out real images.
    """

    segmenter: Segmenter
    patients: NDArray[np.str_]
    images: Mapping[str, Images]
    labels: Mapping[str, Labels]
    later_masks: Labels
    usual: Mapping[int, tuple[float, int]]


def segment_edits(cache: EvaluationCache, train: Sequence[Sample], edits: Pairs) -> Segmented:
    """Train the network, and segment edits, prior and later images.

    Args:
        cache: decodes images.
        train: real images of other patients.
        edits: pairs of an edit, whose path is that of its image, and the triple that it was made from.

    Raises:
        UserError: masks of fewer than two patients, or masks that cannot be read.
    """
    known = [sample for sample in train if sample.condition.mask is not None]
    patients = [sample.patient for sample in known]
    if len(set(patients)) < 2:
        raise UserError(f"--judge {MASK}: masks of {len(set(patients))} patients in --train; it needs two or more.")
    images, masks = cache.images(ImageSet.of_patients(known, f"judge of {MASK}")), _masks(known, cache)
    held = np.zeros(len(known), bool)
    held[hold_out(patients, [MASK] * len(known), HELD_OUT, cache.options.seed)] = True
    segmenter = train_segmenter(images, masks, held, cache.options)
    labels, usual = segmenter.predict(images[held]), {}
    for name in segmenter.classes:
        sizes = (labels == name).reshape(len(labels), -1).sum(axis=1)
        size = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
        usual[name] = (size, int(np.quantile([parts(found == name, size) for found in labels], USUAL_PARTS)))
    looked_at = {kind: cache.images(own) for kind, own in sets_of(edits).items()}
    return Segmented(
        segmenter,
        np.array([triple.patient for _, triple in edits]),
        looked_at,
        {kind: segmenter.predict(own) for kind, own in looked_at.items()},
        _masks([triple for _, triple in edits], cache),
        usual,
    )


def _masks(samples: Sequence[Sample], cache: EvaluationCache) -> Labels:
    """Label maps on the judges' grid; -1 everywhere for a sample without a mask."""
    empty = np.full(cache.spec.size, -1, np.int16)
    paths = [(sample.condition.mask_file, sample.path) for sample in samples]
    return np.stack([empty if mask is None else read_labels(mask, cache.spec, image) for mask, image in paths])


def parts(region: NDArray[np.bool_], usual: float) -> int:
    """Number of connected parts of a region with a tenth or more of its class's usual size in pixels."""
    numbered, _ = label(region)
    sizes = np.bincount(numbered.ravel())[1:]
    return int((sizes >= max(1.0, LEAST_PART * usual)).sum())


def anatomy_metrics(found: Segmented, seed: int) -> tuple[list[Metric], list[str]]:
    """Metrics with intervals over patients; and the accuracy of the network.

    Args:
        found: see `segment_edits`.
        seed: of the resamples.
    """
    images, labels, prior = found.images, found.labels, found.labels[COPIED]

    def mean(values: NDArray[np.float64]) -> Estimate:
        known = ~np.isnan(values)
        return estimate_mean(values[known], found.patients[known].tolist(), seed)

    def placed(kind: str) -> Estimate:
        return mean(mean_dice(labels[kind], found.later_masks, found.segmenter.classes))

    def kept(kind: str) -> Estimate:
        return mean(mean_dice(labels[kind], prior, found.segmenter.classes))

    def more_parts(kind: str) -> Estimate:
        more = [
            any(parts(own == name, size) > most for name, (size, most) in found.usual.items()) for own in labels[kind]
        ]
        return estimate_proportion(np.array(more), found.patients.tolist())

    def outside(kind: str) -> Estimate:
        """SSIM of windows that no anatomy reaches, in the prior image or in the other one."""
        values = []
        for image, before, one, other in zip(images[kind], images[COPIED], labels[kind], prior, strict=True):
            anatomy = binary_dilation((one > 0) | (other > 0), iterations=RADIUS)
            shifted = [np.clip(np.asarray(own, np.float32), -1, 1) + 1 for own in (image, before)]
            values.append(ssim(shifted[0], shifted[1], 2.0, ~anatomy))
        return mean(np.array(values))

    rows: list[tuple[str, Callable[[str], Estimate], str, str, str]] = [
        (KEPT, kept, LATER, HIGHER, ""),
        (PARTS, more_parts, LATER, LOWER, "fraction of images"),
    ]
    if (found.later_masks != -1).any():
        rows.insert(0, (PLACED, placed, COPIED, HIGHER, f"the later images themselves: {placed(LATER).value:.2f}"))
    if min(images[EDITED].shape[2:]) > RADIUS:
        rows.append((OUTSIDE, outside, LATER, HIGHER, ""))
    metrics = [
        Metric.of(of(EDITED), name=name, subset=MASK, reference=Reference.of(of(kind), kind), better=better, note=note)
        for name, of, kind, better, note in rows
    ]
    dice = "none" if found.segmenter.dice is None else f"{found.segmenter.dice:.2f}"
    return metrics, [f"judge of {MASK}: mean Dice with the masks of held-out real patients {dice}."]
