"""Are synthetic images copies of training images? Judged against real images that were not trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medloom.core.files import write_text
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import ImageSource
from medloom.data.tables import write_csv
from medloom.evaluation.images import membership
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import (
    EVERYTHING,
    HIGHER,
    LOWER,
    Metric,
    Reference,
    proportion,
    sampled_units,
)
from medloom.evaluation.report.plots import Panel, strip
from medloom.evaluation.report.report import embedded, page
from medloom.metrics.privacy import Alignment, authenticity, copy_rates, ratio_of_medians, train_distances
from medloom.metrics.uncertainty import subsample_interval

COPIED, EXCESS, BY_PATIENT = "fraction of copies", "excess of copies", "excess of copies by patient"
IDENTICAL, AUTHENTIC, DISTANCE = "identical files", "authenticity", "nearest-neighbour distance ratio"
COPIES, INTERNAL = "copies-internal.csv", "report-internal.html"
# Copies are looked for among the pixels in any case, since other features may be blind to them.
PIXELS = "pixels"
LEAST_PATIENTS = 20
REPEATS = 50
LISTED_PAIRS, THUMBNAIL = 60, 128


@dataclass(frozen=True)
class Copy:
    """A synthetic image that is closer to a training image than unseen images are.

    Attributes:
        embedding: name of the features.
        synthetic: its file.
        train: the training image's file.
        cosine: of the two, -1 to 1.
    """

    embedding: str
    synthetic: Path
    train: Path
    cosine: float


def measure(inputs: Inputs) -> Found:
    """Copies by every extractor and by pixels, identical files, and the attack on the model if there is one."""
    data, seed = inputs.data, inputs.seed
    if data.train is None:
        raise ValueError("privacy without training images, which `needs` asks for")
    sets = {"real": data.real, "synthetic": data.synthetic, "train": data.train}
    metrics: list[Metric] = []
    notes: list[str] = []
    copies: list[Copy] = []
    for name in dict.fromkeys((*inputs.extractors, PIXELS)):
        features = {what: inputs.features(name, members) for what, members in sets.items()}
        found = copy_metrics(name, sets, features, seed, inputs.extractor(name).alignment)
        metrics += found[0]
        notes += found[1]
        copies += found[2]
    hashes = set(data.train.hashes)
    ours, theirs = (
        proportion(np.array([digest in hashes for digest in known.hashes]), np.arange(len(known)), seed)
        for known in (data.synthetic, data.real)
    )
    reference = Reference("the same of held-out real files", theirs.value, n=theirs.n)
    metrics.append(Metric.of(ours, name=IDENTICAL, counted="images", reference=reference, better=LOWER))
    if inputs.attack is not None:
        attacked = membership.attack_model(inputs, inputs.attack)
        metrics += attacked[0]
        notes += attacked[1]
    if not copies:
        return Found(metrics, notes)
    train = data.train
    return Found(
        metrics,
        notes,
        f"{len(copies)} pairs of a synthetic and a training image are listed in {COPIES} and shown in {INTERNAL}. Both"
        " files identify training images and are not for sharing.",
        {
            COPIES: lambda path: write_copies(path, copies),
            INTERNAL: lambda path: write_pairs(path, copies, (data.synthetic, train), data.spec, inputs.cache.unit),
        },
        frozenset(copy.synthetic for copy in copies),
    )


def lacking(data: Comparison) -> str | None:
    """Why copies cannot be looked for, or None."""
    patients = len(set(data.real.units))
    enough = patients >= LEAST_PATIENTS
    return None if enough else f"there are {patients} held-out patients in --real and it needs {LEAST_PATIENTS}"


def copy_metrics(
    embedding: str,
    sets: Mapping[str, ImageSet],
    features: Mapping[str, FeatureSet],
    seed: int,
    alignment: Alignment | None = None,
) -> tuple[list[Metric], list[str], list[Copy]]:
    """Metrics over all images and by subset, notes on subsets that are too small, and the copies.

    Args:
        embedding: name of the features' extractor.
        sets: `train`, `real` (held out) and `synthetic`.
        features: of the same sets.
        seed: of the halves of the held-out patients.
        alignment: see `Extractor`.

    Raises:
        UserError: fewer than four held-out patients, or a patient in `train` and `real`.
    """
    metrics: list[Metric] = []
    notes: list[str] = []
    copies: list[Copy] = []
    for subset in (EVERYTHING, *features["real"].parts):
        part = {name: known.part(subset) for name, known in features.items()}
        if subset != EVERYTHING and (
            len(set(part["real"].units)) < LEAST_PATIENTS or not all(len(known.values) > 1 for known in part.values())
        ):
            notes.append(
                f"{subset}: copies were not looked for, since this needs {LEAST_PATIENTS} held-out patients and 2"
                " images per set."
            )
            continue
        train, real, synthetic = part["train"], part["real"], part["synthetic"]
        synthetic = replace(synthetic, units=sampled_units(synthetic.units))
        report = copy_rates(
            train.values,
            real.values,
            synthetic.values,
            train.units,
            real.units,
            seed,
            synthetic_clusters=synthetic.units,
            alignment=alignment,
        )
        note = (
            f"A copy has a cosine above {report.threshold:.6f} to a training image. Pairs above"
            f" {report.listed_above:.6f} are listed."
        )
        none = Reference("no more than held-out images", 0.0)
        held_out = Reference("held-out real images", report.held_out_rate)
        fraction = proportion(report.copied, synthetic.units, seed)
        metrics += [
            Metric.of(
                interval,
                name=name,
                subset=subset,
                counted=counted,
                reference=reference,
                better=better,
                extractor=embedding,
                note=note,
            )
            for name, interval, counted, reference, better in (
                (COPIED, fraction, "images", held_out, ""),
                (EXCESS, report.excess, "units", none, LOWER),
                (BY_PATIENT, report.excess_by_patient, "units", none, LOWER),
            )
        ]
        if subset == EVERYTHING:
            metrics += _distances(embedding, train, real, synthetic, seed)
            copies = [
                Copy(embedding, sets["synthetic"].samples[row].path, sets["train"].samples[nearest].path, cosine)
                for row, nearest, cosine in report.pairs
            ]
    return metrics, notes, copies


def _distances(embedding: str, train: FeatureSet, real: FeatureSet, synthetic: FeatureSet, seed: int) -> list[Metric]:
    """Authenticity, and the distance of synthetic images from training images, compared with held-out images."""
    ours, theirs = (
        proportion(authenticity(train.values, known.values, train.units), known.units, seed)
        for known in (synthetic, real)
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


def write_copies(path: Path, copies: Sequence[Copy]) -> None:
    """Write the pairs as CSV. It names training images and is not for sharing."""
    rows = [[copy.embedding, copy.synthetic, copy.train, f"{copy.cosine:.6f}"] for copy in copies]
    write_csv(path, ["embedding", "synthetic", "train", "cosine"], rows)


def write_pairs(
    path: Path, copies: Sequence[Copy], sets: tuple[ImageSet, ImageSet], spec: ImageSpec, unit: str | None
) -> None:
    """Write a page with the pairs of highest cosine of each embedding, side by side. It shows patients, and says so.

    Args:
        path: the page.
        copies: the pairs.
        sets: the synthetic and the training images.
        spec: the space in which they are read.
        unit: of files that do not state theirs.
    """
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(THUMBNAIL, THUMBNAIL), resize="pad")
    samples: dict[Path, Sample] = {sample.path: sample for members in sets for sample in members.samples}
    parts = []
    for embedding in dict.fromkeys(copy.embedding for copy in copies):
        own = sorted((copy for copy in copies if copy.embedding == embedding), key=lambda copy: -copy.cosine)
        pairs = []
        for copy in own[:LISTED_PAIRS]:
            source = ImageSource([samples[copy.synthetic], samples[copy.train]], spec, unit, {})
            titles = ("synthetic", "training image")
            pairs.append((copy, embedded(strip(list(source.images([0, 1])), titles, synthetic=False))))
        parts.append({"embedding": embedding, "count": len(own), "pairs": pairs})
    write_text(path, page("internal.html", parts=parts))


def plots(metrics: Sequence[Metric]) -> Plots:
    """One plot of the excess of copies."""
    rows = [(f"{metric.extractor}: {metric.subset}", metric) for metric in metrics if metric.name == EXCESS]
    return [("copies of training images", [Panel(EXCESS, rows)])] if rows else []


SECTION = Section(
    heading="Privacy",
    question="Are synthetic images copies of training images, and does the model reveal what it was trained on?",
    metrics={
        COPIED: "fraction of synthetic images closer to a training image than 99.9 % of unseen real images are",
        EXCESS: "fraction of copies less the same fraction among other unseen real images; above 0 means copying",
        BY_PATIENT: "the same with each prompt or patient, not each image, counting once",
        AUTHENTIC: "fraction of images farther from their nearest training image than other patients' images are",
        DISTANCE: "median distance to the nearest training image, over that of held-out images; 0 for copies",
        **membership.MEANINGS,
        IDENTICAL: "fraction of synthetic files that equal a file of the training set byte for byte",
    },
    measure=measure,
    plots=plots,
    needs=("training images",),
    lacking=lacking,
    requires=f"the generator's training images (`--train`); {LEAST_PATIENTS} held-out patients",
)
