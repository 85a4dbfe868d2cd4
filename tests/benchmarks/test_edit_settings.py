"""The benchmark of an editor's settings: what it chooses, whom it refuses, and that test patients are opened once."""

import csv
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from benchmarks.__main__ import main as run_benchmark
from benchmarks.edit_settings import SETTINGS, Setting, choose, distance, main, open_test, refuse_overlap
from medloom.core.errors import UserError
from medloom.data.manifest import read_manifest
from medloom.evaluation.edits.truth import FRACTION
from medloom.generators.run_folder import RunFolder
from medloom.recipes.commands import run_command

SIZE = 48


def verdict(value: float, low: float | None, high: float | None, least: float | None, most: float | None) -> Any:
    ends = {"value": value, "low": low, "high": high, "at_least": least, "at_most": most}
    return {"attribute": "effusion", "metric": FRACTION, "answer": "fails", **ends}


def with_triples(folder: Path) -> dict[str, Path]:
    """A cohort, an editor of some of its patients, and triples of others for validation and for the test."""
    made = {"patients": 100, "size": SIZE, "visits": 2, "retests": True, "complete": True, "test": 0.1, "workers": 1}
    cohort = run_command("data phantom", out=folder / "cohort", **made)
    journeys = {"register": "off", "both_ways": False, "columns": {"text": "report"}}
    triples = run_command("data journeys", data=cohort / "train.csv", out=folder / "triples.csv", **journeys)
    with triples.open(encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    at, was = header.index("split"), header.index("prior_diagnosis")
    ill = [row for row in rows if row[was] in ("effusion", "pneumonia")]
    shown = {"validation": ill[:6], "test": ill[6:12]}
    parts = {"train": [row for row in rows if row not in ill[:12]], **shown}
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            # Without a split, so that the run holds some of its own patients out.
            csv.writer(stream).writerows([[*row[:at], *row[at + 1 :]] for row in (header, *part)])
    options = {**TINY, "image_size": [SIZE], "hu_window": [-1024, 476], "loop.steps": 1}
    model = run_command("train edit", data=folder / "train.csv", out=folder / "run", **options)
    return {"truth": cohort, "model": model, **{name: folder / f"{name}.csv" for name in parts}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return with_triples(tmp_path_factory.mktemp("settings"))


def words(world: dict[str, Path], out: Path, *more: str, **instead: Path) -> list[str]:
    given = {name: instead.get(name, world[name]) for name in ("model", "truth", "validation", "test")}
    flags = [word for name, path in given.items() for word in (f"--{name}", str(path))]
    return [*flags, "--out", str(out), "--steps", "1", "--device", "cpu", *more]


def test_the_least_distance_is_chosen_and_of_criteria_that_hold_the_nearest_to_1() -> None:
    assert distance([verdict(1.0, 0.9, 1.1, 0.8, 1.2)]) == 0
    # By the far end of the interval, not by the value.
    assert distance([verdict(1.0, 0.6, 1.5, 0.8, 1.2)]) == pytest.approx(0.2 / 0.8 + 0.3 / 1.2)
    assert distance([verdict(0.4, None, None, 0.8, 1.2)]) == pytest.approx(0.5)
    assert distance([verdict(3.0, 2.0, 4.0, None, 2.0)] * 2) == pytest.approx(2.0)
    near, far, wide = (Setting("inversion", text) for text in (1, 2, 3))
    holds, off = verdict(1.0, 0.9, 1.1, 0.8, 1.2), verdict(0.9, 0.85, 1.0, 0.8, 1.2)
    assert choose({far: [off], near: [holds]}) == near
    assert choose({wide: [verdict(1.0, 0.7, 1.3, 0.8, 1.2)], far: [off]}) == far


def test_settings_are_read_and_named_apart() -> None:
    setting = Setting.read("start=inversion,text=1.5,negative=No change.,strength=0.8")
    assert setting == Setting("inversion", 1.5, "No change.", 0.8)
    assert setting.options["guidance"] == ["1", "text=1.5"] and setting.options["negative"] == "No change."
    assert Setting.read("start=noise").options["negative"] is None
    for settings in SETTINGS.values():
        assert len({one.folder for one in settings}) == len(settings)
    for wrong in ("start", "scale=2", "text=much", "text="):
        with pytest.raises(UserError, match="--setting"):
            Setting.read(wrong)


def test_patients_who_were_seen_are_refused(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("validation", "test"):
        with pytest.raises(UserError, match=r"of its \d+ patients were in the training set"):
            main(words(world, tmp_path / "out", **{name: world["train"]}))
    with pytest.raises(UserError, match=r"6 of its patients are in .*validation\.csv too"):
        main(words(world, tmp_path / "out", test=world["validation"]))
    monkeypatch.setattr(
        "sys.argv", ["benchmarks", "edit_settings", *words(world, tmp_path / "out", test=world["train"])]
    )
    assert run_benchmark() == 2
    assert "were in the training set of" in capsys.readouterr().err and not (tmp_path / "out").exists()
    # The run held some of its own patients out: a setting may be chosen on them, and not shown.
    known = RunFolder(world["model"]).splits()[0]
    trained = read_manifest(world["train"], need=("path", "prior"))
    trained.select(bool(known.seen([name], "validation")) for name in trained.frame["patient_id"]).write(
        tmp_path / "held.csv"
    )
    refuse_overlap(world["model"], tmp_path / "held.csv", world["test"])
    with pytest.raises(UserError, match="were held out for validation of"):
        refuse_overlap(world["model"], world["validation"], tmp_path / "held.csv")


def test_the_test_patients_are_opened_once(tmp_path: Path) -> None:
    (test := tmp_path / "test.csv").write_text("path\n1.png\n")
    marker, chosen = tmp_path / "out" / "opened.json", Setting("inversion", 2)
    for _ in range(2):
        open_test(marker, test, chosen)
    with pytest.raises(UserError, match="test patients were shown with the setting 'from inversion, text 2' already"):
        open_test(marker, test, Setting("inversion", 3))
    test.write_text("path\n2.png\n")
    with pytest.raises(UserError, match="needs other patients and another --out"):
        open_test(marker, test, chosen)


@pytest.mark.slow
def test_what_is_there_is_not_made_again(
    world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("start=noise", "start=inversion,negative=No change.")
    given = words(world, tmp_path / "out", *(word for one in settings for word in ("--setting", one)))
    main(given)
    first = capsys.readouterr().out
    assert "from inversion, text 1, compared with 'No change.'" in first and "effusion" in first
    # A model that has learnt nothing changes nothing in any way, and of equal ways the first is chosen.
    assert "| **from noise, text 1** |" in first
    report = tmp_path / "out" / "test-report" / "scores.json"
    written = report.stat().st_mtime_ns
    main(given)
    assert capsys.readouterr().out == first and report.stat().st_mtime_ns == written
    with pytest.raises(UserError, match="test patients were shown with the setting"):
        main(words(world, tmp_path / "out", "--setting", settings[1]))
