"""Joint support and bounds, from training to the report: who is asked, who is an extrapolation, and who is left out."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from medloom.cli.main import main
from medloom.core.sheets import FRAME
from medloom.core.tile_layout import GAP, LABEL_WIDTH, MARGIN
from medloom.core.tiles import LEAST
from medloom.data.prompts.support import EXTRAPOLATION_NOTE
from medloom.evaluation.effects.measure import Effect, Effects, MeasuredArm, measure_effects
from medloom.evaluation.effects.page import effect_sheet
from medloom.evaluation.effects.recovery import BEYOND, EFFECT, FRACTION, effect_metrics
from medloom.evaluation.effects.regions import Regions, RegionShift
from medloom.evaluation.effects.support import within_support
from medloom.recipes.commands import run_command

TEMPLATE = """
columns:
  smoking: {values: {never: never smoker, former: ex-smoker, current: smoker}}
  pack_years:
    unit: pack-years
    say: "{value} pack-years"
    parents: [smoking, age]
    follows: [{when: {smoking: never}, value: 0}]
  age: {unit: years, say: "{value} years"}
bounds: [pack_years <= 3 * (age - 10)]
"""
WORDS = {"never": "never smoker", "former": "ex-smoker", "current": "smoker"}
HEAVY = "smoking=former,pack_years=70"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heavy smokers are 55 or older in training; patients who are asked about are 25 to 80."""
    root = tmp_path_factory.mktemp("support")
    rng = np.random.default_rng(0)
    (root / "data.template.yaml").write_text(TEMPLATE)
    lines = ["path,patient_id,modality,Text,smoking,pack_years,age"]
    for number in range(90):
        Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(root / f"{number}.png")
        age, smoking = int(rng.integers(25, 80)), ("never", "former", "current")[number % 3]
        packs = 0 if smoking == "never" else int(rng.integers(62, 78)) if age >= 55 else int(rng.integers(1, 12))
        words = f"{WORDS[smoking]}, {packs} pack-years, {age} years"
        lines.append(f'{number}.png,p{number},X-ray,"{words}",{smoking},{packs},{age}')
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    options = {**TINY, "loop.steps": 2, "loop.validate_every": 2, "loop.checkpoint_every": 2, "loop.warmup": 0}
    options["text.max_tokens"] = 64
    run_command("train text2image", data=root / "data.csv", out=root / "run", **options)
    asked = ["modality,Text,patient_id,smoking,pack_years,age"]
    ages = (28, 31, 45, 60, 64, 68, 70, 72, 61, 63, 66, 71)
    asked += [
        f"X-ray,x,q{number},{('never', 'current')[number % 2]},{number % 2 * 9},{age}"
        for number, age in enumerate(ages)
    ]
    (root / "asked.csv").write_text("\n".join(asked) + "\n")
    (root / "asked.template.yaml").write_text(TEMPLATE)
    return root


def ask(folder: Path, out: Path, *arms: str, **options: Any) -> list[dict[str, str]]:
    given = {"model": folder / "run", "data": folder / "asked.csv", "rows": 0, "n": 1, "steps": 2, "device": "cpu"}
    manifest = run_command("whatif", out=out, set=arms, **{**given, **options})
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def shown_arms(out: Path) -> Counter[str]:
    with (out / "differences" / "index.csv").open(encoding="utf-8") as stream:
        return Counter(row["arm"] for row in csv.DictReader(stream))


def test_a_run_keeps_what_training_patients_had_together(folder: Path) -> None:
    kept = json.loads((folder / "run" / "support.json").read_text())
    assert {own["column"]["name"] for own in kept["columns"]} == {"smoking", "pack_years", "age"}
    assert not any(f'"p{number}"' in json.dumps(kept) for number in range(90))


@pytest.mark.slow
def test_rows_that_break_a_bound_are_left_out_and_extrapolations_marked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ask(folder, tmp_path / "w", HEAVY, "smoking=never", n=2)
    said = capsys.readouterr().err
    by_arm: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["source_id"]] = row
    assert {arm: len(own) for arm, own in by_arm.items()} == {"factual": 12, HEAVY: 10, "smoking=never": 12}
    # 28 and 31 years: at most 54 and 63 pack-years.
    assert min(float(row["age"]) for row in by_arm[HEAVY].values()) == 45
    support = {float(row["age"]): int(row["support"]) for row in by_arm[HEAVY].values()}
    assert support[45.0] == 0 and all(count >= 3 for age, count in support.items() if age >= 60)
    assert {row["support"] for row in by_arm["factual"].values()} == {""}
    never = by_arm["smoking=never"].values()
    assert all((row["support"] == "") == (by_arm["factual"][row["source_id"]]["smoking"] == "never") for row in never)
    facts = json.loads((tmp_path / "w" / "whatif.json").read_text())["arms"]
    assert len(facts[HEAVY]["left_out"]) == 2 and facts["smoking=never"]["left_out"] == []
    assert facts[HEAVY]["extrapolated_rows"] == 1 and facts["smoking=never"]["extrapolated_rows"] == 0
    assert f"{HEAVY}: 2 of 12 rows are left out: they break pack_years <= 3 * (age - 10)" in said
    assert f"{HEAVY}: 1 of 10 rows are an extrapolation" in said
    # Seeds are those of an arm that leaves nothing out.
    assert [row["seed"] for row in rows if row["arm"] == "factual"] == [str(seed) for seed in range(24)]
    # The rows that take part in all arms are shown.
    assert shown_arms(tmp_path / "w") == {HEAVY: 6, "smoking=never": 6}
    again = ask(folder, tmp_path / "w", HEAVY, "smoking=never", n=2)
    assert again == rows, "the same command again finds everything there"


def test_pictures_leave_places_empty_and_name_extrapolations(folder: Path, tmp_path: Path) -> None:
    ask(folder, tmp_path / "w", HEAVY, "smoking=never", rows=3)
    assert shown_arms(tmp_path / "w") == {HEAVY: 1, "smoking=never": 3}
    grid = np.asarray(Image.open(tmp_path / "w" / "grid.png"))
    lefts = [MARGIN + LABEL_WIDTH + place * (LEAST + GAP) for place in range(3)]
    framed = [int((grid[:, left - 1] == FRAME).all(axis=1).sum()) for left in lefts]
    assert framed == [count * (LEAST + 2) for count in (3, 1, 3)], "two rows are left out of the first arm"
    effects = measure_effects(tmp_path / "w" / "manifest.csv", None)
    heavy, never = (effect_sheet(effects, name) for name in (HEAVY, "smoking=never"))
    assert heavy.labels == ["row 3\none seed, extrapolation"] and EXTRAPOLATION_NOTE in heavy.notes
    assert never.labels == [f"row {number}\none seed" for number in (1, 2, 3)] and EXTRAPOLATION_NOTE not in never.notes


@pytest.mark.slow
def test_the_report_shows_extrapolations_apart(folder: Path, tmp_path: Path) -> None:
    ask(folder, tmp_path / "w", HEAVY, "smoking=current,pack_years=70", n=1)
    assert main(["evaluate", "whatif", str(tmp_path / "w" / "manifest.csv"), "--out", str(tmp_path / "r")]) == 0
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    found = {(metric["name"], metric["subset"]): metric for metric in scores["metrics"]}
    assert found[EFFECT, HEAVY]["n"] == 9 and found[BEYOND, HEAVY]["n"] == 1
    assert "1 of 10 patients" in found[BEYOND, HEAVY]["note"]
    assert any(note.startswith(f"{HEAVY}: 1 of 10 patients are an extrapolation") for note in scores["notes"])
    page = (tmp_path / "r" / "report.html").read_text()
    assert BEYOND in page and HEAVY in page


def test_a_run_that_keeps_nothing_has_unknown_support(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = folder / "run" / "support.json"
    content = kept.read_text()
    kept.unlink()
    try:
        rows = ask(folder, tmp_path / "w", HEAVY)
    finally:
        kept.write_text(content)
    assert {row["support"] for row in rows} == {""}
    assert capsys.readouterr().err.count("support is unknown") == 1
    assert main(["evaluate", "whatif", str(tmp_path / "w" / "manifest.csv"), "--out", str(tmp_path / "r")]) == 0
    notes = json.loads((tmp_path / "r" / "scores.json").read_text())["notes"]
    assert any("unknown which rows are an extrapolation" in note for note in notes)


def test_an_arm_that_no_row_keeps_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(folder / "run"), "--data", str(folder / "asked.csv"), "--rows", "2", "--set", HEAVY]
    assert main(["whatif", *words, "--out", str(tmp_path / "w")]) == 2
    error = capsys.readouterr().err
    assert "all 2 rows break bounds of the template (pack_years <= 3 * (age - 10))" in error
    assert not (tmp_path / "w").exists()


def test_a_missing_arm_that_no_bound_explains_is_refused(folder: Path, tmp_path: Path) -> None:
    ask(folder, tmp_path / "w", HEAVY)
    manifest = tmp_path / "w" / "manifest.csv"
    lines = manifest.read_text().splitlines(keepends=True)
    gone = next(number for number, line in enumerate(lines) if HEAVY in line)
    manifest.write_text("".join(line for number, line in enumerate(lines) if number != gone))
    assert main(["evaluate", "whatif", str(manifest), "--out", str(tmp_path / "r")]) == 2


def test_support_that_is_no_number_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(folder, tmp_path / "w", "smoking=current,pack_years=9")
    manifest = tmp_path / "w" / "manifest.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + ",many" for line in lines[1:])]) + "\n")
    assert main(["evaluate", "whatif", str(manifest), "--out", str(tmp_path / "r")]) == 2
    assert "column 'support': 'many' is not a number of patients" in capsys.readouterr().err


def test_a_table_that_has_such_a_column_does_not_carry_it_along(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "asked.csv").read_text().splitlines()
    (tmp_path / "data.csv").write_text("\n".join([f"{lines[0]},support", *(f"{line},5" for line in lines[1:])]) + "\n")
    (tmp_path / "data.template.yaml").write_text(TEMPLATE)
    words = ["--model", str(folder / "run"), "--data", str(tmp_path / "data.csv"), "--set", "smoking=never"]
    assert main(["whatif", *words, "--keep", "support", "--out", str(tmp_path / "w")]) == 2
    assert "--keep support: the images' manifest has a column of its own" in capsys.readouterr().err


def effects_of(supported: int, beyond: int, unchanged: int = 0) -> Effects:
    """A generator that is right within support, and ten times too strong beyond."""
    arm = "smoking=never"
    effects = Effects("HU", 2, {arm: MeasuredArm(arm, {"smoking": "never"}, "x")}, Regions(Path(), None, {}))
    for number in range(supported + beyond + unchanged):
        true = 10.0 + number % 2
        changed = number < supported + beyond
        support = None if not changed else 9 if number < supported else 0
        estimated = true * (1 if number < supported else 10) * changed
        row = Effect(
            arm, "smoking", f"s{number}", str(number % 2), estimated, 0.1, true * changed, changed, 0.9, 0.01, 1.0
        )
        effects.rows.append(Effect(**{**vars(row), "support": support}))
    return effects


def test_verdicts_are_on_patients_with_support() -> None:
    metrics, verdicts, notes = effect_metrics(effects_of(40, 12), 0)
    found = {metric.name: metric for metric in metrics}
    assert found[FRACTION].value == pytest.approx(1.0) and found[FRACTION].n == 40
    assert found[EFFECT].n == 40 and found[BEYOND].n == 12 and found[BEYOND].value == pytest.approx(105.0)
    assert {verdict.answer for verdict in verdicts} == {"holds"}
    assert notes == ["smoking=never: 12 of 52 patients are an extrapolation and are shown apart."]


def test_an_arm_without_enough_support_has_a_note_and_no_verdict() -> None:
    metrics, verdicts, notes = effect_metrics(effects_of(7, 33, unchanged=20), 0)
    assert not verdicts and FRACTION not in {metric.name for metric in metrics}
    assert "33 of 60 patients are an extrapolation. 7 patients with support in training are too few" in notes[0]
    metrics, verdicts, _ = effect_metrics(effects_of(0, 40, unchanged=20), 0)
    # Patients in whom nothing changes do not stand for the arm's effect.
    assert [metric.name for metric in metrics] == [BEYOND] and not verdicts


def test_regions_are_measured_within_support() -> None:
    rows = [RegionShift("a=1", "lung", f"s{number}", float(number), 0.5, support=number) for number in range(20)]
    regions = Regions(Path(), None, {}, rows)
    shift, noise = regions.metrics("HU", 0)
    assert shift.n == 17 and shift.value == pytest.approx(np.mean(range(3, 20))) and noise.n == 20
    assert within_support(rows[:3]) == []
