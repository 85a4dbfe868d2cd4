"""Whether images of one prompt differ as much as real ones do: MS-SSIM of pairs, and the Inception Score."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator
from medloom.downstream.classifier import Classifier
from medloom.evaluation.images.classifiers import Workshop
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, LOWER, Figure, Reference
from medloom.metrics.inception import inception_score
from medloom.metrics.structural import ms_ssim, scales_of
from medloom.metrics.uncertainty import Interval, bootstrap_mean

SECTION = "fidelity"
SIMILARITY, SCORE = "MS-SSIM of pairs that share a prompt", "Inception Score of the classifier"
PAIRS, LEAST_PAIRS = 200, 10
SPLITS = 10

Pair = tuple[int, int]


def variety_figures(
    workshop: Workshop, real: ImageSet, synthetic: ImageSet, classifier: Classifier | None, seed: int
) -> tuple[list[Figure], list[str]]:
    """MS-SSIM of pairs, and with a classifier its Inception Score; and notes on what could not be told.

    Args:
        workshop: where images are read.
        real: held-out real images.
        synthetic: the images in question.
        classifier: of real images, or None.
        seed: of pairs and splits.
    """
    figures, notes = _similarity(workshop, real, synthetic, seed)
    if classifier is not None and min(len(real), len(synthetic)) >= 2 * SPLITS:
        figures.append(_score(workshop, real, synthetic, classifier, seed))
    return figures, notes


def _similarity(workshop: Workshop, real: ImageSet, synthetic: ImageSet, seed: int) -> tuple[list[Figure], list[str]]:
    scales = scales_of(workshop.spec.size)
    if not scales:
        return [], [f"No MS-SSIM: images of {' x '.join(map(str, workshop.spec.size))} pixels are too small for it."]
    for what, keys in _KEYS.items():
        drawn = [(keys(members), members) for members in (synthetic, real)]
        pairs = [draw_pairs(*own, seed) for own in drawn]
        if all(len(own) >= LEAST_PAIRS for own in pairs):
            ours, theirs = (
                _mean(workshop, names, own, members, seed) for (names, members), own in zip(drawn, pairs, strict=True)
            )
            note = f"Pairs share {what}; {scales} of the 5 scales fit into the images."
            reference = Reference.of(theirs, "real pairs of different patients")
            told = {"section": SECTION, "subset": EVERYTHING, "counted": "images", "better": LOWER, "note": note}
            return [Figure.of(ours, metric=SIMILARITY, reference=reference, **told)], []
    return [], [
        f"No MS-SSIM of pairs: it needs {LEAST_PAIRS} pairs that share a text, a class or a modality on each side."
    ]


def draw_pairs(keys: Sequence[object], members: ImageSet, seed: int) -> list[Pair]:
    """Up to 200 pairs of images that share a key: two patients each, and no patient in two pairs.

    Else one patient of many images would be in many of the pairs, which then are not independent.

    Args:
        keys: of each image; None for an image that is in no pair.
        members: the images. Of synthetic ones, those of a key that was asked for one patient alone, or for nobody, are
            paired with each other.
        seed: of the draw.

    Returns:
        Pairs of rows; no row is in two of them.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None:
            groups[key].append(row)
    patients = [sample.patient for sample in members.samples]
    rng = numpy_generator("pairs", seed)
    pairs: list[Pair] = []
    taken: set[str] = set()
    for rows in groups.values():
        left = [rows[place] for place in rng.permutation(len(rows))]
        if members.counted != "patients" and len({patients[row] for row in rows}) == 1:
            pairs += list(zip(left[::2], left[1::2], strict=False))
        else:
            pairs += _of_two_patients(left, patients, taken)
    return [pairs[place] for place in rng.permutation(len(pairs))[:PAIRS]]


def _of_two_patients(rows: Sequence[int], patients: Sequence[str], taken: set[str]) -> list[Pair]:
    """One row of each patient who is not in `taken` yet, in twos; who was paired is taken."""
    first = {patients[row]: row for row in rows if patients[row] not in taken}
    names = list(first)
    chosen = list(zip(names[::2], names[1::2], strict=False))
    taken.update(name for pair in chosen for name in pair)
    return [(first[one], first[other]) for one, other in chosen]


def _mean(workshop: Workshop, keys: Sequence[object], pairs: Sequence[Pair], members: ImageSet, seed: int) -> Interval:
    images = workshop.images(members)
    values = [ms_ssim(_from_zero(images[one]), _from_zero(images[other]), 1.0) for one, other in pairs]
    found = bootstrap_mean(np.array(values), _clusters(keys, pairs, members), seed)
    return Interval(found.value, found.low, found.high, 2 * len(pairs))


def _clusters(keys: Sequence[object], pairs: Sequence[Pair], members: ImageSet) -> list[str]:
    """Pairs of two patients each by itself, others by their prompt; few prompts are what was asked for, no sample."""
    alone = [str(number) for number in range(len(pairs))]
    of = [
        number if members.samples[one].patient != members.samples[other].patient else f"key {keys[one]}"
        for number, (one, other) in zip(alone, pairs, strict=True)
    ]
    return of if len(set(of)) >= LEAST_PAIRS else alone


def _from_zero(image: NDArray[np.float16]) -> NDArray[np.float64]:
    """An image in [-1, 1] brought to [0, 1]."""
    return (np.asarray(image, np.float64).clip(-1, 1) + 1) / 2


def _by_text(members: ImageSet) -> list[object]:
    told = [sample.condition for sample in members.samples]
    return [(c.text, c.modality, c.view) if c.text else None for c in told]


def _by_class(members: ImageSet) -> list[object]:
    told = zip(members.labels, members.samples, strict=True)
    return [
        None if label is None else (label, sample.condition.modality, sample.condition.view) for label, sample in told
    ]


def _by_modality(members: ImageSet) -> list[object]:
    return [(sample.condition.modality, sample.condition.view) for sample in members.samples]


_KEYS = {"text, modality and view": _by_text, "class, modality and view": _by_class, "modality and view": _by_modality}


def _score(workshop: Workshop, real: ImageSet, synthetic: ImageSet, classifier: Classifier, seed: int) -> Figure:
    """IS of as many images on both sides, in ten splits."""
    n = min(len(real), len(synthetic))
    rng = numpy_generator("inception rows", seed)
    ours, theirs = (
        inception_score(
            classifier.predict(workshop.images(members)[np.sort(rng.permutation(len(members))[:n])]), seed, SPLITS
        )
        for members in (synthetic, real)
    )
    return Figure(
        section=SECTION,
        metric=SCORE,
        subset=EVERYTHING,
        value=ours.mean,
        low=None,
        high=None,
        n=n,
        counted="images",
        reference=Reference("held-out real images", theirs.mean, n=n),
        note=f"Mean of {SPLITS} splits, whose deviation is {ours.std:.3g} (real {theirs.std:.3g}); it has"
        " no interval, knows no real image, and is highest for one perfect image of each class.",
    )
