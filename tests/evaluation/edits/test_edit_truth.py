"""Findings in edits compared with the truth, by hand: what is judged, by whom, and what does not distort it."""

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.evaluation.edits.measure import Edits
from medloom.evaluation.edits.truth import (
    FRACTION,
    GROWS,
    IDENTITY,
    RESOLVES,
    RIGHT,
    SHRINKS,
    FindingChange,
    Truth,
    truth_metrics,
)
from medloom.evaluation.report.metrics import Metric, Verdict
from medloom.phantom.truth import Cohort
from medloom.recipes.commands import run_command

SPEC = ImageSpec((64, 64), 1, "pad", {"CT": Intensity("window", HU, -1024, 476)})
NOISE = 0.1


def change(
    patient: int, made: float, true: float, finding: str = "effusion", becomes: str = SHRINKS, other: float = 0.0
) -> FindingChange:
    """An edit that makes some of the true change, both in the measured unit."""
    return FindingChange(f"p{patient}", finding, becomes, true, (true, 0.0), (made, other))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("truth") / "cohort"
    return Cohort(run_command("data phantom", out=folder, patients=8, size=16, workers=1))


def judged(cohort: Cohort, rows: list[FindingChange]) -> tuple[dict[str, Metric], dict[str, Verdict], list[str]]:
    """Fractions and verdicts on them by what they are of, and the notes."""
    patients = [row.patient for row in rows]
    stayed = {name: [0.0] * len(rows) for name in IDENTITY}
    noise = np.full(20, NOISE)
    retests = {**dict.fromkeys(IDENTITY, noise), "fluid": noise, "lesion": noise}
    truth = Truth(cohort, SPEC, patients, stayed, rows)
    metrics, verdicts, notes = truth_metrics(truth, Edits(SPEC, HU), retests, seed=0)
    values = {metric.subset: metric for metric in metrics if metric.name == FRACTION}
    return values, {verdict.attribute: verdict for verdict in verdicts if verdict.metric == FRACTION}, notes


def test_the_whole_interval_of_each_finding_is_judged(cohort: Cohort) -> None:
    rng = np.random.default_rng(0)
    rows = [change(number, -1 + 0.1 * rng.normal(), -1.0) for number in range(12)]
    rows += [change(20 + number, -0.1 + 0.1 * rng.normal(), -1.0, "pneumonia") for number in range(12)]
    rows += [change(40 + number, (0.3, 1.9)[number % 2], 1.0, "nodule", GROWS) for number in range(12)]
    values, verdicts, notes = judged(cohort, rows)
    assert {name: verdict.answer for name, verdict in verdicts.items()} == {
        "effusion": "holds",
        "pneumonia": "fails",
        "nodule": "inconclusive",
    }
    # What all findings make together is shown, and judges none of them.
    assert values["all"].value == pytest.approx(np.mean([1, 0.1, 1.1]), abs=0.1) and "all" not in verdicts
    assert verdicts["effusion"].bound == "0.8 to 1.2" and len(notes) == 1


def test_a_finding_that_is_erased_is_not_hidden_by_one_that_grows_too_little(cohort: Cohort) -> None:
    """Together they make the whole change."""
    rows = [change(number, -1.7, -1.0) for number in range(10)]
    rows += [change(20 + number, 0.3, 1.0, becomes=GROWS) for number in range(10)]
    rows += [change(40 + number, -1.0, -1.0, becomes=RESOLVES) for number in range(3)]
    values, verdicts, _ = judged(cohort, rows)
    assert verdicts["effusion"].value == pytest.approx(1.0) and verdicts["effusion"].answer != "fails"
    assert (verdicts["effusion that shrinks"].answer, verdicts["effusion that shrinks"].value) == ("fails", 1.7)
    assert verdicts["effusion that grows"].answer == "fails"
    # Of three patients nothing is said apart.
    assert "effusion that resolves" not in values


def test_changes_within_the_noise_do_not_count(cohort: Cohort) -> None:
    rows = [change(number, -1.0, -1.0) for number in range(10)]
    # Their edits are wild, and their fraction would be anything.
    rows += [change(20 + number, 5.0, 0.0) for number in range(10)]
    rows += [change(40 + number, 5.0, -NOISE, "pneumonia") for number in range(10)]
    values, verdicts, notes = judged(cohort, rows)
    assert verdicts["effusion"].value == 1.0 and values["effusion"].n == 10
    assert "pneumonia" not in verdicts
    assert any(note.startswith("pneumonia: not judged, as none of 10 edits") for note in notes)
    with pytest.raises(UserError, match="0 of 20 edits name"):
        judged(cohort, rows[10:])


def test_large_changes_weigh_more_and_the_true_change_varies_too(cohort: Cohort) -> None:
    """The ratio of sums, whose interval is that of both of them."""
    rows = [change(number, -true, -true) for number, true in enumerate(np.linspace(0.2, 3, 12))]
    values, verdicts, _ = judged(cohort, rows)
    # Edits that make what is true in each patient have no uncertainty, however much patients differ.
    assert (values["effusion"].low, values["effusion"].high) == (1.0, 1.0) and verdicts["effusion"].answer == "holds"
    few = [change(0, -0.2, -0.2), change(1, -3.0, -1.0)]
    assert judged(cohort, few)[0]["effusion"].value == pytest.approx(3.2 / 1.2)


def test_the_patient_is_the_unit(cohort: Cohort) -> None:
    rng = np.random.default_rng(1)
    once = [change(number, -1 + 0.4 * rng.normal(), -1.0) for number in range(9)]
    values, verdicts, _ = judged(cohort, once)
    again, _, _ = judged(cohort, once * 4)
    assert values["effusion"].n == again["effusion"].n == 9
    ends = [values["effusion"].low, values["effusion"].high]
    assert ends == pytest.approx([again["effusion"].low, again["effusion"].high])
    few, answers, _ = judged(cohort, once[:7] * 4)
    assert few["effusion"].low is None and answers["effusion"].answer == "inconclusive"
    assert "it needs 8 patients" in str(answers["effusion"]) and verdicts["effusion"].low is not None


def test_the_right_side_and_direction() -> None:
    assert change(0, -0.5, -1.0, other=-0.1).is_right((-0.5, -0.1))
    assert not change(0, 0.5, -1.0).is_right((0.5, 0.0)) and not change(0, -0.5, -1.0).is_right((-0.5, -0.9))
    assert RIGHT.startswith("finding moved")
