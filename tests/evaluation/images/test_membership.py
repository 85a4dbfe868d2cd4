"""Membership inference: a leak is told above its controls, and sets that differ by themselves are not taken for one."""

import numpy as np

from medloom.evaluation.images import membership
from medloom.evaluation.images.membership import membership_metrics
from medloom.evaluation.report.metrics import Metric

N = 200


def judged(leak: float = 0.0, difference: float = 0.0) -> tuple[dict[str, Metric], str]:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(N) + leak, rng.standard_normal(N)
    pixels = rng.standard_normal((N, 24)) + difference, rng.standard_normal((N, 24))
    patients = [f"a{n}" for n in range(N)], [f"b{n}" for n in range(N)]
    metrics, notes = membership_metrics(*scores, patients, pixels, 0, "by loss")
    return {metric.name: metric for metric in metrics}, notes[0]


def test_a_leak_stands_above_both_controls() -> None:
    metrics, note = judged(leak=1.0)
    attack = metrics[membership.ATTACK]
    assert attack.low is not None and attack.low > 0.7 and attack.reading.endswith("worse")
    for control in (membership.HALVES, membership.BLIND):
        low, high = metrics[control].low, metrics[control].high
        assert low is not None and high is not None and low < 0.5 < high
    assert metrics[membership.FOUND].value > 0.02
    assert "above both of its controls: the model leaks" in note


def test_nothing_is_told_of_a_model_that_does_not_leak() -> None:
    metrics, note = judged()
    attack = metrics[membership.ATTACK]
    assert attack.low is not None and attack.high is not None and attack.low < 0.5 < attack.high
    assert "not above its controls" in note


def test_no_control_for_membership_inference() -> None:
    """A published attack stood alone: sets that differ by themselves looked like a leak."""
    metrics, note = judged(leak=0.4, difference=0.5)
    blind = metrics[membership.BLIND]
    assert blind.low is not None and blind.low > 0.6
    assert "the sets differ by more than training" in note
