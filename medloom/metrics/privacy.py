"""Whether synthetic images are copies of training images, judged against held-out images of other patients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.feature_sets import CHUNK, check_features, unit_rows
from medloom.metrics.matrices import beside, placed, row_maxima
from medloom.metrics.uncertainty import Groups, Interval


@dataclass(frozen=True)
class Alignment:
    """How images are compared that may have been flipped or shifted.

    Attributes:
        views: maps embeddings `(k, d)` to those of the same images flipped, moved, ..., `(k, views, d)`, by which the
            nearest image is found.
        cosines: maps pairs of embeddings, `(k, d)` each, to their cosine `(k,)` after the best flip and shift.
    """

    views: Callable[[np.ndarray], np.ndarray]
    cosines: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class CopyReport:
    """Copies among synthetic images.

    Attributes:
        threshold: the cosine above which an image counts as a copy.
        copied: bool `(s,)`, which synthetic images do.
        listed_above: the cosine above which an image is listed: the percentile of all held-out images.
        synthetic_rate: share of synthetic images above it.
        held_out_rate: share of the second half of the held-out images above it: what not copying looks like.
        excess: synthetic_rate - held_out_rate, by image; n is the smaller number of clusters.
        excess_by_patient: the same with every patient or cluster, not every image, counting once.
        pairs: (synthetic row, nearest training row, cosine) of every listed image, nearest first.
        patients_copied: number of training patients in `pairs`.
    """

    threshold: float
    copied: np.ndarray
    listed_above: float
    synthetic_rate: float
    held_out_rate: float
    excess: Interval
    excess_by_patient: Interval
    pairs: list[tuple[int, int, float]]
    patients_copied: int


def copy_rates(
    train: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    train_patients: Groups,
    held_out_patients: Groups,
    seed: int,
    *,
    synthetic_clusters: Groups | None = None,
    alignment: Alignment | None = None,
    percentile: float = 99.9,
    level: float = 0.95,
) -> CopyReport:
    """Rates of copying of training images, above what unseen images of other patients show.

    Held-out patients are halved into V1 and V2. The threshold is a percentile of the nearest cosine of V1 to the
    training set; synthetic images and V2 are judged by it alike, so the excess is centred on 0 for a generator that
    copies no more than fresh real images would. Below 1000 images in V1 the 99.9th percentile is close to its maximum.
    Single images are accused by the percentile of V1 and V2 together, so that fewer innocent ones are.

    Intervals are Newcombe's (1998, method 10) for a difference of shares, with the number of clusters as sample size.
    They resample nothing, hold at rates of 0, and are wide rather than narrow where a patient has several images.

    Args:
        train: embeddings `(n, d)` of the training images, of any length but 0.
        held_out: embeddings `(v, d)` of images of patients outside the training set.
        synthetic: embeddings `(s, d)`.
        train_patients: patient of each training image.
        held_out_patients: patient of each held-out image.
        seed: of the halving.
        synthetic_clusters: prompt or source patient of each synthetic image; by default each stands alone.
        alignment: how held-out and synthetic images alike are compared with training images; as they are, where there
            is none.
        percentile: of the nearest cosine in V1.
        level: coverage of the intervals, in (0, 1).

    Raises:
        UserError: wrong shapes or lengths, a patient in both real sets, fewer than four held-out patients, or an
            embedding of length 0.
    """
    train, held_out, synthetic = (unit_rows(features) for features in check_features(train, held_out, synthetic))
    clusters = np.arange(len(synthetic)) if synthetic_clusters is None else np.asarray(synthetic_clusters)
    patients = np.asarray(train_patients)
    first = _halve(patients, np.asarray(held_out_patients), seed)
    if (len(patients), len(first), len(clusters)) != (len(train), len(held_out), len(synthetic)):
        raise UserError("patients or clusters do not match the embeddings; give one a row.")
    held_out_cosine, _ = _nearest_aligned(held_out, train, alignment)
    cosine, index = _nearest_aligned(synthetic, train, alignment)
    threshold = float(np.percentile(held_out_cosine[first], percentile))
    listed_above = float(np.percentile(held_out_cosine, percentile))
    copied, chance = cosine > threshold, held_out_cosine[~first] > threshold
    chance_groups = np.asarray(held_out_patients)[~first]
    rows = sorted(np.flatnonzero(cosine > listed_above), key=lambda row: -cosine[row])
    by_cluster, by_patient = _share_by_group(copied, clusters), _share_by_group(chance, chance_groups)

    def excess(share: float, other: float) -> Interval:
        return difference_of_shares(share, len(by_cluster), other, len(by_patient), level)

    return CopyReport(
        threshold=threshold,
        copied=copied,
        listed_above=listed_above,
        synthetic_rate=float(copied.mean()),
        held_out_rate=float(chance.mean()),
        excess=excess(float(copied.mean()), float(chance.mean())),
        excess_by_patient=excess(float(by_cluster.mean()), float(by_patient.mean())),
        pairs=[(int(row), int(index[row]), float(cosine[row])) for row in rows],
        patients_copied=len(set(patients[index[rows]].tolist())),
    )


def authenticity(train: np.ndarray, synthetic: np.ndarray, train_patients: Groups) -> np.ndarray:
    """Whether each synthetic image is farther from its nearest training image than other patients' images are.

    After Alaa et al. (2022, section 3.3), with other patients in place of other images, since two images of one patient
    may be closer than any synthetic one. Distances are of unit vectors. Its share among held-out real images is what it
    is to be read beside.

    Args:
        train: embeddings `(n, d)`.
        synthetic: embeddings `(s, d)`.
        train_patients: patient of each training image, two or more.

    Returns:
        bool `(s,)`.

    Raises:
        UserError: wrong shapes or lengths, one patient, or an embedding of length 0.
    """
    train, synthetic = (unit_rows(features) for features in check_features(train, synthetic))
    codes = np.unique(np.asarray(train_patients), return_inverse=True)[1]
    if len(codes) != len(train) or codes.max(initial=0) < 1:
        raise UserError(f"authenticity of {len(train)} training images; give a patient each, two patients or more.")
    cosine, index = nearest(synthetic, train)
    used, inverse = np.unique(index, return_inverse=True)
    between = np.empty(len(used))
    (known,) = placed(len(used) * train.size, train)
    for start in range(0, len(used), CHUNK):
        rows = used[start : start + CHUNK]
        products = known[rows] @ known.T
        products[beside(codes[rows, None] == codes, products)] = -np.inf
        between[start : start + CHUNK], _ = row_maxima(products)
    return np.asarray(cosine < between[inverse])


def distance_ratio(train: np.ndarray, held_out: np.ndarray, synthetic: np.ndarray) -> float:
    """Median distance of synthetic images to their nearest training image, over that of held-out images.

    1 where synthetic images are as far from the training set as unseen real ones; 0 for copies. Distances are of unit
    vectors.

    Args:
        train: embeddings `(n, d)`.
        held_out: embeddings `(v, d)`.
        synthetic: embeddings `(s, d)`.

    Raises:
        UserError: as `authenticity`, or held-out images that are all copies.
    """
    return ratio_of_medians(*(train_distances(train, x) for x in (synthetic, held_out)))


def train_distances(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance of each embedding `(k, d)`, as a unit vector, to the nearest one of the training set: `(k,)`, 0 to 2."""
    train, x = (unit_rows(features) for features in check_features(train, x))
    return np.sqrt(np.maximum(2 - 2 * nearest(x, train)[0], 0))


def ratio_of_medians(synthetic: np.ndarray, held_out: np.ndarray) -> float:
    """The ratio of `distance_ratio`, of distances to the training set that are known.

    Raises:
        UserError: held-out images that are all copies.
    """
    theirs = float(np.median(held_out))
    if not theirs > 0:
        raise UserError("half of the held-out images are copies of training images; no distance can be told from them.")
    return float(np.median(synthetic)) / theirs


def _nearest_aligned(
    queries: np.ndarray, references: np.ndarray, alignment: Alignment | None
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` by views, and the pair's cosine after its alignment."""
    if alignment is None:
        return nearest(queries, references)
    _, index = nearest(queries, references, alignment.views)
    return np.asarray(alignment.cosines(queries, references[index]), float), index


def nearest(
    queries: np.ndarray, references: np.ndarray, views: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each query the greatest cosine to a reference, and which: float64 and integer `(q,)`.

    Args:
        queries: `(q, d)`, rows of length 1.
        references: `(r, d)`, rows of length 1.
        views: of the queries, of which the nearest counts; see `Alignment`.
    """
    cosine, index = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    step = CHUNK if views is None else CHUNK // 16
    (known,) = placed(len(queries) * references.size, references)
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        seen = queries[rows, None] if views is None else views(queries[rows])
        flat = seen.reshape(-1, references.shape[1]).astype(references.dtype, copy=False)
        best, place = row_maxima(beside(flat, known) @ known.T)
        view = best.reshape(seen.shape[:2]).argmax(axis=1)
        chosen = np.arange(len(seen)) * seen.shape[1] + view
        cosine[rows], index[rows] = best[chosen], place[chosen]
    return cosine, index


def difference_of_shares(share_a: float, n_a: int, share_b: float, n_b: int, level: float = 0.95) -> Interval:
    """share_a - share_b with Newcombe's hybrid score interval (Newcombe 1998, method 10); n is the smaller one."""
    low_a, high_a = _wilson(share_a, n_a, level)
    low_b, high_b = _wilson(share_b, n_b, level)
    value = share_a - share_b
    return Interval(
        value,
        value - math.hypot(share_a - low_a, high_b - share_b),
        value + math.hypot(high_a - share_a, share_b - low_b),
        min(n_a, n_b),
    )


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def _halve(train_patients: np.ndarray, held_out_patients: np.ndarray, seed: int) -> np.ndarray:
    """Whether each held-out image falls into the first half of its patients."""
    shared = sorted(set(train_patients.tolist()) & set(held_out_patients.tolist()))
    names = np.unique(held_out_patients)
    if shared or len(names) < 4:
        raise UserError(
            f"held-out images of {len(names)} patients, {len(shared)} of them in the training set ({shared[:3]});"
            " give 4 held-out patients or more, none of them trained on."
        )
    chosen = numpy_generator("copies", seed).permutation(names)[: len(names) // 2]
    return np.isin(held_out_patients, chosen)


def _share_by_group(hits: np.ndarray, groups: Sequence[object] | np.ndarray) -> np.ndarray:
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(codes, hits) / np.bincount(codes)
