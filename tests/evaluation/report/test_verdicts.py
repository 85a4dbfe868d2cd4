"""Verdicts: one function judges an interval against a range, and a metric has one judgement."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medloom.evaluation.report.estimates import by_unit, estimate, estimate_mean, estimate_proportion, unit_of
from medloom.evaluation.report.metrics import (
    CANNOT_TELL,
    EQUAL,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    LOWER,
    OPPOSITE,
    WITHIN,
    Metric,
    Reference,
    Verdict,
    judge,
)
from medloom.evaluation.report.report import Report, page
from medloom.metrics.uncertainty import Interval


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most", "answer"),
    [
        (0.85, 1.1, 0.8, 1.2, HOLDS),
        (0.8, 1.2, 0.8, 1.2, HOLDS),
        (0.7, 1.1, 0.8, 1.2, INCONCLUSIVE),
        (0.7, 1.3, 0.8, 1.2, INCONCLUSIVE),
        (0.1, 0.79, 0.8, 1.2, FAILS),
        (1.21, 3.0, 0.8, 1.2, FAILS),
        (0.95, 0.99, 0.9, None, HOLDS),
        (0.85, 0.99, 0.9, None, INCONCLUSIVE),
        (0.5, 0.89, 0.9, None, FAILS),
        (0.0, 0.1, None, 0.1, HOLDS),
        (0.09, 0.11, None, 0.1, INCONCLUSIVE),
        (0.11, 0.2, None, 0.1, FAILS),
        (-5.0, 5.0, -1.0, 1.0, INCONCLUSIVE),
        (None, None, 0.8, 1.2, INCONCLUSIVE),
    ],
)
def test_the_whole_interval_counts(
    low: float | None, high: float | None, at_least: float | None, at_most: float | None, answer: str
) -> None:
    assert judge(low, high, at_least, at_most) == answer


def metric(value: float, low: float | None, high: float | None, reference: Reference, **more: object) -> Metric:
    return Metric("mean", "smoking", value, low, high, 40, "patients", reference, **more)  # type: ignore[arg-type]


IDEAL = Reference("nothing outside", 0.0)


def test_a_verdict_says_answer_value_interval_and_bound() -> None:
    straddling = Verdict.of(metric(0.101, 0.093, 0.112, IDEAL), at_most=0.1)
    assert str(straddling) == "INCONCLUSIVE: smoking, mean 0.101 [0.093, 0.112], required: at most 0.1"
    assert straddling.to_dict()["answer"] == INCONCLUSIVE
    few = Verdict.of(metric(1.0, None, None, IDEAL), 0.8, 1.2)
    assert str(few) == "INCONCLUSIVE: smoking, mean 1 (no interval: it needs 8 patients), required: 0.8 to 1.2"
    assert str(Verdict.of(metric(0.5, 0.4, 0.6, IDEAL), 0.9)).endswith("required: at least 0.9")


def test_a_metric_with_a_verdict_has_no_other_judgement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = metric(0.05, 0.04, 0.06, IDEAL, better=LOWER)
    assert judged.reading.endswith("worse") and judged.tone == "worse"
    report = Report()
    report.add("effects", [judged])
    report.add("effects", [], verdicts=[Verdict.of(judged, at_most=0.1)])
    assert report.metrics[0].reading == "verdict: holds" and report.metrics[0].tone == ""
    html = page("edits.html", report=report, paired=False, unit="HU", known={}, picture="")
    assert html.count("HOLDS</span>") == 1 and ": worse" not in html and 'class="worse"' not in html
    report.write(tmp_path, html)
    assert "HOLDS: smoking, mean 0.05 [0.04, 0.06], required: at most 0.1." in capsys.readouterr().err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["verdicts"][0]["answer"] == "holds" and "worse" not in scores["metrics"][0]["reading"]


def test_inconclusive_has_a_colour_of_its_own() -> None:
    report = Report()
    report.add("effects", [], verdicts=[Verdict.of(metric(0.1, 0.05, 0.15, IDEAL), at_most=0.1)])
    html = page("edits.html", report=report, paired=False, unit="HU", known={}, picture="")
    assert '<span class="inconclusive">INCONCLUSIVE</span>' in html and ".inconclusive {" in html


@pytest.mark.parametrize(
    ("value", "low", "high", "reference", "reading", "tone"),
    [
        # An observed difference whose interval includes zero agrees with everything.
        (-5.0, -7.0, -3.0, Reference("observed", 2.0, -20.0, 25.0, 12), CANNOT_TELL, ""),
        (2.0, 1.0, 3.0, Reference("observed", 2.0, 0.0, 25.0, 12), CANNOT_TELL, ""),
        (40.0, 35.0, 45.0, Reference("observed", 2.0, -20.0, 25.0, 12), "above the reference", ""),
        (-5.0, -7.0, -3.0, Reference("observed", 8.0, 2.0, 12.0, 12), OPPOSITE, "worse"),
        (5.0, 3.0, 7.0, Reference("observed", -8.0, -12.0, -2.0, 12), OPPOSITE, "worse"),
        (-0.5, -3.0, 2.0, Reference("observed", 8.0, 2.0, 12.0, 12), f"{OPPOSITE}, not certain", ""),
        (-0.5, None, None, Reference("observed", 8.0, 2.0, 12.0, 12), f"{OPPOSITE}, not certain", ""),
        (5.0, 3.0, 7.0, Reference("observed", 8.0, 2.0, 12.0, 12), WITHIN, "within"),
        (1.0, 0.5, 1.5, Reference("observed", 8.0, 2.0, 12.0, 12), "below the reference", ""),
        (-4.0, -5.0, -3.0, Reference("true effect", 6.0), OPPOSITE, "worse"),
        (0.2, 0.1, 0.3, Reference("true effect", 0.0), "above the reference", ""),
    ],
)
def test_signs_of_differences(
    value: float, low: float | None, high: float | None, reference: Reference, reading: str, tone: str
) -> None:
    found = metric(value, low, high, reference, signed=True)
    assert found.reading.startswith(reading) and found.tone == tone


def test_the_patient_is_the_unit_where_one_is_named() -> None:
    assert unit_of({"source_id": "s", "patient": "p"}) == "p"
    rows = {unit_of({"source_id": "s", **cells}) for cells in ({}, {"patient": ""}, {"patient": None})}
    assert rows == {unit_of({"source_id": "s", "patient": "nan"})} and rows != {"s"}
    values, units = by_unit(np.array([1.0, 3.0, 5.0]), ["b", "b", "a"])
    assert values.tolist() == [5.0, 2.0] and units.tolist() == ["a", "b"]


def test_eight_patients_have_an_interval_and_seven_have_none() -> None:
    values = np.arange(16.0)
    for count in (1, 2, 7):
        patients = np.arange(16) % count
        for few in (
            estimate_mean(values, patients, 0),
            estimate(lambda rows: float(values[rows].mean()), patients, 0),
            estimate_proportion(values > 3, patients),
        ):
            assert (few.low, few.high, few.n) == (None, None, count)
            assert few.lack == f"no interval: n is {count}, it needs 8 patients"
        assert estimate_mean(values, patients, 0).value == 7.5
    enough = estimate_mean(values, np.arange(16) % 8, 0)
    assert enough.low is not None and enough.high is not None and enough.low < 7.5 < enough.high and not enough.lack
    assert Metric.of(estimate_mean(values, patients, 0), name="m", reference=IDEAL, note="HU").note == (
        "HU; no interval: n is 7, it needs 8 patients"
    )


def test_a_control_is_compared_with_a_reference_of_one_number_as_far_as_the_metric_is_known() -> None:
    excess = Metric.of(
        Interval(0.01, -0.03, 0.05, 90),
        name="excess",
        reference=Reference("equal distributions", 0.0),
        better=EQUAL,
        beyond=Interval(0.01, -0.03, 0.05, 90),
    )
    for control, words in ((-0.02, "cannot tell: the control set is within the reference too"), (0.3, "within")):
        assert replace(excess, control_set=control).reading.startswith(words)
