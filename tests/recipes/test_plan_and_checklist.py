"""From a plan over an evaluation and its cards to a checklist."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.spec import ImageSpec, Intensity
from medloom.data.manifest import read_manifest
from medloom.data.splits import make_split
from medloom.phantom.cohort import count_virtual, mark_cohort
from medloom.phantom.cohort_spec import CohortSpec
from medloom.recipes.checklist import Config, run
from medloom.recipes.commands import run_command

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation" / "images"))
from drawn import drawn_set

PLAN = """\
- metric: excess Frechet distance
  features: pixels
  upper_at_most: 5
  reason: more than that is seen by eye
  n: 40
  power: a simulation
- metric: texts with an identifier
  upper_at_most: 0.2
  reason: a fifth would be found by eye
  n: 1000
  power: all images that there are
- {metric: excess of copies, upper_at_most: 0.05, reason: none may be copied, n: 40, power: as above}
"""
QUICK: dict[str, Any] = {"features": ("pixels",), "label": "none", "image_size": (16,), "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images of a folder that looks like a cohort's, synthetic ones, a run, a plan, and two reports."""
    root = tmp_path_factory.mktemp("planned")
    for name, count, seed, patients in (("real", 80, 1, True), ("train", 40, 0, True), ("synthetic", 48, 2, False)):
        drawn_set(root / name, count, seed, patients=patients)
    mark_cohort(root / "real", CohortSpec(patients=40))
    (root / "plan.yaml").write_text(PLAN)
    made_run(root / "run", root / "train" / "manifest.csv", {"virtual_images": 40})
    given = {"real": root / "real" / "manifest.csv", "synthetic": root / "synthetic" / "manifest.csv", **QUICK}
    only = ("fidelity", "identifiers")
    run_command("evaluate images", out=root / "bare", only=("identifiers",), **given)
    run_command("evaluate images", out=root / "report", plan=root / "plan.yaml", model=root / "run", only=only, **given)
    return root


def made_run(folder: Path, manifest: Path, population: dict[str, Any]) -> Path:
    """A run folder that says what it was trained on."""
    seen = read_manifest(manifest, need=("path",))
    window = {name: Intensity("window", "grey level", 0, 255) for name in ("dark", "light")}
    options = {"task": "text2image", "loop": {"steps": 10, "seed": 3, "batch": 4}, "validation": 0.1, "patch": []}
    identity = {"options": options, "spec": ImageSpec((16, 16), 1, "pad", window).to_dict()}
    column = {"name": "age", "low": 21.0, "high": 88.0}
    written = {"split": make_split(seen, ["train"] * len(seen)).to_dict(), "inherited_splits": []}
    written |= {"images_are_patients": False, "identity": identity, "columns": [column]}
    written |= {"environment": {"medloom": "0.1.0", "torch": "2"}}
    if population:
        counts = {"images": len(seen), "modalities": {"dark": 20, "light": 20}, "before": [None]}
        written["population"] = {**counts, **population}
    write_json(folder / "run.json", written)
    write_json(folder / "index.json", {"family": "diffusion"})
    (folder / "model").mkdir()
    return folder


def scores(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


def test_the_plan_stands_in_scores_and_report(root: Path) -> None:
    found = scores(root / "report")
    plan = found["plan"]
    assert plan["hash"] == hashlib.sha256((root / "plan.yaml").read_bytes()).hexdigest()[:16] and plan["text"] == PLAN
    frechet, texts, copies = plan["metrics"]
    assert frechet["observed"] == 40 and not frechet["note"]
    assert texts["note"] == "smaller than planned: 48 images instead of 1000" and texts["answer"] == "holds"
    assert copies["line"].startswith("NOT SHOWN: excess of copies was not measured") and plan["answer"] != "holds"
    primary = {(metric["name"], metric["extractor"]) for metric in found["metrics"] if not metric["exploratory"]}
    assert primary == {("excess Frechet distance", "pixels"), ("texts with an identifier", "")}
    page = (root / "report" / "report.html").read_text()
    assert page.index('class="answers"') < page.index("<h2>The plan</h2>") < page.index("What was compared")
    assert page.count("<strong>primary</strong>") == 2 and '<span class="soft">exploratory</span>' in page
    bare = (root / "bare" / "report.html").read_text()
    assert bare.count("exploratory") == 1 and "No plan was given" in bare
    assert all(metric["exploratory"] for metric in scores(root / "bare")["metrics"])


def test_openings_survive_another_folder_and_name_a_late_plan(root: Path) -> None:
    assert scores(root / "bare")["openings"] == {"count": 1, "plans": 0, "note": "", "lack": ""}
    late = scores(root / "report")["openings"]
    assert (late["count"], late["plans"]) == (2, 1) and "opened without a plan before" in late["note"]
    assert "The held-out images were opened 2 times; with one plan." in (root / "report" / "report.html").read_text()


def test_a_plan_is_read_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text("- {metric: coverage, value_at_least: 0.1, n: 3, power: all}")
    none = str(tmp_path / "none.csv")
    words = ["--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "images", "--real", none, "--synthetic", none, *words]) == 2
    error = capsys.readouterr().err
    assert "rule 1: it has no reason; give reason: TEXT" in error and "none.csv" not in error
    for command in ("whatif", "edits"):
        assert main(["evaluate", command, none, *words]) == 2
        assert "metric 'coverage'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cards_open_with_the_answers(root: Path) -> None:
    data, model = ((root / "report" / f"{name}_card.md").read_text() for name in ("data", "model"))
    for card in (data, model):
        answers = card[card.index("## Answers") : card.index("\n## ", card.index("## Answers") + 5)]
        assert answers.count("\n| ") == 2 + 5 and "| Do they copy patients' images? | **NOT MEASURED** |" in answers
        assert "It was not measured: it needs --train, the manifest of the images that the generator" in answers
        assert card.index("## Answers") < card.index("## Facts") < card.index("## Measured")
        assert "| largest size validated | 16 x 16 pixels" in card
        assert "It does not show that the method does so in patients." in card
        assert str(root) not in card
    for part in ("## Intended use", "teaching", "## Out of scope", "Diagnosis", "Forecasts for a patient"):
        assert part in model
    source = model[model.index("## Source population") :]
    assert "| training images | 40 |" in source and "| modalities | dark (20 images), light (20 images) |" in source
    assert "| columns in training | age: 21 to 88 |" in source
    assert "40 of 40 training images are of a phantom's virtual patients" in source


@pytest.mark.parametrize(("population", "is_phantom"), [({"virtual_images": 0}, False), ({}, True)])
def test_a_model_of_patients_is_not_called_a_phantoms(
    root: Path, tmp_path: Path, population: dict[str, Any], is_phantom: bool
) -> None:
    """A run that does not know it is judged by the images that it is compared with, which are a phantom's here."""
    model = made_run(tmp_path / "run", root / "train" / "manifest.csv", population)
    given = {"real": root / "real" / "manifest.csv", "synthetic": root / "synthetic" / "manifest.csv", **QUICK}
    run_command("evaluate images", out=tmp_path / "out", model=model, only=("identifiers",), **given)
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert ("A phantom can show" in card) == is_phantom
    assert ("not recorded by the version" in card) == (not population)


def test_images_of_a_cohort_are_known_by_its_marker(root: Path, tmp_path: Path) -> None:
    files = [root / "real" / "0.png", root / "real" / "images" / "1.dcm", root / "train" / "0.png"]
    assert count_virtual(files) == 2
    (tmp_path / "cohort.json").write_text('{"SYNTHETIC": "YES", "patients": 3}')
    assert count_virtual([tmp_path / "0.png"]) == 0
    (tmp_path / "cohort.json").write_text("{")
    assert count_virtual([tmp_path / "0.png"]) == 0


def rows_of(path: Path) -> dict[str, list[str]]:
    """Number of an item to its cells."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")][2:]
    found = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {cells[0]: cells for cells in found}


def checklist(out: Path, **given: Any) -> dict[str, list[str]]:
    rows = rows_of(run(Config(out=out, **given)))
    text = out.read_text()
    gaps = sum("GAP" in cells[3] for cells in rows.values())
    part = sum("To add by hand" in cells[3] for cells in rows.values())
    assert text.splitlines()[-1] == (
        f"{len(rows) - gaps} of {len(rows)} items are filled, {part} of them in part; {gaps} are open."
    )
    assert all(bool(cells[4]) != ("GAP" in cells[3]) for cells in rows.values())
    return rows


def test_claim_from_a_run_a_report_and_both(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.md"
    alone = checklist(out, data=root / "run")
    assert list(alone) == [str(number) for number in range(1, 45)]
    assert alone["25"][3].startswith("steps 10, batch 4") and "virtual patients" in alone["7"][3]
    assert "GAP" in alone["37"][3] and "GAP" in alone["21"][3]
    report = checklist(out, data=root / "report")
    assert "GAP" in report["25"][3] and "GAP" in report["7"][3]
    assert "a simulation" in report["21"][3] and "smaller than planned" in report["21"][3]
    assert "primary, by a plan: excess Frechet distance, texts with an identifier" in report["28"][3]
    assert scores(root / "report")["plan"]["hash"] in report["42"][3]
    both = checklist(out, data=root / "run", report=root / "report")
    filled = [{number for number, cells in rows.items() if "GAP" not in cells[3]} for rows in (alone, report, both)]
    assert filled[2] == filled[0] | filled[1] and filled[0] - filled[1] and filled[1] - filled[0]
    assert str(root) not in out.read_text() and "hashes of their weights differ" not in out.read_text()
    # What no file can know is never filled.
    assert {"2", "5", "8", "11", "13", "16", "33", "34", "38", "44"}.isdisjoint(filled[2])


def test_tripod_has_its_items(root: Path, tmp_path: Path) -> None:
    rows = checklist(tmp_path / "t.md", data=root / "run", report=root / "report", standard="tripod")
    assert len({number.rstrip("abcdefg") for number in rows}) == 27 and "23b" in rows and "12g" in rows
    assert "GAP" in rows["17"][3] and "80 %" not in rows["10"][3] and "a simulation" in rows["10"][3]


def test_a_report_on_another_model_is_said(root: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", root / "train" / "manifest.csv", {"virtual_images": 0})
    np.save(other / "model" / "weights.npy", np.ones(3))
    run(Config(data=other, report=root / "report", out=tmp_path / "c.md"))
    assert "The report is on another model than that of the run" in (tmp_path / "c.md").read_text()
    assert "GAP" in rows_of(tmp_path / "c.md")["7"][3]


def test_the_words_of_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.md"
    assert main(["checklist", str(root / "report"), "--standard", "tripod", "--out", str(out)]) == 0
    assert re.search(r"TRIPOD\+AI: \d+ items are filled, \d+ are open", capsys.readouterr().err) and out.is_file()


@pytest.mark.parametrize(
    ("data", "report", "standard", "message"),
    [
        ("run", None, "clam", "unknown guideline in --standard 'clam', did you mean 'claim'"),
        ("train", None, "claim", "is neither a run folder that `medloom train` wrote nor a report"),
        ("nowhere", None, "claim", "is neither a run folder"),
        ("run", "train", "claim", r"train has no scores\.json; give a folder that `medloom evaluate` wrote"),
        ("report", "bare", "claim", "is a report, and --report names another one"),
        ("stopped", None, "claim", "was interrupted; run the same evaluation again"),
    ],
)
def test_what_no_checklist_is_made_of(
    root: Path, tmp_path: Path, data: str, report: str | None, standard: str, message: str
) -> None:
    write_json(root / "stopped" / "scores.json", {"schema": 1, "finished": False})
    given = None if report is None else root / report
    with pytest.raises(UserError, match=message):
        run(Config(data=root / data, report=given, standard=standard, out=tmp_path / "c.md"))
    assert not (tmp_path / "c.md").exists()
