"""Are synthetic images copies of training images, of held-out images, or of each other? And would copies be found?

Pairs are laid on each other and compared by their fine structure; see the package `evaluation.copies`. Each pair
decides for itself whether it is listed, not the few held-out images that happen to be nearest to training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.files import write_text
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import ImageSource
from medloom.data.tables import write_csv
from medloom.evaluation.copies.evidence import LEAST, LISTED_ABOVE, Unrelated
from medloom.evaluation.images.comparison import Comparison, with_fewer
from medloom.evaluation.images.copy_search import Copies, CopySearch
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import (
    EVERYTHING,
    LOWER,
    Metric,
    Reference,
    proportion,
    sampled_units,
)
from medloom.evaluation.report.plots import FRACTION, Panel, strip
from medloom.evaluation.report.report import embedded, page
from medloom.metrics.uncertainty import difference

COPIED, EXCESS, HELD_OUT = "copies of training images", "excess of copies", "copies of held-out images"
REPEATED, IDENTICAL, FOUND = "repeated images", "identical files", "edited copies found"
ANOTHER = "another synthetic image"
# The fraction of edited copies from which on the search is said to find an edit.
LEAST_FOUND = 0.8
LISTING, INTERNAL = "copies-internal.csv", "report-internal.html"
# A held-out image that agrees so far with a training image is the same image.
SAME = 0.95
LEAST_PATIENTS = 8
# Training images that show how often images agree with held-out images by chance.
MOST_OF_CHANCE = 1000
# Synthetic images that are compared with all others of their set.
MOST_REPEATED = 2000
LISTED_PAIRS, THUMBNAIL = 60, 128


@dataclass(frozen=True)
class Pair:
    """A synthetic image and what it was most likely made from.

    Attributes:
        of: what the original is: a training image, a held-out image, another synthetic image.
        synthetic: file of the image.
        original: file of the original.
        score: evidence, in standard deviations of unrelated images.
        cosine: of the fine structure of the two after alignment, 0 to 1.
        how: what was done to the original, in words.
    """

    of: str
    synthetic: Path
    original: Path
    score: float
    cosine: float
    how: str


def without_known(data: Comparison, search: CopySearch) -> Comparison:
    """The comparison without held-out images that are training images; the notes say how many there were.

    Raises:
        UserError: an image that cannot be read.
    """
    if data.train is None or lacking(data):
        return data
    copies = search.among(data.real, data.train, search.unrelated(data.train))
    known = copies.listed & (copies.cosines >= SAME)
    if not known.any():
        return data
    note = (
        f"{known.sum()} of {len(known)} held-out images are training images too, perhaps edited or under another"
        " patient; they were left out of --real."
    )
    return with_fewer(data, {"real": data.real.rows(np.flatnonzero(~known))}, [note])


def measure(inputs: Inputs) -> Found:
    """Copies of training, held-out and synthetic images, and the share of planted copies that is found."""
    data, search = inputs.data, inputs.copies
    known = data.train or data.real
    unrelated = search.unrelated(known)
    metrics, pairs = _repeated(data, search, unrelated)
    if data.train is not None:
        of_train = search.among(data.synthetic, data.train, unrelated)
        chance = search.among(data.real, data.train, unrelated)
        metrics = [*_of_training(data, data.train, of_train, chance), *metrics]
        pairs = [*_pairs("a training image", of_train, data.synthetic, data.train), *pairs]
    planted = _planted(search, known, unrelated)
    metrics += planted
    leaving = frozenset(pair.synthetic for pair in pairs if pair.of != ANOTHER)
    notes = [*([_power(data, unrelated)] if data.train is not None else []), *_missed(planted)]
    if not pairs:
        return Found(metrics, notes)
    sets = [data.synthetic, data.real, *([data.train] if data.train else [])]
    return Found(
        metrics,
        notes,
        f"{len(pairs)} synthetic images and their likely originals are listed in {LISTING} and shown in {INTERNAL}."
        " Both files identify images of patients and are not for sharing.",
        {
            LISTING: lambda path: write_pairs(path, pairs),
            INTERNAL: lambda path: write_page(path, pairs, sets, data.spec, inputs.cache.unit),
        },
        leaving,
    )


def _of_training(data: Comparison, train: ImageSet, copies: Copies, chance: Copies) -> list[Metric]:
    """The fraction of copies of training images, over all and by subset; its excess; identical files."""
    note = f"Listed where the evidence is above {LISTED_ABOVE:g} standard deviations of unrelated images."
    metrics, patients = [], np.asarray(data.real.units)
    for subset in (EVERYTHING, *data.real.parts):
        ours, theirs = data.synthetic.within(subset), data.real.within(subset)
        if not ours.any():
            continue
        rate = proportion(copies.listed[ours], sampled_units(np.asarray(data.synthetic.units)[ours]))
        among_real = None
        if len(set(patients[theirs])) >= LEAST_PATIENTS:
            among_real = proportion(chance.listed[theirs], patients[theirs])
        held_out = Reference("no copies", 0.0)
        if among_real is not None:
            held_out = Reference.of(among_real, "held-out images, by chance")
        given: dict[str, Any] = {"subset": subset, "better": LOWER}
        metrics.append(Metric.of(rate, name=COPIED, counted="images", reference=held_out, note=note, **given))
        if among_real is not None:
            excess = difference(rate, among_real)
            none = Reference("no more than held-out images", 0.0)
            metrics.append(Metric.of(excess, name=EXCESS, counted="units", reference=none, **given))
    hashes = {*train.hashes, *data.real.hashes}
    same = proportion(np.array([own in hashes for own in data.synthetic.hashes]), np.arange(len(data.synthetic)))
    none = Reference("no file of --train or --real", 0.0)
    metrics.append(Metric.of(same, name=IDENTICAL, counted="images", reference=none, better=LOWER))
    return metrics


def _repeated(data: Comparison, search: CopySearch, unrelated: Sequence[Unrelated]) -> tuple[list[Metric], list[Pair]]:
    """Copies of held-out images, and synthetic images that repeat another one, as often as real ones do."""
    metrics, pairs = [], []
    real, synthetic = data.real, data.synthetic
    of_real = search.among(synthetic, real, unrelated)
    rate = proportion(of_real.listed, sampled_units(synthetic.units))
    by_chance = _chance_of_held_out(data, search, unrelated)
    metrics.append(Metric.of(rate, name=HELD_OUT, counted="images", reference=by_chance, better=LOWER))
    pairs += _pairs("a held-out image", of_real, synthetic, real)
    rows, order = (
        np.sort(numpy_generator("repeated", search.seed).permutation(len(own))[:most])
        for own, most in ((synthetic, MOST_REPEATED), (real, MOST_OF_CHANCE))
    )
    own, theirs = search.among(synthetic, synthetic, unrelated, rows), search.among(real, real, unrelated, order)
    rates = [proportion(found.listed, np.arange(len(found.listed))) for found in (own, theirs)]
    reference = Reference.of(rates[1], "held-out real images")
    metrics.append(Metric.of(rates[0], name=REPEATED, counted="images", reference=reference, better=LOWER))
    pairs += _pairs(ANOTHER, own, synthetic.rows(rows), synthetic)
    return metrics, pairs


def _chance_of_held_out(data: Comparison, search: CopySearch, unrelated: Sequence[Unrelated]) -> Reference:
    """How often images that are no copies agree like one with a held-out image: training images, if there are enough.

    Slices of one scan, or two images of a patient under two names, do so in some tables of real images.
    """
    none = Reference("no copies", 0.0)
    if data.train is None:
        return none
    order = np.sort(numpy_generator("chance", search.seed).permutation(len(data.train))[:MOST_OF_CHANCE])
    some = data.train.rows(order)
    if len(set(some.units)) < LEAST_PATIENTS:
        return none
    found = search.among(some, data.real, unrelated)
    return Reference.of(proportion(found.listed, some.units), "training images, by chance")


def _planted(search: CopySearch, known: ImageSet, unrelated: Sequence[Unrelated]) -> list[Metric]:
    """Of edited copies of the user's own real images, the fraction that is listed with its original."""
    return [
        Metric.of(
            proportion(found, np.arange(len(found))),
            name=FOUND,
            subset=edit,
            counted="images",
            reference=Reference("all of them", 1.0),
            better="",
        )
        for edit, found in search.planted(known, unrelated).items()
    ]


def _missed(planted: Sequence[Metric]) -> list[str]:
    """The edits after which the search misses copies of these images."""
    missed = [f"{metric.subset} ({metric.value:.0%} found)" for metric in planted if metric.value < LEAST_FOUND]
    return [f"Copies: on these images copies with these edits are often missed: {', '.join(missed)}."] if missed else []


def _power(data: Comparison, unrelated: Sequence[Unrelated]) -> str:
    """The smallest number of copies whose excess would be above 0 by its interval, where held-out images have none."""
    ours, theirs = len(set(sampled_units(data.synthetic.units))), len(set(data.real.units))
    images, none = np.arange(ours), proportion(np.zeros(theirs), np.arange(theirs))
    enough = next(
        (count for count in range(1, ours + 1) if difference(proportion(images < count, images), none).low > 0), None
    )
    seen = f"{enough / ours:.1%} of copies" if enough else "no share of copies"
    return (
        f"Copies: each pair is judged by itself, against {unrelated[0].n} real images of other patients. With these"
        f" sets the excess over held-out images is above 0 by its interval from {seen} on."
    )


def lacking(data: Comparison) -> str | None:
    """Why copies cannot be looked for, or None."""
    known = data.train or data.real
    if len(known) < LEAST:
        return f"there are {len(known)} {known.name} images and it needs {LEAST}"
    return "all real images are of one patient" if len(set(known.units)) < 2 else None


def _pairs(of: str, copies: Copies, members: ImageSet, others: ImageSet) -> list[Pair]:
    """The listed pairs, those of the most evidence first."""
    rows = sorted(np.flatnonzero(copies.listed).tolist(), key=lambda row: -float(copies.scores[row]))
    return [
        Pair(
            of,
            members.samples[row].path,
            others.samples[int(copies.rows[row])].path,
            float(copies.scores[row]),
            float(copies.cosines[row]),
            copies.how[row],
        )
        for row in rows
    ]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write the pairs as CSV. It names images of patients and is not for sharing."""
    rows = [[p.of, p.synthetic, p.original, f"{p.score:.2f}", f"{p.cosine:.4f}", p.how] for p in pairs]
    write_csv(path, ["copy_of", "synthetic", "original", "evidence", "cosine", "how"], rows)


def write_page(path: Path, pairs: Sequence[Pair], sets: Sequence[ImageSet], spec: ImageSpec, unit: str | None) -> None:
    """Write a page with the pairs of most evidence, side by side. It shows patients, and says so.

    Args:
        path: the page.
        pairs: of images.
        sets: that they are of.
        spec: the space in which they are read.
        unit: of files that do not state theirs.
    """
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(THUMBNAIL, THUMBNAIL), resize="pad")
    samples: dict[Path, Sample] = {sample.path: sample for members in sets for sample in members.samples}
    parts = []
    for of in dict.fromkeys(pair.of for pair in pairs):
        own = [pair for pair in pairs if pair.of == of]
        shown = []
        for pair in own[:LISTED_PAIRS]:
            source = ImageSource([samples[pair.synthetic], samples[pair.original]], spec, unit, {})
            titles = ("synthetic", of.removeprefix("a "))
            both, oriented = list(source.images([0, 1])), spec.orientation is not None
            shown.append((pair, embedded(strip(both, titles, synthetic=False, oriented=oriented))))
        parts.append({"of": of, "count": len(own), "pairs": shown})
    write_text(path, page("internal.html", parts=parts))


def plots(metrics: Sequence[Metric]) -> Plots:
    """Copies and repeats, and which planted copies are found."""
    rates = [
        (f"{metric.name}: {metric.subset}", metric) for metric in metrics if metric.name in (COPIED, HELD_OUT, REPEATED)
    ]
    found = [(metric.subset, metric) for metric in metrics if metric.name == FOUND]
    panels = (("copies", rates, "fraction of images"), ("edited copies of real images", found, "fraction found"))
    return [(title, [Panel(axis, rows, FRACTION)]) for title, rows, axis in panels if rows]


SECTION = Section(
    heading="Copies",
    question="Are synthetic images copies of training images, of held-out images, or of each other?",
    metrics={
        COPIED: "fraction of synthetic images that agree with a training image far beyond what unrelated images do",
        EXCESS: "that fraction less the one of held-out images; above 0 means copying",
        HELD_OUT: "fraction that agree so with a held-out image, which the generator should not have seen",
        REPEATED: "fraction that agree so with another synthetic image; of 2,000 images at most",
        IDENTICAL: "fraction of synthetic files that equal a real file byte for byte",
        FOUND: "fraction of edited copies of your own real images that this search lists with their original",
    },
    measure=measure,
    plots=plots,
    lacking=lacking,
    requires=f"{LEAST} real images of two or more patients; of training images with `--train`",
)
