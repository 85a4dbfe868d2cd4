"""Can a classifier learn from synthetic images as much as from real ones?"""

from collections import Counter
from collections.abc import Sequence

from medloom.core.errors import UserError
from medloom.downstream.classifier import hold_out
from medloom.evaluation.images.alignment import LEAST, Predictions, predict
from medloom.evaluation.images.cache import train_on_real, train_on_synthetic
from medloom.evaluation.images.comparison import PATIENTS_PER_CLASS, Comparison
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import HIGHER, Metric, Reference, proportion
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics.proportions import proportion_ratio

UTILITY, RELATIVE_UTILITY = "accuracy trained on synthetic images", "accuracy trained on synthetic over real images"


def measure(inputs: Inputs) -> Found:
    """Train a classifier on synthetic images, and compare it with one of real images."""
    data, cache, classifier, seed = inputs.data, inputs.cache, inputs.classifier, inputs.seed
    if classifier is None or data.fit is None:
        raise ValueError("utility without a classifier, which `needs` asks for")
    real, synthetic = data.real.labelled(), data.synthetic.labelled()
    images = cache.images(real)
    by_synthetic = predict(cache.classifier(synthetic, train_on_synthetic), images, real)
    by_half = None
    if not data.fit.rare_classes(2 * PATIENTS_PER_CLASS):
        rows = hold_out(data.fit.units, [str(label) for label in data.fit.labels], 0.5, seed)
        by_half = predict(cache.classifier(data.fit.rows(rows, "half of the training"), train_on_real), images, real)
    trained = len(data.fit), len(synthetic)
    return Found(utility_metrics(predict(classifier, images, real), by_synthetic, trained, by_half))


def lacking(data: Comparison) -> str | None:
    """Why no classifier can be trained on the synthetic images, or None."""
    members = data.synthetic.labelled()
    if len(members) < LEAST:
        return f"{len(members)} synthetic images have a class and it needs {LEAST}"
    return lacking_for_training(members) or None


def lacking_for_training(members: ImageSet) -> str:
    """What a set lacks for training a classifier on it; empty if nothing."""
    counts = Counter(members.labels)
    if len(counts) < 2:
        return f"all of them are of class {members.labels[0]!r}"
    name, count = min(counts.items(), key=lambda item: item[1])
    return f"class {name!r} has {count} image and needs 2" if count < 2 else ""


def utility_metrics(
    by_real: Predictions,
    by_synthetic: Predictions,
    trained: Sequence[int],
    by_half: Predictions | None = None,
) -> list[Metric]:
    """Accuracy on held-out real images of a classifier trained on synthetic ones (CAS, Ravuri and Vinyals 2019).

    Its ratio to the real-trained classifier's accuracy is compared with the ratio of a classifier of half of the real
    patients, as distances are compared with half of the real images: two trainings on few images always differ.

    Args:
        by_real: predictions of the real-trained classifier on held-out real images.
        by_synthetic: predictions of the synthetic-trained one on the same images.
        trained: number of real and of synthetic images that the two were trained on.
        by_half: predictions of a classifier trained on half of the real patients; None if they are too few, and the
            ratio is compared with 1.

    Raises:
        UserError: the real-trained classifier recognises no held-out image.
    """
    real_hits = by_real.hits
    if not real_hits.any():
        raise UserError("the classifier trained on real images recognises no held-out image: check the label.")

    reference = Reference("trained on real images", 1.0)
    if by_half is not None:
        reference = Reference.of(
            proportion_ratio(by_half.hits, real_hits, by_real.units), "trained on half of the real images"
        )
    own, theirs = (proportion(known.hits, by_real.units) for known in (by_synthetic, by_real))
    note = f"Trained on {trained[1]} synthetic and {trained[0]} real images, with the same number of steps."
    return [
        Metric.of(interval, name=name, counted=by_real.counted, reference=compared, better=HIGHER, note=note)
        for name, interval, compared in (
            (UTILITY, own, Reference.of(theirs, "trained on real images")),
            (RELATIVE_UTILITY, proportion_ratio(by_synthetic.hits, real_hits, by_real.units), reference),
        )
    ]


def plots(metrics: Sequence[Metric]) -> Plots:
    """One plot of the accuracies."""
    rows = [(metric.name, metric) for metric in metrics if metric.name != RELATIVE_UTILITY]
    return [("use for training", [Panel("fraction of images", rows, FRACTION)])]


SECTION = Section(
    heading="Utility",
    question="Can a classifier learn from synthetic images as much as from real ones?",
    metrics={
        UTILITY: "accuracy on held-out real images of a classifier that was trained on synthetic images only",
        RELATIVE_UTILITY: "that accuracy divided by the one of a classifier trained on real images",
    },
    measure=measure,
    plots=plots,
    needs=("classes",),
    lacking=lacking,
    requires=f"a class of each image (`--label`), or two modalities; {LEAST} synthetic images of two classes or more",
)
