"""Fidelity and copies: equal sets are at their reference; shifted, collapsed and copied ones are not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.types import Condition, Sample
from medloom.evaluation.images import fidelity, privacy
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import Metric, Reference, number, proportion, sampled_units
from medloom.metrics.kernel import kernel_distance

D = 6


def clusters(n: int, seed: int, modes: tuple[int, ...] = (0, 1, 2, 3), shift: float = 0.0) -> FeatureSet:
    """Points around four corners; two points a unit, corners 0 and 1 of modality A."""
    rng = np.random.default_rng(seed)
    corner = rng.choice(modes, n)[np.arange(n) // 2]
    values = rng.normal(0, 1, (n, D)) + 12 * np.eye(D)[corner] + shift
    units = np.array([f"{seed}-{row // 2}" for row in range(n)])
    return FeatureSet(values.astype(np.float32), units, np.where(corner < 2, "A", "B"))


def metrics_of(synthetic: FeatureSet) -> dict[tuple[str, str], Metric]:
    metrics, notes = fidelity.fidelity_metrics("x", clusters(400, 0), synthetic, 0, verbose=False)
    assert not notes
    return {(metric.name, metric.subset): metric for metric in metrics}


@pytest.mark.slow
def test_equal_sets_are_at_their_reference() -> None:
    metrics = metrics_of(clusters(200, 1))
    assert set(metrics) == {
        (name, subset)
        for name in (fidelity.EXCESS, *fidelity.MEASURED, fidelity.FD_INFINITY)
        for subset in ("all", "A", "B")
    }
    for metric in metrics.values():
        assert not metric.reading.endswith("worse"), metric
        assert metric.low is not None and metric.high is not None and metric.low <= metric.value <= metric.high
    whole = metrics[fidelity.FD, "all"]
    assert whole.n == whole.reference.n == 200
    assert whole.value == pytest.approx(whole.reference.value, rel=0.5)
    endless = metrics[fidelity.FD_INFINITY, "all"]
    assert endless.low is not None and endless.low < 0.2 and endless.value < whole.value


@pytest.mark.slow
def test_the_kernel_distance_is_also_given_as_it_is_published() -> None:
    ours, real = clusters(200, 1, shift=2.0), clusters(400, 0)
    metrics = metrics_of(ours)
    published = kernel_distance(real.values, ours.values, 0)
    # Mean of other draws of the same sets: within a few deviations of a mean over 100 subsets.
    assert metrics[fidelity.KERNEL, "all"].value == pytest.approx(published.mean, abs=0.5 * published.std)
    mean, deviation = number(published.mean), number(published.std)
    said = f"mean {mean}, standard deviation {deviation} over 100 subsets of 100 images a side"
    assert said in metrics[fidelity.KERNEL, "all"].note and not metrics[fidelity.KERNEL, "A"].note


@pytest.mark.slow
def test_a_shift_is_seen_in_distance_and_precision() -> None:
    metrics = metrics_of(clusters(200, 1, shift=2.0))
    for name in (fidelity.FD, "precision", "density", "coverage"):
        assert metrics[name, "all"].reading.endswith("worse"), name
    # FD of two Gaussians of one covariance is the squared distance of their means.
    assert metrics[fidelity.FD_INFINITY, "all"].value == pytest.approx(4 * D, rel=0.15)


@pytest.mark.slow
def test_a_dropped_mode_loses_coverage_and_recall_and_not_precision() -> None:
    metrics = metrics_of(clusters(200, 1, modes=(0, 1, 2)))
    assert metrics["coverage", "all"].value == pytest.approx(0.75, abs=0.08)
    assert metrics["recall", "all"].reading.endswith("worse") and metrics["coverage", "all"].reading.endswith("worse")
    assert not metrics["precision", "all"].reading.endswith("worse")
    assert not metrics["coverage", "A"].reading.endswith("worse")
    assert metrics["coverage", "B"].reading.endswith("worse")


def test_more_dimensions_than_images_change_nothing() -> None:
    real, synthetic = clusters(60, 0), clusters(40, 1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(300, D)))[0].T
    wide = [FeatureSet(part.values @ turn, part.units, part.groups) for part in (real, synthetic)]
    narrow, _ = fidelity.fidelity_metrics("x", real, synthetic, 0, verbose=False)
    for one, other in zip(narrow, fidelity.fidelity_metrics("x", *wide, 0, verbose=False)[0], strict=True):
        # The kernel is scaled by the number of dimensions.
        if one.name != fidelity.KERNEL:
            assert one.value == pytest.approx(other.value, abs=1e-4), one.name


def test_too_few_images_are_refused_and_a_small_modality_is_noted() -> None:
    with pytest.raises(UserError, match="there are 19 synthetic images and it needs 20"):
        fidelity.fidelity_metrics("x", clusters(400, 0), clusters(19, 1), 0, verbose=False)
    with pytest.raises(UserError, match="30 held-out real images and it needs 40"):
        fidelity.fidelity_metrics("x", clusters(30, 0), clusters(40, 1), 0, verbose=False)
    small = clusters(60, 1, modes=(0, 1, 2, 0, 1))
    metrics, notes = fidelity.fidelity_metrics("x", clusters(400, 0), small, 0, verbose=False)
    assert {metric.subset for metric in metrics} == {"all", "A"}
    assert len(notes) == 1 and notes[0].startswith("B: fidelity was not measured")


def members(name: str, features: FeatureSet) -> ImageSet:
    samples = [Sample(Path(f"{name}-{row}.png"), Condition(), "p", row, row + 2) for row in range(len(features.values))]
    return ImageSet(name, samples, tuple(features.units), "patients", (None,) * len(samples))


def test_distances_to_training_images_need_held_out_patients_and_synthetic_images() -> None:
    few, many = (members("real", clusters(count, 1)) for count in (20, 40))
    synthetic, train = members("synthetic", clusters(4, 2)), members("train", clusters(20, 3))

    def lack(real: ImageSet, synthetic: ImageSet, train: ImageSet) -> str | None:
        return privacy.lacking(SimpleNamespace(real=real, synthetic=synthetic, train=train))

    assert lack(few, synthetic, train) == "there are 10 held-out patients in --real and it needs 20"
    assert lack(many, synthetic.rows([0, 1, 2]), train) == "there are 3 synthetic images and it needs 4"
    assert lack(many, synthetic, train.rows([0])) == "there are 1 training patients and it needs 2"
    assert lack(many, synthetic, train) is None


def test_rates_have_width_at_their_ends() -> None:
    whole = proportion(np.ones(20), np.arange(20))
    # Between Clopper and Pearson's 0.832 and Jeffreys' 0.883.
    assert (whole.value, whole.high, whole.n) == (1.0, 1.0, 20) and whole.low == pytest.approx(0.856, abs=1e-3)
    mixed = proportion(np.array([0, 1] * 20), np.arange(40))
    assert mixed.low < 0.5 < mixed.high and mixed.high - mixed.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.15)


def test_few_prompts_are_a_fixed_list() -> None:
    assert sampled_units(["a", "b"] * 20).tolist() == list(range(40))
    assert len(set(sampled_units([str(row // 2) for row in range(80)]))) == 40


@pytest.mark.parametrize(
    ("value", "low", "high", "reading"),
    [
        (0.5, 0.4, 0.6, "within the reference"),
        (0.9, 0.85, 0.95, "above the reference: worse"),
        (0.1, 0.05, 0.15, "below the reference"),
        (0.75, 0.65, 0.85, "above the reference, which the interval reaches"),
    ],
)
def test_readings(value: float, low: float, high: float, reading: str) -> None:
    reference = Reference("real", 0.5, 0.3, 0.7, 10)
    assert Metric("m", "all", value, low, high, 10, "images", reference, "lower").reading == reading
