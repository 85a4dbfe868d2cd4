"""The gate: what is kept, what is not, and files that cannot be a gate."""

from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.evaluation.report.gate import failures, read_gate
from medloom.evaluation.report.metrics import Metric, Reference

KNOWN = ("Frechet distance", "recall", "excess of copies", "recognition")


def metric(name: str, value: float, low: float | None, high: float | None, **told: str) -> Metric:
    given = {"subset": "all", "n": 9, "counted": "images", **told}
    return Metric(name=name, value=value, low=low, high=high, reference=Reference("real", 0.5), **given)


METRICS = [
    metric("Frechet distance", 3.0, 2.0, 4.0, extractor="local"),
    metric("Frechet distance", 9.0, 8.0, 10.0, extractor="classifier"),
    metric("recall", 0.4, 0.3, 0.5, extractor="local"),
    metric("recall", 0.2, 0.1, 0.3, extractor="local", subset="CT"),
    metric("recognition", 0.9, None, None),
]


def judged(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "gate.yaml").write_text(text)
    return failures(read_gate(tmp_path / "gate.yaml", KNOWN), METRICS)


def test_what_is_kept_and_what_is_not(tmp_path: Path) -> None:
    assert judged(tmp_path, "- {metric: recall, features: local, value_at_least: 0.4, upper_at_most: 0.5}") == []
    found = judged(tmp_path, "- {metric: Frechet distance, value_at_most: 5}\n- {metric: recall, lower_at_least: 0.35}")
    assert found == [
        "FAIL: Frechet distance of all by classifier 9 [8, 10], reference 0.5, required: value at most 5",
        "FAIL: recall of all by local 0.4 [0.3, 0.5], reference 0.5, required: lower end at least 0.35",
    ]
    assert judged(tmp_path, "- {metric: recall, of: CT, value_at_least: 0.3}") == [
        "FAIL: recall of CT by local 0.2 [0.1, 0.3], reference 0.5, required: value at least 0.3"
    ]
    assert judged(tmp_path, "- {metric: recall, times_reference_at_least: 0.9}") == [
        "FAIL: recall of all by local 0.4 [0.3, 0.5], reference 0.5, required: value over reference at least 0.9"
    ]


def test_what_cannot_be_told_is_not_kept(tmp_path: Path) -> None:
    assert judged(tmp_path, "- {metric: recognition, lower_at_least: 0.1}") == [
        "FAIL: recognition of all 0.9, reference 0.5, required: lower end at least 0.1"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {metric: Frechet distanc, value_at_most: 1}", "rule 1: metric 'Frechet distanc', did you mean 'Frechet"),
        ("- {metric: recall, value_at_mst: 1}", "rule 1: key 'value_at_mst', did you mean 'value_at_most'"),
        ("- {metric: recall}", "rule 1: it has no bound"),
        ("- {metric: recall, value_at_least: much}", "value_at_least is 'much'; give a number"),
        ("- {value_at_least: 1}", "rule 1: it names no metric"),
        ("metric: recall", "give a list of rules"),
        ("- {metric: excess of copies, upper_at_most: 0.01}", "'excess of copies' was not measured"),
        (
            "- {metric: recall, of: MR, value_at_least: 0}",
            "not measured of 'MR' by any extractor. Measured: recall of CT",
        ),
        ("- [", "cannot be read"),
    ],
)
def test_files_that_are_no_gate(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        judged(tmp_path, text)
    assert message in str(caught.value)
