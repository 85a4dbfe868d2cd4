"""Do images of one prompt differ as much as real ones? MS-SSIM of pairs, and the Inception Score."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from medloom.core.seeds import numpy_generator
from medloom.core.types import Condition
from medloom.downstream.classifier import Classifier
from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, LOWER, Metric, Reference, proportion
from medloom.metrics.inception import inception_score
from medloom.metrics.structural import ms_ssim, scales_of
from medloom.metrics.uncertainty import Interval, bootstrap_mean

SIMILARITY, SCORE = "MS-SSIM of pairs that share a prompt", "Inception Score of the classifier"
MISSING = "real images of missing classes"
MEANINGS = {
    MISSING: "fraction of real images whose class, or modality, no synthetic image has",
    SIMILARITY: "how alike two images of one prompt are, 0 to 1; far above real pairs means too little variety",
    SCORE: "how sure and how varied the classes are that a classifier of real images predicts",
}
PAIRS, LEAST_PAIRS = 200, 10
SPLITS = 10

Pair = tuple[int, int]
Keys = Sequence[Hashable]


def variety_metrics(
    cache: EvaluationCache, real: ImageSet, synthetic: ImageSet, classifier: Classifier | None, seed: int
) -> tuple[list[Metric], list[str]]:
    """Missing classes, MS-SSIM of pairs, with a classifier its Inception Score; and notes on what was not measured.

    Args:
        cache: decodes images.
        real: held-out real images.
        synthetic: the images that are evaluated.
        classifier: of real images, or None.
        seed: of pairs and splits.
    """
    metrics, notes = _similarity(cache, real, synthetic, seed)
    metrics = [*_missing(real, synthetic), *metrics]
    n = min(len(real), len(synthetic))
    if classifier is None or n < 2 * SPLITS:
        return metrics, notes
    rng = numpy_generator("inception rows", seed)
    ours, theirs = (
        inception_score(
            classifier.predict(cache.images(members)[np.sort(rng.permutation(len(members))[:n])]), seed, SPLITS
        )
        for members in (synthetic, real)
    )
    score = Metric(
        name=SCORE,
        subset=EVERYTHING,
        value=ours.mean,
        low=None,
        high=None,
        n=n,
        counted="images",
        reference=Reference("held-out real images", theirs.mean, n=n),
        note=f"Mean of {SPLITS} splits with standard deviation {ours.std:.3g} (real {theirs.std:.3g}). It"
        " has no interval, ignores real images, and is highest for one perfect image of each class.",
    )
    return [*metrics, score], notes


def _missing(real: ImageSet, synthetic: ImageSet) -> list[Metric]:
    """The fraction of real images of classes and modalities without a synthetic image; none if all have the same."""
    theirs, ours = (list(zip(members.labels, members.groups, strict=True)) for members in (real, synthetic))
    known = [(row, kind) for row, kind in enumerate(theirs) if kind[0] is not None or not real.classes]
    if len({kind for _, kind in known}) < 2:
        return []
    missing = proportion(np.array([kind not in set(ours) for _, kind in known]), [real.units[row] for row, _ in known])
    none = Reference("every class has a synthetic image", 0.0)
    return [Metric.of(missing, name=MISSING, counted=real.counted, reference=none, better=LOWER)]


def _similarity(
    cache: EvaluationCache, real: ImageSet, synthetic: ImageSet, seed: int
) -> tuple[list[Metric], list[str]]:
    scales = scales_of(cache.spec.size)
    if not scales:
        return [], [f"No MS-SSIM: images of {' x '.join(map(str, cache.spec.size))} pixels are too small for it."]
    for what, key_of in KEYS.items():
        keys = [
            [key_of(label, sample.condition) for label, sample in zip(members.labels, members.samples, strict=True)]
            for members in (synthetic, real)
        ]
        pairs = [draw_pairs(own, members, seed) for own, members in zip(keys, (synthetic, real), strict=True)]
        if all(len(own) >= LEAST_PAIRS for own in pairs):
            similarity = Metric.of(
                _mean(cache, keys[0], pairs[0], synthetic, seed),
                name=SIMILARITY,
                counted="images",
                reference=Reference.of(_mean(cache, keys[1], pairs[1], real, seed), "real pairs of different patients"),
                better=LOWER,
                note=f"Pairs share {what}; {scales} of the 5 scales fit into the images.",
            )
            return [similarity], []
    return [], [f"No MS-SSIM of pairs: it needs {LEAST_PAIRS} pairs per side that share a text, a class or a modality."]


def draw_pairs(keys: Keys, members: ImageSet, seed: int) -> list[Pair]:
    """Up to 200 pairs of images that share a key, of two patients each, with no patient in two pairs.

    Otherwise a patient with many images would be in many pairs, which then would not be independent.

    Args:
        keys: of each image; None for an image that is in no pair.
        members: the images. Synthetic ones with a key that was asked for one patient only, or for no patient, are
            paired with each other.
        seed: of the draw.

    Returns:
        Pairs of rows; no row is in two of them.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
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
            continue
        # One row of each patient who is in no pair yet.
        first = {patients[row]: row for row in left if patients[row] not in taken}
        names = list(first)
        chosen = list(zip(names[::2], names[1::2], strict=False))
        taken.update(name for pair in chosen for name in pair)
        pairs += [(first[one], first[other]) for one, other in chosen]
    return [pairs[place] for place in rng.permutation(len(pairs))[:PAIRS]]


def _mean(cache: EvaluationCache, keys: Keys, pairs: Sequence[Pair], members: ImageSet, seed: int) -> Interval:
    images, patients = cache.images(members), [sample.patient for sample in members.samples]
    values = []
    for pair in pairs:
        one, other = ((np.asarray(images[row], np.float64).clip(-1, 1) + 1) / 2 for row in pair)
        values.append(ms_ssim(one, other, 1.0))
    # Pairs of two patients stand each by itself, others by their prompt. Few prompts are a list, not a sample.
    alone = [str(place) for place in range(len(pairs))]
    clusters = [
        name if patients[one] != patients[other] else f"key {keys[one]}"
        for name, (one, other) in zip(alone, pairs, strict=True)
    ]
    found = bootstrap_mean(np.array(values), clusters if len(set(clusters)) >= LEAST_PAIRS else alone, seed)
    return Interval(found.value, found.low, found.high, 2 * len(pairs))


# What the two images of a pair may share, best first; None for an image that is in no pair.
KEYS: Mapping[str, Callable[[str | None, Condition], Hashable]] = {
    "condition": lambda label, c: c.table.get("condition"),
    "text, modality and view": lambda label, c: (c.text, c.modality, c.view) if c.text else None,
    "class, modality and view": lambda label, c: None if label is None else (label, c.modality, c.view),
    "modality and view": lambda label, c: (c.modality, c.view),
}
