"""The gate: what is met, what is not, what is not shown, and files that cannot be a gate."""

from dataclasses import replace
from pathlib import Path

import pytest

from medloom.core.errors import GateError, UserError
from medloom.evaluation.report.gate import (
    GateRule,
    Judgement,
    check_allowed,
    enforce,
    judgements,
    of_verdicts,
    read_gate,
)
from medloom.evaluation.report.metrics import LOWER, Metric, Reference, Verdict
from medloom.metrics.uncertainty import Interval

KNOWN = ("Frechet distance", "recall", "kernel distance", "excess of copies", "recognition")


def metric(name: str, value: float, low: float | None, high: float | None, **given: object) -> Metric:
    chosen = {"subset": "all", "n": 9, "counted": "images", "reference": Reference("real", 0.5), **given}
    return Metric(name=name, value=value, low=low, high=high, **chosen)


METRICS = [
    metric("Frechet distance", 3.0, 2.0, 4.0, extractor="local"),
    metric("Frechet distance", 9.0, 8.0, 10.0, extractor="classifier"),
    metric("recall", 0.4, 0.3, 0.5, extractor="local"),
    metric("recall", 0.2, 0.1, 0.3, extractor="local", subset="CT"),
    metric("recognition", 0.9, None, None),
]


def judged(
    tmp_path: Path, text: str, metrics: list[Metric] = METRICS, reasons: dict[str, str] | None = None
) -> list[str]:
    (tmp_path / "gate.yaml").write_text(text)
    rules = read_gate(tmp_path / "gate.yaml", KNOWN, signed=("kernel distance", "excess of copies"))
    return [found.line for found in judgements(rules, metrics, reasons) if found.answer != "holds"]


def test_what_is_met_and_what_is_not(tmp_path: Path) -> None:
    assert judged(tmp_path, "- {metric: recall, features: local, value_at_least: 0.4, upper_at_most: 0.5}") == []
    assert judged(tmp_path, "- {metric: Frechet distance, value_at_most: 5}") == [
        "FAIL: Frechet distance of all by classifier 9 [8, 10], reference 0.5, required: value at most 5",
    ]
    assert judged(tmp_path, "- {metric: recall, of: CT, value_at_least: 0.3}") == [
        "FAIL: recall of CT by local 0.2 [0.1, 0.3], reference 0.5, required: value at least 0.3"
    ]
    assert judged(tmp_path, "- {metric: recall, times_reference_at_least: 0.9}") == [
        "FAIL: recall of all by local 0.4 [0.3, 0.5], reference 0.5, required: value over reference at least 0.9"
    ]
    assert judged(tmp_path, "- {metric: recall, lower_at_most: 0.3, upper_at_least: 0.5}") == []
    # 0.4 [0.3, 0.5] reaches down to 0.269 with 99 %.
    assert judged(tmp_path, "- {metric: recall, lower_99_at_most: 0.27}") == []
    (line,) = judged(tmp_path, "- {metric: recall, lower_99_at_most: 0.26}")
    assert line.startswith("FAIL") and "required: lower end of the 99 % interval at most 0.26" in line


def test_an_interval_that_reaches_over_the_bound_is_not_shown_and_says_what_it_needs(tmp_path: Path) -> None:
    # The lower end is 0.1 away and may be 0.05: four times as many are needed.
    assert judged(tmp_path, "- {metric: recall, lower_at_least: 0.35}") == [
        "NOT SHOWN: recall of all by local 0.4 [0.3, 0.5], reference 0.5, required: lower end at least 0.35; it needs"
        " n >= 36, n is 9 images"
    ]
    (line,) = judged(tmp_path, "- {metric: recall, lower_at_least: 0.45}")
    assert line.startswith("NOT SHOWN") and "the value is beyond the limit" in line
    (line,) = judged(tmp_path, "- {metric: recall, lower_at_least: 0.6}")
    assert line.startswith("FAIL")
    (line,) = judged(tmp_path, "- {metric: recognition, lower_at_least: 0.1}")
    assert line.startswith("NOT SHOWN") and line.endswith("it has no interval")


def test_what_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    assert judged(
        tmp_path, "- {metric: excess of copies, upper_at_most: 0.01}", reasons={"excess of copies": "why"}
    ) == ["NOT SHOWN: excess of copies was not measured: why"]


def test_a_ratio_needs_a_positive_reference(tmp_path: Path) -> None:
    for name in ("kernel distance", "excess of copies"):
        with pytest.raises(UserError, match="a ratio to it says nothing; use beyond_reference_at_most"):
            judged(tmp_path, f"- {{metric: {name}, times_reference_at_most: 3}}")
    reaches = metric("recall", 39.0, 38.0, 40.0, reference=Reference("real", 0.1, -0.001, 0.2, 9))
    (line,) = judged(tmp_path, "- {metric: recall, times_reference_at_most: 500}", [reaches])
    assert line.startswith("NOT SHOWN") and line.endswith("a ratio to it says nothing")


def test_a_bound_on_what_is_beyond_the_reference_uses_its_own_interval(tmp_path: Path) -> None:
    apart = metric("recall", 0.7, 0.6, 0.8, reference=Reference("real", 0.5, 0.4, 0.6, 9))
    rule = "- {metric: recall, beyond_reference_at_most: 0.3}"
    # 0.2 and hypot(0.1, 0.1) from two intervals; the paired interval is narrower.
    (line,) = judged(tmp_path, rule, [apart])
    assert line.startswith("NOT SHOWN")
    assert judged(tmp_path, rule, [replace(apart, beyond=Interval(0.2, 0.15, 0.25, 9))]) == []


def test_a_rule_that_a_set_made_without_a_model_meets_shows_nothing(tmp_path: Path) -> None:
    weak = metric("Frechet distance", 3.0, 2.0, 4.0, better=LOWER, control=4.5)
    (line,) = judged(tmp_path, "- {metric: Frechet distance, value_at_most: 5}", [weak])
    assert line.startswith("NOT SHOWN") and line.endswith("a set made without a model meets it too (4.5)")
    assert judged(tmp_path, "- {metric: Frechet distance, value_at_most: 4}", [weak]) == []
    # Both bounds of an entry are one rule: such a set misses one of them.
    assert judged(tmp_path, "- {metric: Frechet distance, value_at_least: 1, value_at_most: 4}", [weak]) == []
    # A failure stays one.
    (line,) = judged(tmp_path, "- {metric: Frechet distance, value_at_most: 2}", [replace(weak, control=1.0)])
    assert line.startswith("FAIL")


def test_each_control_that_meets_a_rule_is_named(tmp_path: Path) -> None:
    rule = "- {metric: Frechet distance, value_at_most: 5}"
    weak = metric("Frechet distance", 3.0, 2.0, 4.0, better=LOWER, control=9.0)
    assert judged(tmp_path, rule, [replace(weak, control_set=8.0)]) == []
    (line,) = judged(tmp_path, rule, [replace(weak, control_set=4.5)])
    assert line.startswith("NOT SHOWN") and line.endswith("; the control set meets it too (4.5)")
    (line,) = judged(tmp_path, rule, [replace(weak, control=4.0, control_set=4.5)])
    assert line.endswith("; a set made without a model and the control set meet it too (4, 4.5)")
    blind = replace(weak, reference=Reference("real", 5.0, 4.0, 6.0, 9), control_set=5.5)
    assert blind.reading == "cannot tell: the control set is within the reference too"
    assert blind.position is not None


def test_position_is_between_real_images_and_a_set_made_without_a_model(tmp_path: Path) -> None:
    known = metric("Frechet distance", 1.5, 1.0, 2.0, better=LOWER, control=2.5, beyond=Interval(1.0, 0.5, 1.5, 9))
    assert known.position == Interval(0.5, 0.25, 0.75, 9)
    assert judged(tmp_path, "- {metric: Frechet distance, position_at_most: 0.8}", [known]) == []
    (line,) = judged(tmp_path, "- {metric: Frechet distance, position_at_most: 0.8}", [replace(known, control=0.4)])
    assert line.startswith("NOT SHOWN") and "is not distinguished from real images" in line


def test_extractors_without_power_are_ignored_where_another_has_it() -> None:
    rule = GateRule("recall", None, "all", "value_at_least", 0.3, any_power=True)
    able = metric("recall", 0.4, 0.3, 0.5, extractor="local", better="higher", control=0.1)
    blind = metric("recall", 0.4, 0.3, 0.5, extractor="classifier", better="higher", control=0.5)
    assert [found.answer for found in rule.judge([able, blind], {})] == ["holds"]
    assert [found.answer for found in rule.judge([blind], {})] == ["inconclusive"]


def test_a_proof_that_is_not_met_shows_nothing() -> None:
    (found,) = GateRule("recall", "local", "all", "value_at_least", 0.9, proof=True).judge(METRICS, {})
    assert found.answer == "inconclusive" and "would not be found on these data" in found.line


def test_a_verdict_can_be_required(tmp_path: Path) -> None:
    text = "- {metric: recall, features: local, verdict: holds}"
    assert judged(tmp_path, text, [replace(METRICS[2], verdict="holds")]) == []
    for verdict, start in (("fails", "FAIL"), ("inconclusive", "NOT SHOWN"), ("", "NOT SHOWN")):
        (line,) = judged(tmp_path, text, [replace(METRICS[2], verdict=verdict)])
        assert line.startswith(f"{start}: recall of all by local") and "required: its verdict holds" in line


def test_release_needs_every_verdict_and_one_at_least() -> None:
    known = metric("slope", 1.0, 0.9, 1.1)
    lines = [found.line for found in of_verdicts([Verdict.of(known, 0.8, 1.2), Verdict.of(known, 1.5)], "give --truth")]
    assert lines == [
        "PASS: all, slope 1 [0.9, 1.1], required: 0.8 to 1.2",
        "FAIL: all, slope 1 [0.9, 1.1], required: at least 1.5",
    ]
    (none,) = of_verdicts([], "give --truth")
    assert none.line == "NOT SHOWN: there is no verdict: give --truth" and none.answer == "inconclusive"


def test_enforcing(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("g.yaml")
    good, bad, open_ = (Judgement(answer, "recall", f"line {answer}") for answer in ("holds", "fails", "inconclusive"))
    enforce(path, [good])
    assert "PASS: 1 of 1 rules of --gate g.yaml are met." in capsys.readouterr().err
    with pytest.raises(GateError, match=r"2 of 3 rules are not met\.\nline fails\.\nline inconclusive\."):
        enforce(path, [good, bad, open_])
    enforce(path, [good, open_], ["recall"])
    assert "1 of 2 rules of --gate g.yaml are met; 1 are not shown and were allowed" in capsys.readouterr().err
    with pytest.raises(GateError, match="1 of 1 rules are not met"):
        enforce(path, [bad], ["recall"])


def test_allowed_metrics_are_known_and_need_a_gate() -> None:
    with pytest.raises(UserError, match="'recal', did you mean 'recall'"):
        check_allowed(["recal"], KNOWN, Path("g.yaml"))
    with pytest.raises(UserError, match="--allow-inconclusive is for a gate"):
        check_allowed(["recall"], KNOWN, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {metric: Frechet distanc, value_at_most: 1}", "rule 1: metric 'Frechet distanc', did you mean 'Frechet"),
        ("- {metric: recall, value_at_mst: 1}", "rule 1: key 'value_at_mst', did you mean 'value_at_most'"),
        ("- {metric: recall}", "rule 1: it has no bound"),
        ("- {metric: recall, value_at_least: much}", "value_at_least is 'much'; give a number"),
        ("- {metric: recall, verdict: fails}", "the only rule on a verdict is that it holds"),
        ("- {value_at_least: 1}", "rule 1: it names no metric"),
        ("metric: recall", "give a list of rules"),
        ("- [", "is no YAML: while parsing a flow node expected the node content"),
    ],
)
def test_files_that_are_no_gate(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        judged(tmp_path, text)
    assert message in str(caught.value)


def test_a_subset_that_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    (line,) = judged(tmp_path, "- {metric: recall, of: MR, value_at_least: 0}")
    assert line.startswith("NOT SHOWN: recall was not measured of 'MR': it was measured only as recall of CT")
