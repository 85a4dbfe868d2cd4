"""Do synthetic images show what their condition says?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.downstream.classifier import Classifier
from medloom.evaluation.images.cache import Images
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import MODALITY, ImageSet, Subsets
from medloom.evaluation.images.shuffles import range_over, shuffled_within
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, Metric, Reference, Sampled, proportion, sampled_units
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics.areas import auroc_interval
from medloom.metrics.uncertainty import Interval

RECOGNITION, SHUFFLED = "recognition", "recognition with shuffled conditions"
BEYOND_CHANCE = "recognition beyond chance"
AUROC, SPECIFICITY = "AUROC of the class", "specificity of the class"
HELD_OUT = "held-out real images"
SHUFFLES = 200
LEAST = 10
LEAST_OF_CLASS = 5

Names = NDArray[np.str_]
Hits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's predictions on labelled images.

    Attributes:
        truth: the class in each image's condition (synthetic) or table (real).
        predicted: the class that the classifier gives.
        units: patient or prompt of each image.
        groups: modality of each image.
        counted: what the units are.
        parts: which images are in each subset that is measured on its own.
        scores: the classifier's probability of each class, `(n,)` each; empty if they are not known.
    """

    truth: Names
    predicted: Names
    units: NDArray[np.generic]
    groups: NDArray[np.generic]
    counted: str
    parts: Subsets = field(default_factory=dict)
    scores: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def hits(self) -> Hits:
        """Whether each image is recognised."""
        return np.asarray(self.truth == self.predicted)

    def rows(self, rows: Hits) -> "Predictions":
        """Some rows, without subsets."""
        return Predictions(self.truth[rows], self.predicted[rows], self.units[rows], self.groups[rows], self.counted)


def predict(classifier: Classifier, images: Images, members: ImageSet) -> Predictions:
    """A classifier's predictions on labelled images `(N, C, *size)` in [-1, 1]."""
    found = classifier.predict(images)
    predicted = np.asarray(classifier.classes)[found.argmax(axis=1)]
    truth, units, groups = (np.asarray(values) for values in (members.labels, members.units, members.groups))
    scores = dict(zip(classifier.classes, found.T, strict=True))
    return Predictions(truth, predicted, units, groups, members.counted, members.parts, scores)


def measure(inputs: Inputs) -> Found:
    """Recognition, its value for shuffled conditions, and that of a set made without a model."""
    data, cache, classifier, seed = inputs.data, inputs.cache, inputs.classifier, inputs.seed
    if classifier is None or data.fit is None:
        raise ValueError("alignment without a classifier, which `needs` asks for")
    real, synthetic = data.real.labelled(), data.synthetic.labelled()
    by_real, by_synthetic = (predict(classifier, cache.images(members), members) for members in (real, synthetic))
    named = [row for row, label in enumerate(inputs.replaced.labels) if label is not None]
    control = predict(classifier, inputs.stand_ins(data.spec)[named], inputs.replaced.rows(named))
    return Found(recognition_metrics(data.label, by_real, by_synthetic, seed, control))


def lacking(data: Comparison) -> str | None:
    """Why alignment cannot be measured, or None."""
    labelled = len(data.synthetic.labelled())
    return f"{labelled} synthetic images have a class and it needs {LEAST}" if labelled < LEAST else None


def recognition_metrics(
    label: str, real: Predictions, synthetic: Predictions, seed: int, control: Predictions | None = None
) -> list[Metric]:
    """How often a classifier gives synthetic images the class of their condition: over all, by class and by subset.

    The reference over all is the held-out accuracy at the synthetic set's mix of classes. The reference of a class is
    the fraction of its held-out real images that are recognised. Shuffling the conditions within a modality shows the
    fraction that the modality alone explains; if the label is the modality, all conditions are shuffled.

    Args:
        label: the column of the classes.
        real: held-out real images.
        synthetic: synthetic images.
        seed: of shuffles.
        control: images made without a model for the conditions of synthetic ones.
    """
    everything = Reference.of(_held_out_accuracy(real, synthetic), HELD_OUT)
    bad = None if control is None or not len(control.truth) else float(control.hits.mean())
    shuffled = _shuffled(label, synthetic, seed)
    recognised = _recognition(EVERYTHING, synthetic, everything, bad)
    metrics = [recognised, *_beyond_chance(recognised, shuffled), shuffled]
    for name in sorted(set(synthetic.truth)):
        theirs = real.rows(real.truth == name)
        reference = Reference.of(proportion(theirs.hits, theirs.units), HELD_OUT)
        metrics.append(_recognition(str(name), synthetic.rows(synthetic.truth == name), reference))
    for name, own in synthetic.parts.items():
        others = real.parts.get(name, np.zeros(len(real.truth), bool))
        # Classes that are subsets as well were measured above.
        if name in set(synthetic.truth) or min(own.sum(), others.sum()) < LEAST or name.startswith(f"{label} "):
            continue
        part, held_out = synthetic.rows(own), real.rows(others)
        if np.isin(held_out.truth, part.truth).any() and len(set(held_out.units)) > 1:
            reference = Reference.of(_held_out_accuracy(held_out, part), HELD_OUT)
            metrics.append(_recognition(name, part, reference))
    return metrics + _by_class(real, synthetic, control)


def _beyond_chance(recognised: Metric, shuffled: Metric) -> list[Metric]:
    """Recognition between that of shuffled conditions (0) and that of held-out real images (1); none without a gap.

    Images that show the mean of their class are recognised as well: whether they are realistic is another question.
    """
    reference, beyond = recognised.reference, recognised.difference
    chance = shuffled.value if shuffled.high is None else shuffled.high
    if beyond is None or reference.low is None or reference.low <= chance:
        return []
    gap = reference.value - shuffled.value
    found = Interval(1 + beyond.value / gap, 1 + beyond.low / gap, 1 + beyond.high / gap, recognised.n)
    return [
        Metric.of(
            found,
            name=BEYOND_CHANCE,
            counted=recognised.counted,
            reference=Reference("held-out real images", 1.0),
            better=HIGHER,
            beyond=Interval(found.value - 1, found.low - 1, found.high - 1, found.n),
        )
    ]


def _by_class(real: Predictions, synthetic: Predictions, control: Predictions | None) -> list[Metric]:
    """AUROC and specificity of each class; its sensitivity is its recognition."""
    metrics = []
    for name in sorted(set(synthetic.truth) & set(real.truth) & set(synthetic.scores)):
        areas, specific = [], []
        for known in (synthetic, real, *([control] if control is not None else [])):
            own, units = known.truth == name, sampled_units(known.units) if known is not real else known.units
            if min(own.sum(), (~own).sum()) < LEAST_OF_CLASS:
                break
            areas.append(auroc_interval(own.astype(float), known.scores[name], units))
            specific.append(proportion((known.predicted != name)[~own], np.asarray(units)[~own]))
        if len(areas) < 2:
            continue
        for what, found in ((AUROC, areas), (SPECIFICITY, specific)):
            metrics.append(
                Metric.of(
                    found[0],
                    name=what,
                    subset=str(name),
                    counted=synthetic.counted,
                    reference=Reference.of(found[1], HELD_OUT),
                    better=HIGHER,
                    control=found[2].value if len(found) > 2 else None,
                )
            )
    return metrics


def _recognition(subset: str, predictions: Predictions, reference: Reference, control: float | None = None) -> Metric:
    sampled = Sampled.of(predictions.units, predictions.counted)
    return Metric.of(
        proportion(predictions.hits, sampled.units),
        name=RECOGNITION,
        subset=subset,
        counted=sampled.counted,
        reference=reference,
        better=HIGHER,
        note=sampled.note,
        control=control,
    )


def _held_out_accuracy(real: Predictions, synthetic: Predictions) -> Interval:
    """Accuracy on real images at the synthetic set's mix of classes."""
    known = real.rows(np.isin(real.truth, synthetic.truth))
    if not len(known.truth):
        raise UserError("no held-out real image is of a class of the synthetic images.")
    truth, hits = known.truth, known.hits
    weights = np.array([(synthetic.truth == name).mean() / (truth == name).mean() for name in truth])
    return proportion(hits, known.units, weights)


def _shuffled(label: str, predictions: Predictions, seed: int) -> Metric:
    """Recognition if conditions are shuffled among images, of the same modality unless that is the label itself."""
    rng = numpy_generator("shuffled conditions", seed)
    truth = predictions.truth
    groups = np.zeros(len(truth), int) if label == MODALITY else predictions.groups
    fractions = [float((shuffled_within(truth, groups, rng) == predictions.predicted).mean()) for _ in range(SHUFFLES)]
    return Metric.of(
        range_over(fractions, len(truth)),
        name=SHUFFLED,
        counted="images",
        reference=Reference("recognition with the true conditions", float(predictions.hits.mean())),
        note=f"The range is over {SHUFFLES} shuffles of {'all conditions' if label == MODALITY else 'each modality'}.",
    )


def plots(metrics: Sequence[Metric]) -> Plots:
    """A plot of recognition, and one of the classes."""
    known = [
        (metric.name if metric.subset == EVERYTHING else f"{metric.name} of {metric.subset}", metric)
        for metric in metrics
        if metric.name in (RECOGNITION, SHUFFLED)
    ]
    panels = [("recognition", [Panel("fraction of images", known, FRACTION)])]
    by_class = [
        Panel(name, [(metric.subset, metric) for metric in metrics if metric.name == name], FRACTION)
        for name in (AUROC, SPECIFICITY)
    ]
    return panels + ([("AUROC and specificity", by_class)] if by_class[0].rows else [])


SECTION = Section(
    heading="Alignment",
    question="Do synthetic images show what their condition says?",
    metrics={
        RECOGNITION: "fraction of synthetic images that a classifier of real images assigns to their condition",
        BEYOND_CHANCE: "the same between that of shuffled conditions (0) and that of held-out real images (1)",
        AUROC: "how well the classifier's probability of a class separates images that were asked to show it",
        SPECIFICITY: "fraction of images of other classes that are not assigned to it; recognition is the sensitivity",
        SHUFFLED: "the same after shuffling the conditions among images: what chance and the modality explain",
    },
    measure=measure,
    plots=plots,
    needs=("classes",),
    lacking=lacking,
    requires=f"a class of each image (`--label`), or two modalities; {LEAST} synthetic images with a class",
)
