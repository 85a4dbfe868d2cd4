"""Whether synthetic images are copies of training images, compared with held-out images of other patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.matrices import CHUNK, check_features, moved_like, placed, row_maxima, unit_rows
from medloom.metrics.proportions import proportion_interval
from medloom.metrics.uncertainty import Groups, Interval, difference


@dataclass(frozen=True, eq=False)
class CopyReport:
    """Copies among synthetic images.

    Attributes:
        threshold: cosine above which an image counts as a copy.
        copied: bool `(s,)`, true for copies among the synthetic images.
        listed_above: cosine above which an image is listed: the percentile of all held-out images.
        synthetic_rate: fraction of synthetic images above the threshold.
        held_out_rate: fraction of the second half of the held-out images above the threshold: the rate without copying.
        excess: synthetic_rate - held_out_rate, by image; n is the smaller number of clusters.
        excess_by_patient: the same, with each patient or cluster counting once.
        pairs: (synthetic row, nearest training row, cosine) of every listed image, nearest first.
        patients_copied: number of training patients in `pairs`.

    Examples:
        >>> real = np.random.default_rng(0).normal(size=(40, 8))
        >>> sets, patients = (real[:20], real[20:], real[:5]), (range(20), range(20, 40))
        >>> medloom.metrics.copy_rates(*sets, *patients, seed=0).synthetic_rate
        1.0
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
    percentile: float = 99.9,
    level: float = 0.95,
) -> CopyReport:
    """The rate of copied training images, in excess of the rate among unseen images of other patients.

    Held-out patients are halved into V1 and V2. The threshold is a percentile of the nearest cosine of V1 to the
    training set. It applies to synthetic images and V2 alike, so that the excess is centred on 0 for a generator that
    copies no more than fresh real images would. Below 1000 images in V1 the 99.9th percentile is close to the maximum.
    Single images are listed by the percentile of V1 and V2 together, which lists fewer false copies.

    Intervals are those of `difference` for two of `proportion_interval`: they need no resampling, hold at rates of 0,
    and at several images per patient.

    Args:
        train: embeddings `(n, d)` of the training images, no row of zeros.
        held_out: embeddings `(v, d)` of images of patients outside the training set.
        synthetic: embeddings `(s, d)`.
        train_patients: patient of each training image.
        held_out_patients: patient of each held-out image.
        seed: of the halving.
        synthetic_clusters: prompt or source patient of each synthetic image; by default each is its own cluster.
        percentile: of the nearest cosine in V1.
        level: coverage of the intervals, in (0, 1).

    Raises:
        UserError: wrong shapes or lengths, a patient in both real sets, fewer than four held-out patients, or an
            embedding of length 0.

    Examples:
        >>> real = np.random.default_rng(0).normal(size=(40, 8))
        >>> sets, patients = (real[:20], real[20:], real[[3, 20]]), (range(20), range(20, 40))
        >>> report = medloom.metrics.copy_rates(*sets, *patients, seed=0)
        >>> [(row, nearest, round(cosine, 2)) for row, nearest, cosine in report.pairs]
        [(0, 3, 1.0)]
    """
    train, held_out, synthetic = (unit_rows(features) for features in check_features(train, held_out, synthetic))
    clusters = np.arange(len(synthetic)) if synthetic_clusters is None else np.asarray(synthetic_clusters)
    patients, others = np.asarray(train_patients), np.asarray(held_out_patients)
    shared, names = sorted(set(patients.tolist()) & set(others.tolist())), np.unique(others)
    if shared or len(names) < 4:
        raise UserError(
            f"held-out images of {len(names)} patients, {len(shared)} of them in the training set ({shared[:3]});"
            " give at least 4 held-out patients, none of them trained on."
        )
    first = np.isin(others, numpy_generator("copies", seed).permutation(names)[: len(names) // 2])
    if (len(patients), len(first), len(clusters)) != (len(train), len(held_out), len(synthetic)):
        raise UserError("patients or clusters do not match the embeddings; give one per row.")

    held_out_cosine, _ = nearest(held_out, train)
    cosine, index = nearest(synthetic, train)
    threshold = float(np.percentile(held_out_cosine[first], percentile))
    listed_above = float(np.percentile(held_out_cosine, percentile))
    copied, chance = cosine > threshold, held_out_cosine[~first] > threshold
    rows = sorted(np.flatnonzero(cosine > listed_above), key=lambda row: -cosine[row])
    by_cluster, by_patient = _mean_by_group(copied, clusters), _mean_by_group(chance, others[~first])

    def excess(hits: np.ndarray, units: np.ndarray, other_hits: np.ndarray, other_units: np.ndarray) -> Interval:
        ours = proportion_interval(hits, units, level=level)
        return difference(ours, proportion_interval(other_hits, other_units, level=level))

    return CopyReport(
        threshold=threshold,
        copied=copied,
        listed_above=listed_above,
        synthetic_rate=float(copied.mean()),
        held_out_rate=float(chance.mean()),
        excess=excess(copied, clusters, chance, others[~first]),
        excess_by_patient=excess(by_cluster, np.arange(len(by_cluster)), by_patient, np.arange(len(by_patient))),
        pairs=[(int(row), int(index[row]), float(cosine[row])) for row in rows],
        patients_copied=len(set(patients[index[rows]].tolist())),
    )


def authenticity(train: np.ndarray, synthetic: np.ndarray, train_patients: Groups) -> np.ndarray:
    """Whether each synthetic image is farther from its nearest training image than other patients' images are.

    After Alaa et al. (2022, section 3.3), but with other patients instead of other images, because two images of one
    patient may be closer than any synthetic one. Distances are between unit vectors. Compare the rate with that of
    held-out real images.

    Args:
        train: embeddings `(n, d)`.
        synthetic: embeddings `(s, d)`.
        train_patients: patient of each training image, at least two different ones.

    Returns:
        bool `(s,)`.

    Raises:
        UserError: wrong shapes or lengths, a single patient, or an embedding of length 0.

    Examples:
        >>> train, synthetic = np.eye(2), np.array([[1.0, 0.1], [-1.0, -1.0]])
        >>> medloom.metrics.authenticity(train, synthetic, train_patients=[0, 1])
        array([False,  True])
    """
    train, synthetic = (unit_rows(features) for features in check_features(train, synthetic))
    codes = np.unique(np.asarray(train_patients), return_inverse=True)[1]
    if len(codes) != len(train) or codes.max(initial=0) < 1:
        raise UserError(f"authenticity of {len(train)} training images; give a patient for each, at least two in all.")
    cosine, index = nearest(synthetic, train)
    used, inverse = np.unique(index, return_inverse=True)
    between = np.empty(len(used))
    (known,) = placed(len(used) * train.size, train)
    for start in range(0, len(used), CHUNK):
        rows = used[start : start + CHUNK]
        products = known[rows] @ known.T
        products[moved_like(codes[rows, None] == codes, products)] = -np.inf
        between[start : start + CHUNK], _ = row_maxima(products)
    return np.asarray(cosine < between[inverse])


def distance_ratio(train: np.ndarray, held_out: np.ndarray, synthetic: np.ndarray) -> float:
    """Median distance of synthetic images from their nearest training image, relative to that of held-out images.

    1 if synthetic images are as far from the training set as unseen real ones; 0 for copies. Distances are between unit
    vectors.

    Args:
        train: embeddings `(n, d)`.
        held_out: embeddings `(v, d)`.
        synthetic: embeddings `(s, d)`.

    Raises:
        UserError: as `authenticity`, or mostly copies among the held-out images.

    Examples:
        >>> train, held_out = np.eye(4)[:2], np.eye(4)[2:]
        >>> round(medloom.metrics.distance_ratio(train, held_out, synthetic=held_out), 2)
        1.0
        >>> round(medloom.metrics.distance_ratio(train, held_out, synthetic=train), 2)
        0.0
    """
    return ratio_of_medians(*(train_distances(train, x) for x in (synthetic, held_out)))


def train_distances(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance of each embedding `(k, d)`, as a unit vector, from the nearest training image: `(k,)`, 0 to 2."""
    train, x = (unit_rows(features) for features in check_features(train, x))
    return np.asarray(np.sqrt(np.maximum(2 - 2 * nearest(x, train)[0], 0)))


def ratio_of_medians(synthetic: np.ndarray, held_out: np.ndarray) -> float:
    """The ratio of `distance_ratio` from distances to the training set.

    Raises:
        UserError: mostly copies among the held-out images.
    """
    theirs = float(np.median(held_out))
    if not theirs > 0:
        raise UserError("half of the held-out images are copies of training images; they give no reference distance.")
    return float(np.median(synthetic)) / theirs


def nearest(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The greatest cosine of each query with a reference, and the reference's index: float64 and integer `(q,)`.

    Args:
        queries: `(q, d)`, rows of length 1.
        references: `(r, d)`, rows of length 1.
    """
    cosine, index = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    (known,) = placed(len(queries) * references.size, references)
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        cosine[rows], index[rows] = row_maxima(moved_like(queries[rows], known) @ known.T)
    return cosine, index


def _mean_by_group(hits: np.ndarray, groups: Sequence[object] | np.ndarray) -> np.ndarray:
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(codes, hits) / np.bincount(codes)
