"""`medloom evaluate edits`: metrics of edits that are known to be right, and of edits that change nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.core.files import write_json
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.data.images import write_image
from medloom.data.manifest import read_manifest
from medloom.data.tables import read_table, write_csv
from medloom.evaluation.edits.measure import own_identified
from medloom.generation.requests import origins
from medloom.generators.generated_images import HEADER
from medloom.phantom.causal import evolved
from medloom.phantom.truth import Cohort
from medloom.recipes.commands import run_command

SIZE = 48


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients seen twice, the first time twice, and the triples of them."""
    out = tmp_path_factory.mktemp("edits") / "cohort"
    options = {"patients": 50, "size": SIZE, "visits": 2, "retests": True, "complete": True, "test": 0.9, "workers": 1}
    run_command("data phantom", out=out, **options)
    given = {"register": "off", "columns": {"text": "report"}}
    run_command("data journeys", data=out / "test.csv", out=out / "triples.csv", **given)
    return out


def pretend(cohort: Path, out: Path, column: str, arms: tuple[str, ...] = ("edit",)) -> Path:
    """Edits that are files of the cohort: the true later images, or the earlier ones."""
    spec = ImageSpec((SIZE, SIZE), 1, "pad", {"CT": Intensity("window", HU, -1024, 476)})
    write_json(out / "edits.json", {"SYNTHETIC": "YES", "spec": spec.to_dict()})
    samples = read_manifest(cohort / "triples.csv", need=("path", "prior")).samples()
    rows: list[list[Any]] = []
    for sample, origin in zip(samples, origins(cohort / "triples.csv", samples), strict=True):
        paths = {"later": sample.path, "prior": sample.condition.prior}
        made, prior = (os.path.relpath(paths[name], out) for name in (column, "prior"))
        for arm in arms:
            text = sample.condition.text if arm == "edit" else "No change."
            cells = [len(rows), made, origin.source, None, arm, None, None, 0, origin.patient, "CT", None]
            rows.append([*cells, text, prior])
    write_csv(out / "manifest.csv", [*HEADER, "text", "prior"], rows)
    return out / "manifest.csv"


def follow(cohort: Path, out: Path, size: Callable[[float, float], float]) -> Path:
    """Edits of the prior images whose disease alone changes: to a size given that of the prior and the later image."""
    truth, manifest = Cohort(cohort), pretend(cohort, out, "prior")
    table = read_table(manifest)
    samples = read_manifest(cohort / "triples.csv", need=("path", "prior")).samples()
    for number, (sample, row) in enumerate(zip(samples, table.rows, strict=True)):
        assert sample.condition.prior_file is not None
        (patient, visit), (_, later) = truth.acquisition(sample.condition.prior_file), truth.acquisition(sample.path)
        then = evolved(truth.spec.patient(patient.number), size(visit.size, later.size))
        image = truth.spec.image(truth.spec.render(then, visit).values, HU)
        write_image(out / f"{number}.dcm", image, {"SYNTHETIC": "YES"})
        row[table.header.index("path")] = f"{number}.dcm"
    write_csv(manifest, table.header, table.rows)
    return manifest


def scores(cohort: Path, edits: Path, out: Path, **options: Any) -> dict[str, Any]:
    given = {"reference": cohort / "triples.csv", "truth": cohort, **options}
    run_command("evaluate edits", data=edits, out=out, **given)
    return json.loads((out / "scores.json").read_text())


def metric(found: dict[str, Any], name: str, subset: str) -> dict[str, Any]:
    (one,) = [entry for entry in found["metrics"] if name in entry["name"] and entry["subset"] == subset]
    return one


def test_the_true_later_image_is_a_right_edit(cohort: Path, tmp_path: Path) -> None:
    found = scores(cohort, pretend(cohort, tmp_path, "later"), tmp_path / "report")
    right = metric(found, "right direction", "all")
    # Measured with the mask of another position, which costs a few.
    assert right["value"] > 0.7 and right["reference"]["value"] > 0.9
    assert metric(found, "fraction of the true change", "all")["value"] == pytest.approx(1, abs=0.25)
    likeness = metric(found, "similarity to the later", "edit")
    assert likeness["value"] > 0.999 > likeness["reference"]["value"]
    assert metric(found, "own patient", "edit")["value"] == 1.0
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<img") == page.count("<figcaption>") == 1 and "Read a row from left to right" in page
    assert "SYNTHETIC" in page and "http" not in page.replace("http-equiv", "")


def test_a_plan_of_edits_opens_the_triples(cohort: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    stated = "reason: why, n: 9999, power: all there are"
    plan.write_text(
        f"- {{metric: finding moved in the right direction on the right side, value_at_least: 0.5, {stated}}}"
    )
    found = scores(cohort, pretend(cohort, tmp_path, "later"), tmp_path / "report", plan=plan)
    (answer,) = found["plan"]["metrics"]
    assert answer["answer"] == "holds" and answer["note"].startswith("smaller than planned")
    assert [m["name"] for m in found["metrics"] if not m["exploratory"]] == [answer["measured"][0]]
    assert "planned n" in (tmp_path / "report" / "report.html").read_text()
    # Other tests have opened these triples without a plan.
    entries = json.loads((cohort / "openings.json").read_text())["openings"]
    assert found["openings"]["plans"] == 1 and found["openings"]["count"] == len(entries)
    assert entries[-1]["plan"] == found["plan"]["hash"] and entries[-1]["command"] == "evaluate edits"


def test_a_copy_keeps_everything_and_moves_nothing(cohort: Path, tmp_path: Path) -> None:
    found = scores(cohort, pretend(cohort, tmp_path, "prior", ("edit", "nochange", "back")), tmp_path / "report")
    assert metric(found, "right direction", "all")["value"] == 0.0
    assert metric(found, "fraction of the true change", "all")["value"] == 0.0
    likeness = metric(found, "similarity to the later", "edit")
    assert likeness["value"] == likeness["reference"]["value"]
    for name, arm in (("without an instruction", "nochange"), ("reversal", "back")):
        assert metric(found, name, arm)["value"] == 0.0
    answers = {(verdict["attribute"], verdict["metric"]): verdict["answer"] for verdict in found["verdicts"]}
    assert answers["heart ratio", "change of what is not named"] == "holds"
    assert answers["nochange", "change without an instruction"] == "holds"
    assert answers["all", "finding moved in the right direction on the right side"] == "fails"
    # What a verdict judges is not judged again by its reference.
    assert metric(found, "without an instruction", "nochange")["reading"] == "verdict: holds"


def fractions(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {v["attribute"]: v for v in found["verdicts"] if v["metric"] == "fraction of the true change"}


@pytest.mark.slow
def test_an_edit_that_changes_the_finding_alone_makes_the_whole_change(cohort: Path, tmp_path: Path) -> None:
    found = scores(cohort, follow(cohort, tmp_path, lambda before, later: later), tmp_path / "report")
    verdicts = fractions(found)
    assert {"effusion", "pneumonia"} <= set(verdicts)
    for finding, verdict in verdicts.items():
        assert verdict["value"] == pytest.approx(1, abs=0.1), finding
        # Each finding has fewer patients than an interval needs, and is judged all the same.
        assert metric(found, "fraction of the true", finding)["n"] < 8
        assert (verdict["low"], verdict["answer"]) == (None, "inconclusive")
    assert metric(found, "fraction of the true", "all")["value"] == pytest.approx(1, abs=0.1)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<td>effusion</td><td>fraction of the true change</td>" in page and "0.8 to 1.2</td>" in page
    half = scores(cohort, follow(cohort, tmp_path / "half", lambda a, b: (a + b) / 2), tmp_path / "half" / "report")
    assert all(0.1 < verdict["value"] < 0.8 for verdict in fractions(half).values())
    gone = scores(cohort, follow(cohort, tmp_path / "gone", lambda a, b: 0.0), tmp_path / "gone" / "report")
    # Pneumonias of this cohort shrink; an editor that erases them does more than was asked for.
    assert fractions(gone)["pneumonia"]["value"] > 1.2


def test_without_a_truth_and_without_triples(cohort: Path, tmp_path: Path) -> None:
    edits = pretend(cohort, tmp_path, "later")
    found = scores(cohort, edits, tmp_path / "paired", truth=None)
    assert {entry["name"] for entry in found["metrics"]} == {
        "similarity to the later image (SSIM)",
        "change",
        "own patient identified",
    }
    alone = scores(cohort, edits, tmp_path / "alone", truth=None, reference=None)
    assert [entry["name"] for entry in alone["metrics"]] == ["change"]


@pytest.mark.slow
def test_a_network_looks_for_the_anatomy(cohort: Path, tmp_path: Path) -> None:
    given = {"truth": None, "train": cohort / "train.csv", "judge": ("mask",), "steps": 30, "image_size": (SIZE,)}
    found = scores(cohort, pretend(cohort, tmp_path, "later"), tmp_path / "report", **given)
    # Edits that are the later images are as these are.
    for name in ("on the prior image", "outside of the anatomy", "more parts"):
        entry = metric(found, name, "mask")
        assert entry["value"] == entry["reference"]["value"], name
    placed = metric(found, "on the later image's mask", "mask")
    assert placed["value"] > 0.5 and f"the later images themselves: {placed['value']:.2f}" in placed["note"]
    assert any("mean Dice with the masks of held-out real patients" in note for note in found["notes"])


def test_a_gate_on_edits(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edits = pretend(cohort, tmp_path, "prior")
    words = ["evaluate", "edits", str(edits), "--reference", str(cohort / "triples.csv"), "--out", str(tmp_path / "r")]
    (tmp_path / "gate.yaml").write_text("- {metric: change, of: edit, value_at_least: 1}")
    assert main([*words, "--gate", str(tmp_path / "gate.yaml")]) == 3
    assert "FAIL: change of edit 0 [0, 0]" in capsys.readouterr().err and (tmp_path / "r" / "report.html").is_file()
    (tmp_path / "gate.yaml").write_text("- {metric: own patient identified, of: edit, value_at_least: 0.8}")
    assert main([*words, "--gate", str(tmp_path / "gate.yaml")]) == 0


def test_own_patients_by_hand() -> None:
    later = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert own_identified(later + 0.1, later, list("abcd")).tolist() == [1, 1, 1, 1]
    swapped = own_identified(later[[1, 0, 2, 3]], later, list("abcd"))
    assert (swapped[:2] <= 0.5).all() and swapped[2:].tolist() == [1, 1]


def test_mistakes(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edits = str(pretend(cohort, tmp_path, "later"))
    other = cohort / "other.csv"
    other.write_text((cohort / "triples.csv").read_text() + "\n")
    out = ["--out", str(tmp_path / "report")]
    for words, message in (
        ([edits, "--truth", str(cohort)], "--truth needs --reference"),
        ([edits, "--judge", "age", "--train", edits], "--judge needs --reference"),
        ([edits, "--reference", edits, "--judge", "age"], "--judge and --train go together"),
        ([edits, "--reference", edits, "--train", edits], "--judge and --train go together"),
        ([edits, "--real", edits], "unknown option --real"),
        ([str(cohort / "triples.csv")], "holds no edits.json"),
        ([edits, "--reference", str(other)], "not made from the rows of --reference"),
    ):
        assert main(["evaluate", "edits", *words, *out]) == 2, words
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, (words, error)
