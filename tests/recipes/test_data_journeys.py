"""`medloom data journeys`: from studies to triples."""

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.data.images import read_image
from medloom.data.manifest import read_manifest
from medloom.recipes import data_journeys
from medloom.recipes.commands import run_command


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("journeys") / "cohort"
    options = {"patients": 16, "size": 32, "modalities": ("X-ray",), "visits": 3, "workers": 1, "seed": 2}
    run_command("data phantom", out=out, **options)
    return out


def triples(cohort: Path, out: Path, **options: object) -> list[dict[str, str]]:
    given = {"register": "rigid", "columns": {"text": "report"}, **options}
    run_command("data journeys", data=cohort / "train.csv", out=out, **given)
    with out.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_triples_are_a_manifest_with_registered_priors(cohort: Path, tmp_path: Path) -> None:
    rows = triples(cohort, tmp_path / "triples.csv", both_ways=False)
    assert len({row["patient_id"] for row in rows}) > 7 and {row["modality"] for row in rows} == {"X-ray"}
    samples = read_manifest(tmp_path / "triples.csv", need=("path", "prior")).samples()
    for row, sample in zip(rows, samples, strict=True):
        assert sample.condition.prior is not None and sample.registered_prior is not None
        assert sample.condition.text == row["instruction"] and float(row["score"]) >= 0.6
        assert int(row["visit"]) == int(row["prior_visit"]) + 1
        between = date.fromisoformat(row["time"]) - date.fromisoformat(row["prior_time"])
        assert float(row["days"]) == between.days > 0
        later, aligned = read_image(sample.path), read_image(sample.registered_prior)
        assert aligned.size == later.size and np.corrcoef(aligned.pixels.ravel(), later.pixels.ravel())[0, 1] > 0.6
    facts = json.loads((tmp_path / "triples" / "journeys.json").read_text())
    assert facts["triples"] == len(rows) and facts["rules"][-1]["rule"].startswith(
        "an instruction by rules (reports that say what changed"
    )
    assert (tmp_path / "triples" / "registration.png").is_file()
    assert json.loads((tmp_path / "triples" / "not_registered.json").read_text()) == []


@pytest.mark.slow
def test_training_pairs_go_both_ways(cohort: Path, tmp_path: Path) -> None:
    rows = triples(cohort, tmp_path / "both.csv")
    there = [row for row in rows if int(row["visit"]) > int(row["prior_visit"])]
    back = {(row["path"], row["prior"]): row for row in rows if int(row["visit"]) < int(row["prior_visit"])}
    assert back and len(read_manifest(tmp_path / "both.csv")) == len(rows) == len(there) + len(back)
    for row in there:
        assert (row["split"] == "train") == ((row["prior"], row["path"]) in back)
        if row["split"] == "train":
            other = back[row["prior"], row["path"]]
            assert (other["instruction"], other["days"]) == (row["reverse_instruction"], row["days"])
            image, aligned = (read_image(tmp_path / other[name]) for name in ("path", "registered_prior"))
            assert aligned.size == image.size and np.corrcoef(aligned.pixels.ravel(), image.pixels.ravel())[0, 1] > 0.6
    # What a report says of its own prior image is no instruction for the way back.
    for name, options in (("one", {"both_ways": False}), ("said", {"progression": "impression"})):
        way = triples(cohort, tmp_path / f"{name}.csv", **options)
        assert len(way) == len({(row["prior"], row["path"]) for row in way}) >= len(there)


def test_an_earlier_image_needs_no_report(cohort: Path, tmp_path: Path) -> None:
    with (cohort / "train.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    first = {row["patient_id"]: row for row in reversed(table)}

    def left_out(progression: str) -> int:
        with (cohort / "silent.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        given = {"data": cohort / "silent.csv", "out": tmp_path / f"{progression}.csv", "progression": progression}
        run_command("data journeys", register="off", both_ways=False, columns={"text": "report"}, **given)
        rules = json.loads((tmp_path / progression / "journeys.json").read_text())["rules"]
        return {rule["rule"]: rule["left_out"] for rule in rules}["reports that say what changed"]

    for row in first.values():
        row["report"] = ""
    assert left_out("text") == 0 and left_out("rules") == len(first)
    for row in table:
        row["report"] = ""
    with pytest.raises(UserError, match="no row has a text, and --progression impression needs texts"):
        left_out("impression")


def test_an_interrupted_run_goes_on_and_what_it_did_not_write_is_left_alone(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(data_journeys, "_worded", stop)
        with pytest.raises(KeyboardInterrupt):
            triples(cohort, tmp_path / "triples.csv")
    assert len(triples(cohort, tmp_path / "triples.csv")) > 10
    (tmp_path / "other.csv").write_text("mine\n")
    with pytest.raises(UserError, match="was not written by this command"):
        triples(cohort, tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_text() == "mine\n"


@pytest.mark.slow
def test_paths_are_relative_to_the_triples_and_not_to_where_the_command_ran(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    (row, *_) = triples(cohort, Path("deep/triples.csv"))
    assert row["registered_prior"].startswith("triples/registered/")
    assert read_manifest(Path("deep/triples.csv"), need=("path", "prior")).samples()[0].registered_prior.is_file()


def test_instructions_say_what_changed(cohort: Path, tmp_path: Path) -> None:
    rows = triples(cohort, tmp_path / "rules.csv", register="off")
    changed = [row for row in rows if row["diagnosis"] != row.get("prior_diagnosis", row["diagnosis"])]
    assert all("registered_prior" in row and not row["registered_prior"] for row in rows)
    assert {row["instruction"] for row in rows} - {"No change."} and len(changed) < len(rows)
    words = triples(cohort, tmp_path / "impression.csv", register="off", progression="impression")
    assert all(row["instruction"] in row["text"] for row in words)
    assert not any(
        row["instruction"] for row in triples(cohort, tmp_path / "none.csv", register="off", progression="none")
    )


def test_texts_that_name_no_finding_are_counted(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "journeys", str(cohort / "train.csv"), "--progression", "rules", "--register", "off"]
    assert main([*words, "--columns", "text=report", "--out", str(tmp_path / "a.csv")]) == 0
    with_reports = capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "b.csv")]) == 0
    with_texts = capsys.readouterr().err
    assert "instructions name a change" in with_reports
    # The texts word a clinical table, which does not say what is absent.
    assert "say neither what changed nor that nothing did" in with_texts and "--columns text=NAME" in with_texts


@pytest.mark.slow
def test_the_same_command_gives_the_same_triples(cohort: Path, tmp_path: Path) -> None:
    first = triples(cohort, tmp_path / "triples.csv", max_days=300, pairs="all")
    again = triples(cohort, tmp_path / "triples.csv", max_days=300, pairs="all")
    assert first == again and all(float(row["days"]) <= 300 for row in first)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-days", "0"], "no pair is left"),
        (["--register", "elastic"], "--register"),
        (["--progression", "magic"], "--progression"),
        (["--out", "triples.txt"], "name a CSV file"),
        (["--progression", "llm"], "MEDLOOM_LLM_URL"),
        (["--progression", "llm", "--llm-url", "https://example.org/v1", "--llm-model", "m"], "--reports-may-leave"),
        (["--columns", "time=when"], "no column 'when' for time"),
    ],
)
def test_mistakes(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = ["data", "journeys", str(cohort / "train.csv"), "--columns", "text=report", "--register", "off"]
    given += ["--out", str(tmp_path / "out.csv"), *words]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out.csv").exists()


def test_a_score_that_is_no_correlation(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the setting min_score is 2"):
        run_command("data journeys", data=cohort / "train.csv", out=tmp_path / "out.csv", min_score=2)
