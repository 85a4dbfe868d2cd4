"""Whether synthetic images show what their condition says, and whether a classifier can learn from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.downstream.classifier import Classifier, ClassifierOptions, hold_out, train_classifier
from medloom.evaluation.images.classifiers import Workshop
from medloom.evaluation.images.comparison import PATIENTS_A_CLASS, Comparison
from medloom.evaluation.images.sets import MODALITY, ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, Figure, Reference, rate, sampled_units
from medloom.metrics.uncertainty import Interval, bootstrap_interval

SECTION = "alignment"
RECOGNITION, SHUFFLED = "recognition", "recognition, conditions shuffled"
UTILITY, UTILITY_SHARE = "accuracy, trained on synthetic", "accuracy, trained on synthetic, over real-trained"
HELD_OUT = "held-out real images"
SHUFFLES = 200
LEAST = 10
VALIDATION = 0.15


def alignment_figures(
    workshop: Workshop, classifier: Classifier, data: Comparison, seed: int
) -> tuple[list[Figure], list[str]]:
    """Recognition, its null, and the use of the images to train on; and notes on what was left out.

    Args:
        workshop: where images and the classifier of synthetic images are made.
        classifier: trained on `data.fit`.
        data: the sets.
        seed: of resamples and shuffles.
    """
    real, synthetic = data.real.labelled(), data.synthetic.labelled()
    by_real = judge(classifier, workshop.images(real), real)
    figures = recognition_figures(data.label, by_real, judge(classifier, workshop.images(synthetic), synthetic), seed)
    lack = lacking_for_training(synthetic)
    if lack:
        return figures, [f"No classifier was trained on synthetic images: {lack}."]
    student = workshop.classifier(synthetic, train_on_synthetic)
    by_synthetic = judge(student, workshop.images(real), real)
    half = _half(data.fit, seed) if data.fit else None
    by_half = None if half is None else judge(workshop.classifier(half, train_on_real), workshop.images(real), real)
    trained = (len(data.fit) if data.fit else 0, len(synthetic))
    return [*figures, *utility_figures(by_real, by_synthetic, trained, seed, by_half)], []


def _half(members: ImageSet, seed: int) -> ImageSet | None:
    """Half of the patients of each class, or None where a class has too few of them to train on a half."""
    if members.rare_classes(2 * PATIENTS_A_CLASS):
        return None
    labels = [str(label) for label in members.labels]
    return members.rows(hold_out(members.units, labels, 0.5, seed), "half of the training")


@dataclass(frozen=True, eq=False)
class Judged:
    """Images as a classifier sees them.

    Attributes:
        truth: the class in each image's condition (synthetic) or table (real).
        predicted: the class that the classifier gives.
        units: patient or prompt of each.
        groups: modality of each.
        counted: what the units are.
        parts: which images are in each subset that has figures of its own.
    """

    truth: NDArray[Any]
    predicted: NDArray[Any]
    units: NDArray[Any]
    groups: NDArray[Any]
    counted: str
    parts: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each is recognised."""
        return np.asarray(self.truth == self.predicted)


def judge(classifier: Classifier, images: NDArray[Any], members: ImageSet) -> Judged:
    """What a classifier says of labelled images `(N, C, *size)` in [-1, 1]."""
    predicted = np.asarray(classifier.classes)[classifier.predict(images).argmax(axis=1)]
    truth, units, groups = (np.asarray(values) for values in (members.labels, members.units, members.groups))
    return Judged(truth, predicted, units, groups, members.counted, members.parts)


def train_on_real(images: NDArray[Any], members: ImageSet, options: ClassifierOptions) -> Classifier:
    """A classifier of labelled real images, selected on 15 % of their patients.

    Raises:
        UserError: one class, or a class with a single patient.
    """
    labels = [str(label) for label in members.labels]
    held = hold_out(members.units, labels, VALIDATION, options.seed)
    return train_classifier(images, labels, members.units, held, options)


def train_on_synthetic(images: NDArray[Any], members: ImageSet, options: ClassifierOptions) -> Classifier:
    """A classifier of labelled synthetic images, selected on 15 % of them, in as many steps as the real one.

    Single images are held out and not whole prompts, since a prompt may be all that there is of a class.

    Raises:
        UserError: one class, or a class with a single image.
    """
    labels = [str(label) for label in members.labels]
    own = [str(row) for row in range(len(labels))]
    return train_classifier(images, labels, own, hold_out(own, labels, VALIDATION, options.seed), options)


def lacking_for_training(members: ImageSet) -> str:
    """What a set lacks for a classifier to be trained on it, or nothing."""
    counts = Counter(members.labels)
    if len(counts) < 2:
        return f"all of them are of class {members.labels[0]!r}"
    name, count = min(counts.items(), key=lambda item: item[1])
    return f"class {name!r} has {count} image and needs 2" if count < 2 else ""


def recognition_figures(label: str, real: Judged, synthetic: Judged, seed: int) -> list[Figure]:
    """How often synthetic images are taken for the class of their condition, over all and by class.

    The reference of the whole is the held-out accuracy at the synthetic set's mix of classes; that of a class, the
    share of its held-out real images that are recognised. Shuffling the conditions within a modality shows what rate
    the modality alone explains; where the label is the modality, all conditions are shuffled.

    Args:
        label: the column that the classes are of.
        real: held-out real images.
        synthetic: synthetic images.
        seed: of resamples and shuffles.
    """
    figures = [
        _recognition(EVERYTHING, synthetic, Reference.of(_held_out_accuracy(real, synthetic, seed), HELD_OUT), seed),
        _shuffled(label, synthetic, seed),
    ]
    for name in sorted(set(synthetic.truth)):
        theirs = real.truth == name
        reference = Reference.of(rate(real.hits[theirs], real.units[theirs], seed), HELD_OUT)
        figures.append(_recognition(str(name), _rows(synthetic, synthetic.truth == name), reference, seed))
    return [*figures, *_by_part(label, real, synthetic, seed)]


def _by_part(label: str, real: Judged, synthetic: Judged, seed: int) -> list[Figure]:
    """The same for each modality and value of a column, at the synthetic images' mix of classes."""
    figures = []
    for name, own in synthetic.parts.items():
        theirs = real.parts.get(name, np.zeros(len(real.truth), bool))
        # Where the label is the modality, or a column that is a subset as well, its classes are told already.
        if name in set(synthetic.truth) or min(own.sum(), theirs.sum()) < LEAST or name.startswith(f"{label} "):
            continue
        part, held_out = _rows(synthetic, own), _rows(real, theirs)
        if not np.isin(held_out.truth, part.truth).any() or len(set(held_out.units)) < 2:
            continue
        reference = Reference.of(_held_out_accuracy(held_out, part, seed), HELD_OUT)
        figures.append(_recognition(name, part, reference, seed))
    return figures


def _recognition(subset: str, judged: Judged, reference: Reference, seed: int) -> Figure:
    units = sampled_units(judged.units)
    interval = rate(judged.hits, units, seed)
    prompts = len(set(judged.units))
    fixed = judged.counted != "images" and interval.n != prompts
    return Figure.of(
        interval,
        section=SECTION,
        metric=RECOGNITION,
        subset=subset,
        counted="images" if fixed else judged.counted,
        reference=reference,
        better=HIGHER,
        note=f"The interval is over images and holds for these {judged.counted} ({prompts})." if fixed else "",
    )


def _rows(judged: Judged, rows: NDArray[np.bool_]) -> Judged:
    return Judged(judged.truth[rows], judged.predicted[rows], judged.units[rows], judged.groups[rows], judged.counted)


def _held_out_accuracy(real: Judged, synthetic: Judged, seed: int) -> Interval:
    """Accuracy on real images at the synthetic set's mix of classes."""
    rows = np.isin(real.truth, synthetic.truth)
    if not rows.any():
        raise UserError("no held-out real image is of a class of the synthetic images.")
    truth, hits = real.truth[rows], real.hits[rows]
    weights = np.array([(synthetic.truth == name).mean() / (truth == name).mean() for name in truth])
    return bootstrap_interval(
        lambda drawn: float(np.average(hits[drawn], weights=weights[drawn])), real.units[rows], seed
    )


def _shuffled(label: str, judged: Judged, seed: int) -> Figure:
    """The rate when conditions are dealt to other images, of the same modality unless that is the label itself."""
    rng = numpy_generator("shuffled conditions", seed)
    groups = np.zeros(len(judged.truth), int) if label == MODALITY else judged.groups
    rates = np.array([float((_dealt(judged.truth, groups, rng) == judged.predicted).mean()) for _ in range(SHUFFLES)])
    low, high = np.quantile(rates, [0.025, 0.975])
    return Figure(
        section=SECTION,
        metric=SHUFFLED,
        subset=EVERYTHING,
        value=float(rates.mean()),
        low=float(low),
        high=float(high),
        n=len(judged.truth),
        counted="images",
        reference=Reference("recognition as made", float(judged.hits.mean())),
        note=f"The range is over {SHUFFLES} shuffles of {'all conditions' if label == MODALITY else 'each modality'}.",
    )


def _dealt(truth: NDArray[Any], groups: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    dealt = truth.copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        dealt[rows] = truth[rng.permutation(rows)]
    return dealt


def utility_figures(
    by_real: Judged, by_synthetic: Judged, trained: Sequence[int], seed: int, by_half: Judged | None = None
) -> list[Figure]:
    """Accuracy on held-out real images of a classifier trained on synthetic ones (CAS, Ravuri and Vinyals 2019).

    Its share of the real-trained classifier's accuracy is read beside the share of a classifier of half of the real
    patients, as distances are beside half of the real images: from few images two trainings differ in any case.

    Args:
        by_real: held-out real images as the real-trained classifier sees them.
        by_synthetic: the same images as the synthetic-trained one sees them.
        trained: how many real and how many synthetic images the two were trained on.
        seed: of resamples of patients.
        by_half: as a classifier sees them that was trained on half of the real patients; None where they are too few,
            and the share is read beside 1.
    """
    hits, reference_hits = by_synthetic.hits, by_real.hits
    if not reference_hits.any():
        raise UserError("the classifier trained on real images is right on none that was held out: check the label.")
    beside = Reference("trained on real images", 1.0)
    if by_half is not None:
        beside = Reference.of(_share(by_half.hits, by_real, seed), "trained on half of the real images")
    own, theirs = rate(hits, by_real.units, seed), rate(reference_hits, by_real.units, seed)
    note = f"Trained on {trained[1]} synthetic and {trained[0]} real images, in equal steps."
    return [
        _utility(UTILITY, own, by_real.counted, Reference.of(theirs, "trained on real images"), note),
        _utility(UTILITY_SHARE, _share(hits, by_real, seed), by_real.counted, beside, note),
    ]


def _share(hits: NDArray[np.bool_], by_real: Judged, seed: int) -> Interval:
    return bootstrap_interval(lambda rows: _ratio(hits[rows], by_real.hits[rows]), by_real.units, seed)


def _ratio(hits: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    # In a resample of a small set the real-trained classifier may never be right; one hit keeps the share finite.
    return float(hits.mean() / max(reference.mean(), 1 / len(reference)))


def _utility(metric: str, interval: Interval, counted: str, reference: Reference, note: str) -> Figure:
    return Figure.of(
        interval,
        section=SECTION,
        metric=metric,
        subset=EVERYTHING,
        counted=counted,
        reference=reference,
        better=HIGHER,
        note=note,
    )
