"""Areas under the ROC curve: intervals that cover near 1, with few positives and several images per patient."""

import numpy as np
import pytest
from scipy.stats import norm

from medloom.core.errors import UserError
from medloom.metrics.areas import auroc_difference, auroc_interval
from medloom.metrics.classification import auroc
from medloom.metrics.uncertainty import Interval

REPETITIONS = 300
LEAST = 0.91


def drawn(
    trial: int, positives: int, negatives: int, truth: float, images: int = 1, wider: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients; scores of one patient correlate by a half, those of positives may be wider."""
    random = np.random.default_rng([5, trial])
    labels, scores, patients = [], [], []
    for label, count, first in ((1, positives, 0), (0, negatives, positives)):
        of = np.arange(count).repeat(random.integers(1, images + 1, count))
        own = (random.standard_normal(count)[of] + random.standard_normal(len(of))) / 2**0.5
        spread = wider if label else 1.0
        shift = norm.ppf(truth) * np.hypot(wider, 1) * label
        labels.append(np.full(len(of), label))
        scores.append(shift + spread * own)
        patients.append(first + of)
    return np.concatenate(labels), np.concatenate(scores), np.concatenate(patients)


def covered(truth: float, *given: float, **more: float) -> float:
    found = [auroc_interval(*drawn(trial, *given, truth, **more)) for trial in range(REPETITIONS)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.5, 0.76, 0.95, 0.99])
@pytest.mark.parametrize("positives", [5, 10, 30])
def test_areas_cover(truth: float, positives: int) -> None:
    assert covered(truth, positives, 100) >= LEAST
    assert covered(truth, positives, 60, images=5) >= LEAST


def test_patients_with_images_of_both_classes_are_covered() -> None:
    covered, truth = 0, 0.9
    for trial in range(REPETITIONS):
        random = np.random.default_rng([7, trial])
        patients, labels = np.arange(30).repeat(4), (random.random(120) < 0.2).astype(int)
        own = (random.standard_normal(30)[patients] + random.standard_normal(120)) / 2**0.5
        found = auroc_interval(labels, own + labels * 2**0.5 * norm.ppf(truth), patients)
        covered += found.low <= truth <= found.high
    assert covered >= LEAST * REPETITIONS


def test_scores_that_are_not_exponential_are_covered() -> None:
    assert covered(0.9, 40, 200, wider=2.0) >= LEAST
    assert covered(0.9, 40, 40, wider=0.5) >= LEAST


def test_many_patients_have_the_interval_of_delong() -> None:
    labels, scores, patients = drawn(0, 400, 600, 0.8)
    found = auroc_interval(labels, scores, patients)
    above = np.array([(score > scores[labels == 0]).mean() for score in scores[labels == 1]])
    below = np.array([(score < scores[labels == 1]).mean() for score in scores[labels == 0]])
    error = (above.var(ddof=1) / 400 + below.var(ddof=1) / 600) ** 0.5
    assert found.value == pytest.approx(auroc(labels, scores)) and found.n == 1000
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_perfect_separation_has_a_width() -> None:
    labels = np.repeat([1, 0], 20)
    found = auroc_interval(labels, labels * 10.0 + np.arange(40) / 40, np.arange(40))
    assert found.value == found.high == 1 and 0.8 < found.low < 0.95
    wrong = auroc_interval(1 - labels, labels * 10.0 + np.arange(40) / 40, np.arange(40))
    assert (wrong.value, wrong.low, wrong.high) == pytest.approx((0, 0, 1 - found.low))
    fewer = auroc_interval(labels, labels * 10.0 + np.arange(40) / 40, np.arange(40) // 4)
    assert fewer.low < found.low, "ten patients know less than forty"


def test_repeated_images_are_no_more_patients() -> None:
    labels, scores, patients = drawn(1, 12, 20, 0.8)
    once = auroc_interval(labels, scores, patients)
    often = auroc_interval(labels.repeat(4), scores.repeat(4), patients.repeat(4))
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), abs=0.01)


def test_two_classes_have_one_area() -> None:
    labels, scores, patients = drawn(2, 30, 40, 0.7)
    one = auroc_interval(labels, scores, patients)
    both = auroc_interval(np.stack([labels, 1 - labels], 1), np.stack([scores, -scores], 1), patients)
    assert (both.value, both.low, both.high) == pytest.approx((one.value, one.low, one.high), abs=0.003)
    rows = labels.astype(float)
    rows[:3] = np.nan
    part = auroc_interval(rows, scores, patients)
    assert part.value == pytest.approx(auroc(labels[3:], scores[3:]))


def test_differences_cover() -> None:
    hits, truth = 0, norm.cdf(1.2 / 2**0.5) - norm.cdf(0.8 / 2**0.5)
    labels, patients = np.repeat([1, 0], 50), np.arange(100)
    widths = []
    for trial in range(REPETITIONS):
        random = np.random.default_rng([6, trial])
        shared = random.standard_normal(100)
        scores = [labels * shift + (2 * shared + random.standard_normal(100)) / 5**0.5 for shift in (1.2, 0.8)]
        found = auroc_difference((labels, labels), (scores[0], scores[1]), patients)
        hits += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert hits >= LEAST * REPETITIONS
    apart = [auroc_interval(labels, own, patients) for own in scores]
    assert np.mean(widths) < 0.75 * np.hypot(*(own.high - own.low for own in apart)), "the images are the same"


def test_mistakes_with_areas_are_named() -> None:
    with pytest.raises(UserError, match=r"AUROC of labels \[1.0\]"):
        auroc_interval(np.ones(4), np.arange(4), range(4))
    with pytest.raises(UserError, match="a patient per row"):
        auroc_interval(np.array([0, 1]), np.arange(2), range(3))
    with pytest.raises(UserError, match="1 scores that are not finite"):
        auroc_interval(np.array([0, 1]), np.array([0, np.inf]), range(2))
    with pytest.raises(UserError, match="level 2"):
        auroc_interval(np.array([0, 1]), np.arange(2), range(2), level=2)
    assert isinstance(auroc_interval(np.array([0, 1]), np.arange(2), range(2)), Interval)
