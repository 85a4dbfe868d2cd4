"""A what-if judged against the truth: generators that know it, miss it, and add what is not there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.spec import HU
from medloom.data.images import write_image
from medloom.data.tables import read_table, row_ids, write_csv
from medloom.evaluation.effects.measure import measure_effects
from medloom.evaluation.effects.page import effect_sheet
from medloom.evaluation.effects.recovery import EFFECT, FRACTION, MAPS, OUTSIDE, SIGNS, SLOPE, effect_metrics
from medloom.evaluation.report.metrics import FAILS, HOLDS, INCONCLUSIVE
from medloom.phantom.truth import Cohort

ARMS: Mapping[str, Mapping[str, str]] = {
    "smoking=never": {"smoking": "never"},
    "smoking=former,pack_years=60": {"smoking": "former", "pack_years": "60"},
    "smoking=current,pack_years=10": {"smoking": "current", "pack_years": "10"},
    "coffee=daily": {"coffee": "daily"},
}
HELD = ("diagnosis", "extent", "side")
Answer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("effects") / "cohort"
    words = ["--patients", "16", "--size", "32", "--test", "0.9", "--amplify", "2", "--complete", "--workers", "1"]
    assert main(["data", "phantom", "--out", str(out), *words]) == 0
    return out


def answered(folder: Path, out: Path, answer: Answer, n: int = 2) -> Path:
    """A what-if of a generator that answers (factual, true difference) with the image under the change."""
    cohort, table = Cohort(folder), read_table(folder / "test.csv")
    rows: list[list[Any]] = []
    for row, source in enumerate(row_ids(folder / "test.csv", table.lines)):
        for k in range(n):
            noise = np.random.default_rng([row, k]).normal(0, 15, (32, 32)).astype(np.float32)
            factual = cohort.twins(source, {}).factual.values + noise
            images = {"factual": factual}
            for name, changes in ARMS.items():
                held = [column for column in HELD if column not in changes]
                images[name] = answer(factual, cohort.twins(source, changes, held).difference)
            for name, image in images.items():
                path = f"{len(rows):05d}.dcm"
                write_image(out / path, cohort.spec.image(image, HU), {})
                cells = [table.rows[row][table.header.index(column)] for column in ("smoking", "pack_years", "coffee")]
                rows.append([path, source, name, k, *cells, ",".join(HELD)])
    write_csv(
        out / "manifest.csv", ["path", "source_id", "arm", "seed", "smoking", "pack_years", "coffee", "held"], rows
    )
    arms = {name: {"changes": changes, "estimand": "in words"} for name, changes in ARMS.items()}
    write_json(out / "whatif.json", {"arms": arms})
    return out / "manifest.csv"


def metric_of(metrics: list[Any], name: str, subset: str = "smoking") -> Any:
    return next(metric for metric in metrics if (metric.name, metric.subset) == (name, subset))


def test_a_plan_of_a_whatif_without_held_out_images_opens_none(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + true, n=1)
    stated = "reason: why, n: 5, power: all there are"
    (tmp_path / "plan.yaml").write_text(f"- {{metric: {FRACTION}, of: smoking, verdict: holds, {stated}}}")
    words = ["--truth", str(folder), "--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "whatif", str(manifest), *words]) == 0
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["openings"] is None and not (folder / "openings.json").exists()
    (answer,) = found["plan"]["metrics"]
    assert answer["bound"] == "its verdict holds" and answer["answer"] == found["plan"]["answer"]
    assert [(m["name"], m["subset"]) for m in found["metrics"] if not m["exploratory"]] == [(FRACTION, "smoking")]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The plan as a whole" in page and '<span class="soft">exploratory</span>' in page


def test_a_generator_that_knows_the_truth_passes(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + true)
    metrics, verdicts, _ = effect_metrics(measure_effects(manifest, Cohort(folder)), seed=0)
    assert metric_of(metrics, SLOPE).value == pytest.approx(1.0, abs=0.02)
    assert metric_of(metrics, FRACTION).value == pytest.approx(1.0, abs=0.03)
    assert metric_of(metrics, MAPS).value > 0.97
    assert metric_of(metrics, OUTSIDE).value < 0.1
    assert metric_of(metrics, SIGNS).value == 1.0
    assert metric_of(metrics, EFFECT, "coffee=daily").value == pytest.approx(0.0, abs=0.2)
    answers = {(verdict.attribute, verdict.metric): verdict.answer for verdict in verdicts}
    # That many patients whose signs are all right cannot show that 90 % of patients' are.
    assert answers.pop(("smoking", SIGNS)) == INCONCLUSIVE
    assert len(answers) == 4 and set(answers.values()) == {HOLDS}


def test_a_generator_that_ignores_the_change_fails(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual)
    metrics, verdicts, _ = effect_metrics(measure_effects(manifest, Cohort(folder)), seed=0)
    assert metric_of(metrics, SLOPE).value == pytest.approx(0.0, abs=0.02)
    assert metric_of(metrics, MAPS).value == 0.0
    failed = {verdict.metric for verdict in verdicts if verdict.answer == FAILS}
    assert {FRACTION, MAPS, SIGNS} <= failed


def test_one_that_changes_everything_fails_outside_and_on_the_placebo(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + true + 30)
    metrics, verdicts, _ = effect_metrics(measure_effects(manifest, Cohort(folder)), seed=0)
    assert metric_of(metrics, SLOPE).value == pytest.approx(1.0, abs=0.02)
    failed = {(verdict.attribute, verdict.metric) for verdict in verdicts if verdict.answer == FAILS}
    assert {("smoking", OUTSIDE), ("coffee", EFFECT)} <= failed


def test_two_patients_that_change_say_nothing_of_outside(folder: Path, tmp_path: Path) -> None:
    effects = measure_effects(answered(folder, tmp_path / "w", lambda factual, true: factual + true), Cohort(folder))
    two = sorted({row.source for row in effects.rows})[:2]
    effects.rows = [row if row.source in two else replace(row, inside=0.0, outside=0.0) for row in effects.rows]
    metrics, _, notes = effect_metrics(effects, seed=0)
    assert OUTSIDE not in {metric.name for metric in metrics}
    assert any("2 patients change, too few to say what changes outside" in note for note in notes)


def test_the_report_is_written_with_and_without_a_truth(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + 0.5 * true, n=1)
    with_truth = [str(manifest), "--truth", str(folder), "--out", str(tmp_path / "a")]
    assert main(["evaluate", "whatif", *with_truth]) == 0
    error = capsys.readouterr().err
    assert "FAILS: smoking, recovered fraction of the true effect 0.5" in error and "required: 0.8 to 1.2." in error
    assert main(["evaluate", "whatif", str(manifest), "--out", str(tmp_path / "b")]) == 0
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert scores["finished"]
    assert any(metric["name"] == SLOPE for metric in scores["metrics"])
    page, bare = ((tmp_path / name / "report.html").read_text() for name in "ab")
    assert "Is the effect recovered?" in page and "<em>true</em> counterfactual image" in page
    assert "Is the effect recovered?" not in bare
    for html in (page, bare):
        # No picture without a caption: the plot of effects, and one of each arm.
        assert html.count("<img") == html.count("<figcaption>") == 1 + len(ARMS)
        assert html.count("Read a row from left to right") == len(ARMS)
    assert "SYNTHETIC" in page and "http" not in page.replace("http-equiv", "")


def test_pictures_say_what_is_generated_and_the_truth_sets_their_colours(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + 3 * true + 1, n=1)
    effects = measure_effects(manifest, Cohort(folder))
    names = ["generated, as recorded", "generated, smoking=never", "difference", "true difference"]
    sheet = effect_sheet(effects, "smoking=never")
    assert [column.title for column in sheet.columns] == names and sheet.heading.startswith("SYNTHETIC")
    sources = list(dict.fromkeys(row.source for row in effects.rows))
    true = [Cohort(folder).twins(source, ARMS["smoking=never"], HELD).difference for source in sources]
    (scale,) = {column.scales for column in sheet.columns[2:]}.pop()
    assert scale.reach == pytest.approx(np.quantile(np.abs(true), 0.99, method="inverted_cdf"), rel=5e-3)
    assert scale.unit == HU and scale.note == f"99th percentile of |true difference|, all {len(sources)} rows"
    assert all(tile.sides == ("R", "L") for column in sheet.columns for tile in column.tiles)
    assert "Black to white: -1000 to 300 HU." in sheet.notes and sheet.labels[0].endswith("one seed")
    numbers = [int(label.split("\n")[0].removeprefix("row ")) for label in sheet.labels]
    assert all(1 <= number <= len(sources) for number in numbers) and len(set(numbers)) == len(numbers)
    (nothing,) = effect_sheet(effects, "coffee=daily").columns[2].scales
    assert nothing.reach == pytest.approx(1.0, abs=0.01) and nothing.note.endswith("truly nothing changes")
    known = measure_effects(manifest, None)
    assert [column.title for column in effect_sheet(known, "smoking=never").columns] == names[:3]


@pytest.mark.slow
def test_a_gate_on_effects(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual + 0.5 * true, n=1)
    words = ["evaluate", "whatif", str(manifest), "--truth", str(folder), "--gate", str(tmp_path / "gate.yaml")]
    words += ["--out", str(tmp_path / "out")]
    for rule, status, said in (
        ("- {metric: slope over doses, of: smoking, value_at_least: 0.4}", 0, "PASS: 1 of 1 rules"),
        ("- {metric: slope over doses, of: smoking, lower_at_least: 0.8}", 3, "FAIL: slope over doses of smoking 0.5"),
        ("- {metric: slope over dozes, value_at_least: 0.4}", 2, "did you mean 'slope over doses'"),
    ):
        (tmp_path / "gate.yaml").write_text(rule)
        assert main(words) == status
        assert said in capsys.readouterr().err
    release = ["release" if word.endswith("gate.yaml") else word for word in words]
    assert main(release) == 3
    said = capsys.readouterr().err
    assert (
        "FAIL: smoking, recovered fraction of the true effect 0.5" in said and "NOT SHOWN: smoking, right sign" in said
    )
    assert "Is the size of each effect right? NO." in said
    # Without the truth there is no verdict, and a release that was not judged is none.
    assert main([word for word in release if word not in ("--truth", str(folder))]) == 3
    assert "NOT SHOWN: there is no verdict: the truth is not known" in capsys.readouterr().err
    assert main([*words[:5], "--out", str(tmp_path / "json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["light"] == "red"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["w.csv", "--real", "r.csv"], "unknown option --real"),
        (["w.csv", "--adjust", "age"], "--adjust needs --observed"),
        (["w.csv", "--model", "runs/mm"], "--model needs --observed"),
        (["w.csv", "--columns", "mask=seg"], "--columns needs --observed"),
        ([], "--data has to be given"),
        (["nowhere/manifest.csv"], "holds no whatif.json"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "whatif", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_patients_of_another_cohort_are_refused(folder: Path, tmp_path: Path) -> None:
    manifest = answered(folder, tmp_path / "w", lambda factual, true: factual, n=1)
    assert main(["data", "phantom", "--out", str(tmp_path / "c"), "--patients", "4", "--seed", "9"]) == 0
    with pytest.raises(UserError, match="is not a row of a table"):
        measure_effects(manifest, Cohort(tmp_path / "c"))


def test_rows_that_have_the_value_already_are_not_counted(folder: Path, tmp_path: Path) -> None:
    """The placebo must not hold because the arm is a change in few patients, in whose images much changes."""
    manifest = answered(folder, tmp_path, lambda factual, true: factual + 40.0 * (factual > -5000))
    table = read_table(manifest)
    place = {name: table.header.index(name) for name in ("arm", "coffee", "source_id")}
    rows = [list(row) for row in table.rows]
    sources = list(dict.fromkeys(row[place["source_id"]] for row in rows))
    for row in rows:
        # All but one patient drink coffee daily already; the images of an arm that is no change are the factual ones.
        row[place["coffee"]] = "rarely" if row[place["source_id"]] == sources[0] else "daily"
        if row[place["arm"]] == "coffee=daily" and row[place["source_id"]] != sources[0]:
            row[0] = next(
                own[0]
                for own in rows
                if own[place["arm"]] == "factual" and own[1] == row[1] and own[table.header.index("seed")] == row[3]
            )
    write_csv(manifest, table.header, rows)
    metrics, verdicts, _ = effect_metrics(measure_effects(manifest, Cohort(folder)), 0)
    coffee = metric_of(metrics, EFFECT, "coffee=daily")
    assert coffee.n == 1 and coffee.value == pytest.approx(40, abs=1) and coffee.low is None
    assert [verdict.answer for verdict in verdicts if verdict.attribute == "coffee"] == [INCONCLUSIVE]
