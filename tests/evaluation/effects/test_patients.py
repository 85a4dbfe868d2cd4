"""The patient is the unit of a what-if's report: repeating rows changes no value, no interval and no n."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.core.files import write_json
from medloom.core.image import Image
from medloom.core.spec import GREY, HU, ImageSpec, Intensity
from medloom.data.images import write_image
from medloom.data.tables import read_table, row_ids, write_csv
from medloom.evaluation.effects.measure import Effect, Effects, MeasuredArm, by_patient
from medloom.evaluation.effects.observed import OBSERVED
from medloom.evaluation.effects.recovery import (
    EFFECT,
    ERROR,
    FRACTION,
    INTERCEPT,
    MAPS,
    OUTSIDE,
    SIGNS,
    SLOPE,
    SPREAD,
    effect_metrics,
)
from medloom.evaluation.effects.regions import NOISE, SHIFT, Regions
from medloom.phantom.truth import Cohort

SIZE, SEEDS = 32, 2
ARMS: dict[str, dict[str, str]] = {
    "smoking=never": {"smoking": "never"},
    "smoking=current,pack_years=40": {"smoking": "current", "pack_years": "40"},
    "coffee=daily": {"coffee": "daily"},
}
HELD = ["diagnosis", "extent", "side"]
COLUMNS = ("smoking", "pack_years", "coffee", "age")
TEMPLATE = """
columns:
  smoking: {values: {never: never, former: former, current: current}}
  coffee: {values: {rarely: rarely, daily: daily}}
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("patients") / "cohort"
    words = ["--patients", "32", "--size", str(SIZE), "--test", "0.9", "--amplify", "2", "--complete", "--workers", "1"]
    assert main(["data", "phantom", "--out", str(out), *words]) == 0
    return out


def report_of(cohort: Path, out: Path, repeats: Callable[[int], int], patients: bool = True) -> dict[str, Any]:
    """scores.json of a generator that adds 0.9 of the truth, with each row of the table as often as `repeats` says."""
    out.mkdir()
    table, rows = read_table(cohort / "test.csv"), []
    place = table.header.index("path")
    for number, row in enumerate(table.rows):
        for k in range(repeats(number)):
            # A table has no image twice; a copy of it has the patient's name, too.
            path = str(row[place]) if k == 0 else str(row[place]).replace(".dcm", f".copy{k}.dcm")
            if not (cohort / path).is_file():
                shutil.copy(cohort / str(row[place]), cohort / path)
            rows.append([*row[:place], path, *row[place + 1 :]])
    data = cohort / f"{out.name}.csv"
    write_csv(data, table.header, rows)
    truth, made, images = Cohort(cohort), [], {}
    for source, cells in zip(row_ids(data, read_table(data).lines), rows, strict=True):
        row = dict(zip(table.header, cells, strict=True))
        patient = str(row["patient_id"])
        for seed in range(SEEDS):
            for arm, changes in {"factual": {}, **ARMS}.items():
                name = f"{patient}-{seed}-{len(changes)}-{arm[:3]}.dcm"
                if name not in images:
                    rng = np.random.default_rng([seed, int(patient[1:])])
                    held = [column for column in HELD if column not in changes] if changes else []
                    twins = truth.twins(source, changes, held)
                    noise = rng.normal(0, 15, (SIZE, SIZE)) + rng.normal(0, 2, (SIZE, SIZE)) * bool(changes)
                    values = (twins.factual.values + 0.9 * twins.difference + noise).astype(np.float32)
                    write_image(out / name, truth.spec.image(values, HU), {})
                    images[name] = None
                mask = Path("..") / cohort.name / str(row["mask"])
                who = [patient] if patients else []
                made.append([name, source, arm, seed, mask, *who, *(row[c] for c in COLUMNS), ",".join(HELD)])
    header = ["path", "source_id", "arm", "seed", "mask", *(["patient"] if patients else []), *COLUMNS, "held"]
    write_csv(out / "manifest.csv", header, made)
    (out / "manifest.template.yaml").write_text(TEMPLATE)
    spec = ImageSpec((SIZE, SIZE), 1, "pad", {"CT": Intensity("window", HU, -1024, 1000)})
    arms = {arm: {"changes": changes, "estimand": "in words"} for arm, changes in ARMS.items()}
    write_json(out / "whatif.json", {"arms": arms, "spec": spec.to_dict(), "classes": {}})
    words = ["--truth", str(cohort), "--observed", str(data), "--out", str(out / "report")]
    assert main(["evaluate", "whatif", str(out / "manifest.csv"), *words]) == 0
    scores: dict[str, Any] = json.loads((out / "report" / "scores.json").read_text())
    return scores


def numbers_of(scores: dict[str, Any]) -> dict[tuple[str, ...], list[Any]]:
    """Every value, interval, n and reference of a report, and every verdict."""
    found = {}
    for metric in scores["metrics"]:
        reference = metric["reference"]
        ends = [reference[name] for name in ("value", "low", "high", "n")]
        found["metric", metric["name"], metric["subset"]] = [*(metric[k] for k in ("value", "low", "high", "n")), *ends]
    for verdict in scores["verdicts"]:
        ends = [verdict[name] for name in ("value", "low", "high", "at_least", "at_most")]
        found["verdict", verdict["metric"], verdict["subset"]] = ends
        assert verdict["answer"] in ("holds", "fails", "inconclusive")
    return found


def assert_same(one: dict[tuple[str, ...], list[Any]], other: dict[tuple[str, ...], list[Any]]) -> None:
    assert set(one) == set(other)
    for key, values in one.items():
        for value, alike in zip(values, other[key], strict=True):
            assert (value is None) == (alike is None), key
            assert value is None or value == pytest.approx(alike, rel=1e-6, abs=1e-6), (key, values, other[key])


@pytest.fixture(scope="module")
def once(cohort: Path) -> dict[str, Any]:
    return report_of(cohort, cohort.parent / "once", lambda row: 1)


def test_the_report_has_every_metric(once: dict[str, Any]) -> None:
    names = {metric["name"] for metric in once["metrics"]}
    assert names == {
        *(EFFECT, SPREAD, FRACTION, ERROR, SLOPE, INTERCEPT, SIGNS, MAPS, OUTSIDE, SHIFT, NOISE, OBSERVED),
    }
    assert all(metric["low"] is not None for metric in once["metrics"])


@pytest.mark.slow
def test_repeated_rows_change_nothing(cohort: Path, once: dict[str, Any]) -> None:
    assert_same(numbers_of(once), numbers_of(report_of(cohort, cohort.parent / "each_3_times", lambda row: 3)))


@pytest.mark.slow
def test_repeating_one_patient_changes_nothing(cohort: Path, once: dict[str, Any]) -> None:
    often = report_of(cohort, cohort.parent / "one_often", lambda row: 6 if row == 2 else 1)
    assert_same(numbers_of(once), numbers_of(often))


@pytest.mark.slow
def test_without_patients_the_row_is_the_unit(cohort: Path, once: dict[str, Any]) -> None:
    alone = report_of(cohort, cohort.parent / "rows", lambda row: 1, patients=False)
    twice = report_of(cohort, cohort.parent / "rows_twice", lambda row: 2, patients=False)
    for key, values in numbers_of(alone).items():
        if key[0] == "metric" and key[1] == EFFECT:
            assert numbers_of(twice)[key][3] == 2 * values[3] and values[3] == numbers_of(once)[key][3]


def test_few_patients_have_values_without_intervals_and_no_verdict(tmp_path: Path) -> None:
    """Eight rows of two patients are two patients, however many images there are."""
    rows = []
    for arm, change in (("factual", 0), ("a=1", 20)):
        for row in range(8):
            name = f"{arm}-{row}.png"
            write_image(tmp_path / name, Image(np.full((1, 8, 8), 100.0 + change + row, np.float32), GREY, 255.0), {})
            rows.append([name, f"s{row}", arm, 0, f"p{row % 2}"])
    write_csv(tmp_path / "manifest.csv", ["path", "source_id", "arm", "seed", "patient"], rows)
    write_json(tmp_path / "whatif.json", {"arms": {"a=1": {"changes": {"a": 1}, "estimand": "in words"}}})
    assert main(["evaluate", "whatif", str(tmp_path / "manifest.csv"), "--out", str(tmp_path / "r")]) == 0
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    (effect,) = (metric for metric in scores["metrics"] if metric["name"] == EFFECT)
    assert (effect["value"], effect["low"], effect["high"], effect["n"]) == (20.0, None, None, 2)
    assert "no interval: n is 2, it needs 8 patients" in effect["note"]
    assert any("it needs 8 patients" in note or "which needs 8 patients" in note for note in scores["notes"])


def effects_of(true: np.ndarray, estimated: np.ndarray, dose: list[str] | None = None, **more: Any) -> Effects:
    """Effects of smoking in as many patients as there are numbers."""
    effects = Effects(
        "HU", 2, {"smoking=never": MeasuredArm("smoking=never", {"smoking": "never"}, "x")}, Regions(Path(), None, {})
    )
    for number, (truth, value) in enumerate(zip(true, estimated, strict=True)):
        row = {"true": float(truth), "correlation": 0.9, "outside": 0.01, "inside": 1.0, **more}
        level = dose[number] if dose else str(number % 2)
        effects.rows.append(Effect("smoking=never", "smoking", f"s{number}", level, float(value), 0.1, **row))
    return effects


def answers_of(effects: Effects) -> dict[str, str]:
    return {verdict.metric: verdict.answer for verdict in effect_metrics(effects, 0)[1]}


def test_a_mean_of_opposite_errors_is_inconclusive() -> None:
    """Estimates of +30 and -10 where the truth is 10: the mean is right, and says nothing."""
    count = 40
    answers = answers_of(effects_of(np.full(count, 10.0), np.where(np.arange(count) % 2, 30.0, -10.0)))
    assert answers[FRACTION] == "inconclusive" and answers[SIGNS] == "fails"
    six = effects_of(10 + np.arange(6) % 2, 10 + np.random.default_rng(2).normal(0, 20, 6))
    assert set(answers_of(six).values()) == {"inconclusive"}


@pytest.mark.parametrize(
    ("doses", "slope", "said"),
    [
        (["a"] + ["b"] * 29, False, "1 of 2 dose levels are left out, with fewer than 4 patients each"),
        (["a"] * 2 + ["b"] * 28, False, "1 of 2 dose levels are left out, with fewer than 4 patients each"),
        (["a"] + ["b"] * 14 + ["c"] * 15, True, "1 of 3 dose levels are left out, with fewer than 4 patients each"),
        (["a"] * 4 + ["b"] * 26, True, None),
        (["a"] * 4 + ["b"] * 4, True, None),
    ],
)
def test_small_dose_levels_are_left_out_with_a_note(doses: list[str], slope: bool, said: str | None) -> None:
    true = np.array([{"a": 20.0, "b": 10.0, "c": 5.0}[dose] for dose in doses])
    metrics, _, notes = effect_metrics(effects_of(true, true + np.arange(len(true)) % 3, doses), 0)
    found = {metric.name: metric for metric in metrics}
    assert (SLOPE in found) == slope == (INTERCEPT in found)
    assert not slope or found[SLOPE].low is not None
    assert not any("finite" in note for note in notes)
    assert (said is None and not notes) or any(said in note for note in notes if said)


def test_opposite_effects_are_named() -> None:
    metrics, _, _ = effect_metrics(effects_of(np.full(20, 10.0), -8 + 0.1 * np.arange(20)), 0)
    (effect,) = (metric for metric in metrics if metric.name == EFFECT)
    assert effect.reading == "opposite sign"


def test_the_rows_of_a_patient_are_averaged() -> None:
    rows = [Effect("a", "a", f"s{number}", "d", float(number), 0.0, patient="p") for number in (1, 3)]
    (mean,) = by_patient(rows)
    assert mean.estimated == 2.0 and mean.unit == "p" and mean.true is None
