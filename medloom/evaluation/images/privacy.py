"""Whether synthetic images are copies of training images, judged against real images that were not trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medloom.core.errors import UserError
from medloom.data.tables import write_csv
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, LOWER, Figure, Reference, rate, sampled_units
from medloom.metrics.privacy import Alignment, CopyReport, authenticity, copy_rates, ratio_of_medians, train_distances
from medloom.metrics.uncertainty import subsample_interval

SECTION = "privacy"
LEAST_PATIENTS = 20
REPEATS = 50
COPIED, EXCESS, BY_PATIENT, IDENTICAL = (
    "share of copies",
    "excess of copies",
    "excess of copies by patient",
    "identical files",
)
AUTHENTIC, DISTANCE = "authenticity", "distance to training images over held-out's"


@dataclass(frozen=True)
class Copy:
    """A synthetic image that is closer to a training image than unseen images are.

    Attributes:
        embedding: in which it is.
        synthetic: its file.
        train: the training image's file.
        cosine: of the two, -1 to 1.
    """

    embedding: str
    synthetic: Path
    train: Path
    cosine: float


def copy_figures(
    embedding: str,
    sets: Mapping[str, ImageSet],
    features: Mapping[str, FeatureSet],
    seed: int,
    alignment: Alignment | None = None,
) -> tuple[list[Figure], list[str], list[Copy]]:
    """Figures over all images and by subset, notes on what was left out, and the copies.

    Args:
        embedding: name of the features' extractor.
        sets: `train`, `real` (held out) and `synthetic`.
        features: of the same sets.
        seed: of the halving of the held-out patients.
        alignment: see `Extractor`.

    Raises:
        UserError: fewer than 20 held-out patients, or a patient in `train` and `real`.
    """
    require_enough(features["real"].units)
    report = _report(features, seed, alignment)
    figures, notes = _figures(embedding, EVERYTHING, report, features["synthetic"].units, seed), []
    figures += _distances(embedding, features, seed)
    for group in features["real"].parts:
        part = {name: entry.part(group) for name, entry in features.items()}
        if len(set(part["real"].units)) < LEAST_PATIENTS or not all(len(entry.values) > 1 for entry in part.values()):
            notes.append(
                f"{group}: no copy figures, since they need {LEAST_PATIENTS} held-out patients and 2 images a set."
            )
            continue
        figures += _figures(embedding, group, _report(part, seed, alignment), part["synthetic"].units, seed)
    pairs = [
        Copy(embedding, sets["synthetic"].samples[row].path, sets["train"].samples[nearest].path, cosine)
        for row, nearest, cosine in report.pairs
    ]
    return figures, notes, pairs


def require_enough(units: Sequence[object] | np.ndarray) -> None:
    """Refuse too few held-out real patients, given the patient of each image.

    Raises:
        UserError: says how many there are and are needed.
    """
    patients = len(set(units))
    if patients < LEAST_PATIENTS:
        raise UserError(f"copies cannot be told with {patients} held-out patients in --real; give {LEAST_PATIENTS}.")


def identical_files(sets: Mapping[str, ImageSet], seed: int) -> Figure:
    """The share of synthetic files that are, byte for byte, files of the training set."""
    train = set(sets["train"].hashes)
    synthetic, real = sets["synthetic"], sets["real"]
    found = rate(np.array([digest in train for digest in synthetic.hashes]), np.arange(len(synthetic)), seed)
    unseen = rate(np.array([digest in train for digest in real.hashes]), np.arange(len(real)), seed)
    return Figure.of(
        found,
        section=SECTION,
        metric=IDENTICAL,
        subset=EVERYTHING,
        counted="images",
        reference=Reference("the same of held-out real files", unseen.value, n=unseen.n),
        better=LOWER,
    )


def write_copies(path: Path, copies: list[Copy]) -> None:
    """Write the pairs as CSV. It names training images, so it is not for sharing."""
    rows = [[copy.embedding, copy.synthetic, copy.train, f"{copy.cosine:.6f}"] for copy in copies]
    write_csv(path, ["embedding", "synthetic", "train", "cosine"], rows)


def _distances(embedding: str, features: Mapping[str, FeatureSet], seed: int) -> list[Figure]:
    """Authenticity, and how far synthetic images are from training images, each beside held-out ones."""
    train, real, synthetic = features["train"], features["real"], features["synthetic"].with_sampled_units()
    shares = [rate(authenticity(train.values, x.values, train.units), x.units, seed) for x in (synthetic, real)]

    # Known once, so that a subsample costs two medians.
    theirs, ours = (train_distances(train.values, x.values) for x in (real, synthetic))

    def ratio(x: np.ndarray, y: np.ndarray) -> float:
        return ratio_of_medians(ours[y], theirs[x])

    interval = subsample_interval(ratio, real.units, synthetic.units, seed=seed, at="n", repeats=REPEATS)
    interval = replace(interval, low=max(interval.low, 0.0))
    told = {"section": SECTION, "subset": EVERYTHING, "better": HIGHER, "extractor": embedding}
    return [
        Figure.of(
            shares[0],
            metric=AUTHENTIC,
            counted="units",
            reference=Reference.of(shares[1], "held-out real images"),
            **told,
        ),
        Figure.of(
            interval,
            metric=DISTANCE,
            counted="units",
            reference=Reference("as far as held-out images", 1.0),
            **told,
        ),
    ]


def _report(features: Mapping[str, FeatureSet], seed: int, alignment: Alignment | None) -> CopyReport:
    train, real, synthetic = features["train"], features["real"], features["synthetic"].with_sampled_units()
    return copy_rates(
        train.values,
        real.values,
        synthetic.values,
        train.units,
        real.units,
        seed,
        synthetic_clusters=synthetic.units,
        alignment=alignment,
    )


def _figures(embedding: str, subset: str, report: CopyReport, units: np.ndarray, seed: int) -> list[Figure]:
    share = rate(report.copied, sampled_units(units), seed)
    none = Reference("no more than held-out images", 0.0)
    rows = (
        (COPIED, share, "images", Reference("held-out real images", report.held_out_rate), ""),
        (EXCESS, report.excess, "units", none, LOWER),
        (BY_PATIENT, report.excess_by_patient, "units", none, LOWER),
    )
    return [
        Figure.of(
            interval,
            section=SECTION,
            metric=metric,
            subset=subset,
            counted=counted,
            reference=reference,
            better=better,
            extractor=embedding,
            note=f"A copy has a cosine above {report.threshold:.6f} to a training image; listed are those above"
            f" {report.listed_above:.6f}.",
        )
        for metric, interval, counted, reference, better in rows
    ]
