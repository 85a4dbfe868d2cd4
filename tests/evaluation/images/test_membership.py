"""Membership inference: a leak is told above its controls, and sets that differ by themselves are not taken for one."""

from functools import cache

import numpy as np
import pytest

from medloom.evaluation.images import membership
from medloom.evaluation.images.membership import membership_metrics
from medloom.evaluation.report.metrics import Metric

N = 200
ONE_PERCENT, ONE_PER_MILLE = membership.FOUND


def judged(
    leak: float = 0.0, difference: float = 0.0, n: int = N, seed: int = 0, others: int | None = None
) -> tuple[dict[str, Metric], list[str]]:
    rng = np.random.default_rng(seed)
    count = others or n
    scores = rng.standard_normal(n) + leak, rng.standard_normal(count)
    pixels = rng.standard_normal((n, 24)) + difference, rng.standard_normal((count, 24))
    patients = [f"a{row}" for row in range(n)], [f"b{row}" for row in range(count)]
    metrics, notes = membership_metrics(*scores, patients, pixels, seed, "by loss")
    return {metric.name: metric for metric in metrics}, notes


def test_a_leak_stands_above_both_controls() -> None:
    metrics, notes = judged(leak=1.0)
    attack = metrics[membership.ATTACK]
    assert attack.low is not None and attack.low > 0.7 and attack.reading.endswith("worse")
    for control in (membership.HALVES, membership.BLIND):
        low, high = metrics[control].low, metrics[control].high
        assert low is not None and high is not None and low < 0.5 < high
    assert "above both of its controls, the model leaks" in notes[0]


def test_nothing_is_told_of_a_model_that_does_not_leak() -> None:
    metrics, notes = judged()
    attack = metrics[membership.ATTACK]
    assert attack.low is not None and attack.high is not None and attack.low < 0.5 < attack.high
    assert "not above its controls" in notes[0] and "with a probability of 80%" in notes[0]


def test_no_control_for_membership_inference() -> None:
    """A published attack stood alone: sets that differ by themselves looked like a leak."""
    metrics, notes = judged(leak=0.4, difference=0.5)
    blind = metrics[membership.BLIND]
    assert blind.low is not None and blind.low > 0.6
    assert "the sets differ by more than training" in notes[0]


@pytest.fixture
def quick_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few permutations of the blind attack, for tests of many runs."""
    monkeypatch.setattr(membership, "PERMUTATIONS", 8)


@pytest.mark.slow
def test_most_leaks_are_said_and_few_others(quick_blind: None) -> None:
    """An attack of AUC 0.66 with 100 patients a side: its note once denied what its value showed."""
    said = {leak: [judged(leak, n=100, seed=seed)[1][0] for seed in range(16)] for leak in (0.0, 0.585)}
    assert sum("the model leaks" in note for note in said[0.585]) > 8
    assert sum("the model leaks" in note for note in said[0.0]) <= 1
    # Nominal 5 % for both controls together: four of 16 come once in two hundred.
    assert sum("a control is above chance" in note for note in said[0.0]) <= 3


@cache
def metrics_of(leak: float) -> dict[str, Metric]:
    return judged(leak, n=1000)[0]


def test_members_found_are_compared_with_those_found_by_chance(quick_blind: None) -> None:
    nothing, leaking = metrics_of(0.0)[ONE_PERCENT], metrics_of(1.0)[ONE_PERCENT]
    # Of 1000 others 10 may exceed the threshold, so that 11 / 1001 of the members do by chance.
    assert nothing.reference.value == pytest.approx(11 / 1001)
    low, high = nothing.reference.low, nothing.reference.high
    assert low is not None and high is not None and low < 0.005 and 0.02 < high < 0.025
    assert nothing.reading == "within the reference" and leaking.reading.endswith("worse")
    assert ONE_PER_MILLE not in metrics_of(0.0)


def test_too_few_held_out_patients_for_a_threshold(quick_blind: None) -> None:
    metrics, notes = judged(n=120, others=90)
    assert ONE_PERCENT not in metrics
    assert "90 held-out patients" in notes[1] and f"{ONE_PERCENT} (1,000), {ONE_PER_MILLE} (10,000)" in notes[1]


@pytest.mark.slow
def test_the_blind_attack_covers_chance(quick_blind: None) -> None:
    """Each fold's classifier depends on the other fold: pairs alone say too little of the spread of areas."""
    found = [judged(n=60, seed=seed)[0][membership.BLIND] for seed in range(16)]
    ends = [(metric.low, metric.high) for metric in found]
    assert sum(low is not None and high is not None and low <= 0.5 <= high for low, high in ends) >= 13
