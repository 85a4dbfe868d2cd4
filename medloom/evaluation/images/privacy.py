"""Are synthetic images nearer to training images than unseen ones are, and does the model reveal what it has seen?"""

from dataclasses import replace

from medloom.evaluation.images import membership
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.section import Found, Inputs, Section
from medloom.evaluation.report.metrics import HIGHER, Metric, Reference, proportion, sampled_units
from medloom.metrics.privacy import authenticity, ratio_of_medians, train_distances
from medloom.metrics.uncertainty import subsample_interval

AUTHENTIC, DISTANCE = "authenticity", "nearest-neighbour distance ratio"
LEAST_PATIENTS = 20
# Subsamples of a half have two images.
LEAST_IMAGES = 4
# The nearest training image is compared with training images of other patients.
LEAST_TRAINING = 2
REPEATS = 50


def measure(inputs: Inputs) -> Found:
    """Distances to training images by every extractor, and the attack on the model if there is one."""
    data, seed = inputs.data, inputs.seed
    if data.train is None:
        raise ValueError("privacy without training images, which `needs` asks for")
    metrics: list[Metric] = []
    notes: list[str] = []
    for name in inputs.extractors:
        train, real, synthetic = (inputs.features(name, each) for each in (data.train, data.real, data.synthetic))
        synthetic = replace(synthetic, units=sampled_units(synthetic.units))
        metrics += _distances(name, train, real, synthetic, seed)
    if inputs.attack is not None:
        attacked = membership.attack_model(inputs, inputs.attack)
        metrics += attacked[0]
        notes += attacked[1]
    return Found(metrics, notes)


def lacking(data: Comparison) -> str | None:
    """Why distances to training images say nothing, or None."""
    patients, images = len(set(data.real.units)), len(data.synthetic)
    if patients < LEAST_PATIENTS:
        return f"there are {patients} held-out patients in --real and it needs {LEAST_PATIENTS}"
    if images < LEAST_IMAGES:
        return f"there are {images} synthetic images and it needs {LEAST_IMAGES}"
    trained_on = 0 if data.train is None else len(set(data.train.units))
    if trained_on < LEAST_TRAINING:
        return f"there are {trained_on} training patients and it needs {LEAST_TRAINING}"
    return None


def _distances(embedding: str, train: FeatureSet, real: FeatureSet, synthetic: FeatureSet, seed: int) -> list[Metric]:
    """Authenticity, and the distance of synthetic images from training images, compared with held-out images."""
    ours, theirs = (
        proportion(authenticity(train.values, known.values, train.units), known.units) for known in (synthetic, real)
    )
    # Computed once, so that a subsample costs two medians.
    far = [train_distances(train.values, known.values) for known in (real, synthetic)]
    ratio = subsample_interval(
        lambda x, y: ratio_of_medians(far[1][y], far[0][x]),
        real.units,
        synthetic.units,
        seed=seed,
        at="n",
        repeats=REPEATS,
    )
    return [
        Metric.of(interval, name=name, counted="units", reference=reference, better=HIGHER, extractor=embedding)
        for name, interval, reference in (
            (AUTHENTIC, ours, Reference.of(theirs, "held-out real images")),
            (DISTANCE, replace(ratio, low=max(ratio.low, 0.0)), Reference("as far as held-out images", 1.0)),
        )
    ]


SECTION = Section(
    heading="Privacy",
    question="Are synthetic images nearer to training images than unseen ones are, and does the model leak them?",
    metrics={
        AUTHENTIC: "fraction of images farther from their nearest training image than other patients' images are",
        DISTANCE: "median distance to the nearest training image, over that of held-out images; 0 for copies",
        **membership.MEANINGS,
    },
    measure=measure,
    needs=("training images",),
    lacking=lacking,
    requires=f"the generator's training images (`--train`); {LEAST_PATIENTS} held-out patients",
)
