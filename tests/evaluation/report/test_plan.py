"""A plan: what it has to state, how it is answered, and what the report says with one and without."""

import hashlib
import json
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.evaluation.report.metrics import Metric, Reference, Verdict
from medloom.evaluation.report.openings import Openings
from medloom.evaluation.report.plan import Plan, joint_answer, read_plan
from medloom.evaluation.report.report import Report, page

KNOWN = ("recall", "coverage", "recognition")
STATED = "reason: a fifth is what two readers differ by, n: 40, power: 80 % for a loss of a tenth"


def metric(name: str, value: float, low: float | None, high: float | None, n: int = 40, **given: str) -> Metric:
    return Metric(name, given.pop("subset", "all"), value, low, high, n, "patients", Reference("real", 0.5), **given)  # type: ignore[arg-type]


METRICS = [
    metric("recall", 0.9, 0.85, 0.95, extractor="local"),
    metric("recall", 0.4, 0.3, 0.5, extractor="pixels"),
    metric("recall", 0.9, 0.85, 0.95, extractor="local", subset="CT"),
    metric("coverage", 0.7, 0.6, 0.8, n=25),
]


def plan_of(folder: Path, text: str) -> Plan:
    (folder / "plan.yaml").write_text(text, encoding="utf-8")
    plan = read_plan(folder / "plan.yaml", KNOWN)
    assert plan is not None
    return plan


def test_a_plan_is_hashed_and_answered_like_a_gate(tmp_path: Path) -> None:
    text = f"- {{metric: recall, features: local, lower_at_least: 0.8, {STATED}}}\n"
    text += f"- {{metric: coverage, lower_at_least: 0.65, {STATED}}}\n"
    text += f"- {{metric: recognition, value_at_least: 1, {STATED}}}"
    plan = plan_of(tmp_path, text)
    assert plan.hash == hashlib.sha256((tmp_path / "plan.yaml").read_bytes()).hexdigest()[:16]
    assert plan.text == text and plan.file == "plan.yaml" and plan.hashed.endswith("Z")
    recall, coverage, recognition = plan.judge(METRICS, {"recognition": "images have no class"})
    assert (recall.answer, recall.planned, recall.observed, recall.note) == ("holds", 40, 40, "")
    assert recall.measured == ("recall", "all", "local")
    assert coverage.answer == "inconclusive" and "it needs n >=" in coverage.line
    assert coverage.note == "smaller than planned: 25 patients instead of 40"
    assert recognition.line == "NOT SHOWN: recognition was not measured: images have no class"
    assert recognition.observed is None and recognition.note == "" and recognition.measured == ()
    assert joint_answer([recall]) == "holds" and joint_answer([recall, coverage]) == "inconclusive"


def test_all_bounds_of_a_plan_have_to_hold(tmp_path: Path) -> None:
    answers = plan_of(tmp_path, f"- {{metric: recall, lower_at_least: 0.8, {STATED}}}").judge(METRICS, {})
    assert [answer.answer for answer in answers] == ["holds", "fails"]
    assert joint_answer(answers) == "fails"


def test_a_subset_that_was_not_measured_ends_no_evaluation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"- {{metric: recall, of: MR, features: local, value_at_least: 0.8, {STATED}}}")
    (answer,) = plan.judge(METRICS, {})
    assert answer.line.startswith("NOT SHOWN: recall was not measured of 'MR' by local: it was measured only as")
    assert answer.answer == "inconclusive"


def test_primary_and_exploratory_stand_in_report_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path, f"- {{metric: coverage, lower_at_least: 0.5, {STATED}}}  # <my plan>\n")
    report = Report()
    report.add("fidelity", METRICS)
    report.follow(plan, Openings(3, 2, "The plan was changed.", hashed="2026-01-02T03:04:05Z"), {})
    html = page("edits.html", report=report, paired=False, unit="HU", known={}, picture="")
    assert html.count("<strong>primary</strong>") == 1 and html.count('<span class="soft">exploratory</span>') == 3
    assert "&lt;my plan&gt;" in html and plan.hash in html and "2026-01-02T03:04:05Z" in html
    assert "smaller than planned: 25 patients instead of 40" in html and "No plan was given" not in html
    assert html.index("The plan as a whole") < html.index("<h2>Metrics</h2>")
    report.write(tmp_path, html)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [entry["exploratory"] for entry in scores["metrics"]] == [True, True, True, False]
    assert scores["plan"]["text"] == plan.text and scores["plan"]["answer"] == "holds"
    assert scores["plan"]["hashed"] == "2026-01-02T03:04:05Z" and scores["plan"]["metrics"][0]["planned"] == 40
    assert scores["openings"] == {"count": 3, "plans": 2, "note": "The plan was changed.", "lack": ""}
    printed = capsys.readouterr().err
    assert "plan: PASS: coverage of all" in printed and "opened 3 times; with 2 different plans." in printed


def test_without_a_plan_everything_is_exploratory_and_that_is_said_once(tmp_path: Path) -> None:
    report = Report()
    report.add("edits", METRICS, verdicts=[Verdict.of(METRICS[3], at_least=0.5)])
    report.follow(None, None, {})
    html = page("edits.html", report=report, paired=False, unit="HU", known={}, picture="")
    assert html.count("exploratory") == 1 and "No plan was given" in html
    report.write(tmp_path, html)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["plan"] is None and scores["openings"] is None
    assert all(entry["exploratory"] for entry in scores["metrics"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {metric: recall, value_at_least: 1, n: 9, power: all}", "rule 1: it has no reason; give reason: TEXT, why"),
        (
            "- {metric: recall, value_at_least: 1, n: 9, reason: why}",
            "rule 1: it has no power; give power: TEXT",
        ),
        ("- {metric: recall, value_at_least: 1, reason: ' ', n: 9, power: all}", "rule 1: it has no reason"),
        ("- {metric: recall, value_at_least: 1, reason: why, power: all}", "n is None; give the planned sample size"),
        ("- {metric: recall, value_at_least: 1, reason: why, n: 0, power: all}", "n is 0; give the planned"),
        ("- {metric: recall, value_at_least: 1, reason: why, n: yes, power: all}", "n is True; give the planned"),
        ("- {metric: recall, value_at_least: .nan, reason: why, n: 9, power: all}", "value_at_least is nan; give a"),
        ("- {metric: recal, value_at_least: 1}", "--plan {path}, rule 1: metric 'recal', did you mean 'recall'"),
        ("- {metric: recall, resaon: why, value_at_least: 1}", "key 'resaon', did you mean 'reason'"),
        ("- {metric: recall, reason: why, n: 9, power: all}", "rule 1: it has no bound"),
        ("metric: recall", "--plan {path}: give a list of rules, each with a metric and a bound."),
        ("- [", "--plan {path} is no YAML: while parsing a flow node"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_of(tmp_path, text)
    assert message.replace("{path}", str(tmp_path / "plan.yaml")) in str(caught.value)


def test_a_plan_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--plan .*none\.yaml: no such file; give a YAML file of rules\."):
        read_plan(tmp_path / "none.yaml", KNOWN)
    assert read_plan(None, KNOWN) is None


def test_a_gate_does_not_know_the_keys_of_a_plan(tmp_path: Path) -> None:
    from medloom.evaluation.report.gate import read_gate

    (tmp_path / "gate.yaml").write_text("- {metric: recall, value_at_least: 1, reason: why}")
    with pytest.raises(UserError, match="unknown .*key 'reason'"):
        read_gate(tmp_path / "gate.yaml", KNOWN)
