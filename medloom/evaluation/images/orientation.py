"""Are images mirrored or upside down? A classifier of real and of flipped real images looks at them.

Hearts on the right side are what a generator learns whose training images were flipped to have more of them. Distances
hardly show it. Only classes whose sides can be seen count: most heads look alike from both. And only images that are
like real ones, one way or the other: of images with a text in a corner a classifier says anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.spec import ImageSpec
from medloom.downstream.multilabel import MultiLabelClassifier, hold_out_labels, train_multilabel
from medloom.evaluation.images.cache import FINDINGS_VALIDATION
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.section import Found, Inputs, Plots, Section, classes
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.images.stand_ins import sampled
from medloom.evaluation.report.metrics import LOWER, Metric, Reference, Sampled, proportion
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics.uncertainty import Interval, difference

MIRRORED, UPSIDE_DOWN, BACK_TO_FRONT = "mirrored images", "images upside down", "images back to front"
# Codes of the axes of volumes; images of two axes have rows from top to bottom and columns from left to right.
OF_CODES = {"L": MIRRORED, "R": MIRRORED, "S": UPSIDE_DOWN, "I": UPSIDE_DOWN, "A": BACK_TO_FRONT, "P": BACK_TO_FRONT}
# Patients to train on; images of a class outside training that say whether its sides are seen; and images to measure.
TRAINED, SELECTED, MEASURED = 40, 10, 10
MOST_TRAINED, MOST_MEASURED = 1000, 2000
# Least difference of the fractions of flipped and of other images that are taken for flipped.
SEEN = 0.6
# Pixels of an axis of outlines, and the fraction of real images whose outline is too unlike those of all others.
OUTLINE, UNLIKE = 16, 0.05
# Difference of two correlations beyond which an image is the right way round, whatever a classifier takes it for.
CLEARLY = 0.05
# Least fraction of images that are like real ones, one way or the other.
LIKE = 0.5

Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Looks:
    """Which images look flipped, and look as they should when they are flipped back.

    One of the two alone is what noise looks like.

    Attributes:
        kinds: class of each image, `(n,)`.
        units: of intervals, `(n,)`.
        as_they_are: by flip: `(n,)`.
        when_flipped: the same of the flipped images.
        like: by flip: whether the image or the flipped one has the outline of a real image, `(n,)`.
    """

    kinds: NDArray[np.str_]
    units: tuple[str, ...]
    as_they_are: dict[str, Flags]
    when_flipped: dict[str, Flags]
    like: dict[str, Flags]

    def power(self, flip: str, of: Flags) -> float:
        """How much more often flipped images of some rows are taken for flipped than the images themselves."""
        return float(self.when_flipped[flip][of].mean() - self.as_they_are[flip][of].mean())


def flips_of(spec: ImageSpec) -> dict[str, int]:
    """The flips that may be seen, with the axis of images `(N, C, *spatial)`; none of volumes of unknown orientation.

    Examples:
        >>> flips_of(ImageSpec((64, 64), 1, "pad", {}))
        {'mirrored images': 3, 'images upside down': 2}
    """
    if spec.spatial_dims == 2:
        return {MIRRORED: 3, UPSIDE_DOWN: 2}
    return {OF_CODES[code]: axis for axis, code in enumerate(spec.orientation or "", start=2)}


def measure(inputs: Inputs) -> Found:
    """Train the classifier on real images outside the reference, and apply it to synthetic and to held-out ones."""
    data, flips = inputs.data, flips_of(inputs.data.spec)
    rows = _some(data.other_real, MOST_TRAINED, inputs.seed)
    classifier, outside = _trained(inputs, rows, flips)
    trained_on = outlines(inputs.images(data.other_real, np.delete(rows, outside), data.spec))
    others = outlines(inputs.images(data.other_real, rows[outside], data.spec))
    judge = Judge(classifier, flips, trained_on, float(np.quantile(nearness(others, trained_on), UNLIKE)))
    known = _looks(inputs, judge, data.other_real, rows[outside])
    synthetic, real = (
        _looks(inputs, judge, own, _some(own, MOST_MEASURED, inputs.seed)) for own in (data.synthetic, data.real)
    )
    metrics, notes = [], []
    for flip in flips:
        kinds = [kind for kind in np.unique(known.kinds).tolist() if _is_seen(known, flip, kind)]
        kinds = [kind for kind in kinds if min((own.kinds == kind).sum() for own in (real, synthetic)) >= MEASURED]
        ours = np.isin(synthetic.kinds, kinds)
        like = int((synthetic.like[flip] & ours).sum())
        if not kinds or real.power(flip, np.isin(real.kinds, kinds)) < SEEN:
            notes.append(f"{flip}: not measured, since in no class a classifier sees which real images are flipped.")
        elif like < max(MEASURED, LIKE * ours.sum()):
            notes.append(
                f"{flip}: not measured, since {like} of {int(ours.sum())} synthetic images of {', '.join(kinds)} have"
                " the outline of a real one, flipped or not."
            )
        else:
            metrics.append(_metric(flip, kinds, synthetic, real, data.synthetic.counted))
    return Found(metrics, notes)


def _some(members: ImageSet, most: int, seed: int) -> Rows:
    """Rows of a set, of each modality as many at most."""
    return sampled(members.groups, seed, max(most // len(set(members.groups)), 1))


def _trained(inputs: Inputs, rows: Rows, flips: dict[str, int]) -> tuple[MultiLabelClassifier, Rows]:
    """The classifier of real images and the same ones flipped, and which of them chose its weights."""
    members = inputs.data.other_real.rows(rows)
    names, count = list(flips), len(members)
    truth = np.concatenate([np.zeros((count, len(names))), np.repeat(np.eye(len(names)), count, axis=0)])
    units = list(members.units) * (1 + len(names))
    held = hold_out_labels(units, truth, FINDINGS_VALIDATION, 0)

    def train() -> MultiLabelClassifier:
        images = inputs.images(inputs.data.other_real, rows, inputs.data.spec)
        everything = np.concatenate([images, *(np.flip(images, axis) for axis in flips.values())])
        return train_multilabel(everything, truth, names, units, held, inputs.cache.options)

    made_from = [list(members.hashes), list(members.units), list(members.groups), names]
    return inputs.cache.multilabel("flips", made_from, train), held[held < count]


def outlines(images: NDArray[np.floating]) -> NDArray[np.float64]:
    """Images `(N, C, *spatial)` with some 16 pixels an axis, each with mean 0 and length 1, `(N, pixels)`.

    Examples:
        >>> outlines(np.random.default_rng(0).random((3, 1, 64, 48))).shape
        (3, 256)
    """
    small = np.asarray(images, np.float64)
    for axis in range(2, images.ndim):
        ends = np.linspace(0, images.shape[axis], min(OUTLINE, images.shape[axis]) + 1).astype(int)
        sums = np.add.reduceat(small, ends[:-1], axis=axis)
        small = sums / np.diff(ends).reshape(-1, *[1] * (images.ndim - axis - 1))
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))


def nearness(some: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest correlation of each outline with one of the known ones, `(n,)`."""
    return np.asarray((some @ known.T).max(axis=1))


@dataclass(frozen=True, eq=False)
class Judge:
    """What tells flipped images from others.

    Attributes:
        classifier: of flips.
        flips: with the axis of each.
        known: outlines of the real images that it was trained on.
        least: correlation with one of them that an image like real ones has.
    """

    classifier: MultiLabelClassifier
    flips: dict[str, int]
    known: NDArray[np.float64]
    least: float

    def nearness(self, images: NDArray[np.floating]) -> NDArray[np.float64]:
        """How near the outline of each image is to that of a real one."""
        return nearness(outlines(images), self.known)


def _looks(inputs: Inputs, judge: Judge, everyone: ImageSet, rows: Rows) -> Looks:
    """How some images of a set look."""
    images, members = inputs.images(everyone, rows, inputs.data.spec), everyone.rows(rows)
    as_they_are, when_flipped, like, scores = {}, {}, {}, judge.classifier.scores(images)
    near = judge.nearness(images)
    for column, (flip, axis) in enumerate(judge.flips.items()):
        turned, threshold = np.flip(images, axis), judge.classifier.thresholds[column]
        here, there = scores[:, column] > threshold, judge.classifier.scores(turned)[:, column] > threshold
        near_turned = judge.nearness(turned)
        # What is right has the outline of a real image too, and no worse one.
        right, right_turned = near >= judge.least, near_turned >= judge.least
        as_they_are[flip] = here & ~there & right_turned & (near_turned >= near - CLEARLY)
        when_flipped[flip] = there & ~here & right & (near >= near_turned - CLEARLY)
        like[flip] = right | right_turned
    return Looks(np.array(classes(members)), members.units, as_they_are, when_flipped, like)


def _is_seen(known: Looks, flip: str, kind: str) -> bool:
    of = known.kinds == kind
    return int(of.sum()) >= SELECTED and known.power(flip, of) >= SEEN


def _metric(flip: str, kinds: Sequence[str], synthetic: Looks, real: Looks, counted: str) -> Metric:
    """The fraction of flipped synthetic images: 0 where they look like held-out ones, 1 like these when flipped.

    Images that are like real ones neither way are not counted.
    """
    ours, theirs = (np.isin(own.kinds, kinds) & own.like[flip] for own in (synthetic, real))
    over = Sampled.of(np.asarray(synthetic.units)[ours], counted)
    rate = proportion(synthetic.as_they_are[flip][ours], over.units)
    by_chance = proportion(real.as_they_are[flip][theirs], np.asarray(real.units)[theirs])
    apart, power = difference(rate, by_chance), real.power(flip, theirs)
    share, low, high = (float(np.clip(end / power, 0, 1)) for end in (apart.value, apart.low, apart.high))
    note = (
        f"Of {', '.join(kinds)}. The classifier takes {rate.value:.0%} of synthetic images for flipped,"
        f" {by_chance.value:.0%} of held-out ones, and {by_chance.value + power:.0%} of these"
        f" when they are flipped. {over.note}"
    )
    return Metric.of(
        Interval(share, low, high, apart.n),
        name=flip,
        counted=over.counted,
        reference=Reference("as held-out real images", 0.0),
        better=LOWER,
        note=note.strip(),
    )


def lacking(data: Comparison) -> str | None:
    """Why nothing can be measured, or None."""
    if not flips_of(data.spec):
        return "the orientation of the volumes is not known"
    patients = len(set(data.other_real.units))
    if patients < TRAINED:
        return f"there are {patients} patients of real images outside the reference and it needs {TRAINED}"
    return None


def plots(metrics: Sequence[Metric]) -> Plots:
    """One plot of all flips."""
    rows = [(metric.name, metric) for metric in metrics]
    return [("flipped images", [Panel("flipped images", rows, FRACTION)])] if rows else []


SECTION = Section(
    heading="Orientation",
    question="Are images mirrored or upside down?",
    metrics={
        MIRRORED: "fraction of images that are mirrored from left to right: what a classifier of real and of mirrored"
        " real images takes for mirrored, beyond held-out real images; only in classes in which it sees it, and of"
        " images that have the outline of a real one, flipped or not",
        UPSIDE_DOWN: "the same from top to bottom",
        BACK_TO_FRONT: "the same from front to back, of volumes",
    },
    measure=measure,
    plots=plots,
    lacking=lacking,
    requires=f"{TRAINED} patients of real images outside the reference, of volumes with an orientation; {MEASURED}"
    " held-out and synthetic images of a class whose sides can be seen",
)
