"""`medloom demo`: the whole chain, with few patients and steps."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.recipes.commands import run_command
from medloom.recipes.demo import ARMS

SMALL = ["--patients", "80", "--steps", "10", "--rows", "3", "--n", "1"]


@pytest.mark.slow
def test_the_chain_ends_with_a_report_and_what_to_try_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *SMALL]) == 0
    told = capsys.readouterr()
    assert f"Read the report: {out / 'report' / 'report.html'}" in told.out + told.err
    lines = (told.out + told.err).splitlines()
    start = lines.index("Try next:") + 1
    programs = {shlex.split(line)[0] for line in lines[start : start + 3]}
    assert len(programs) == 1 and shutil.which(programs.pop()) is not None, "they work in this shell as they are"
    assert main([*shlex.split(lines[start])[1:], "--steps", "2", "--device", "cpu"]) == 0
    assert re.search(r"\d of 8 images asked for .pleural effusion, severe, on the right. show it", told.out + told.err)
    assert "effects of smoking are 5 times those of the literature" in (out / "report" / "report.html").read_text()
    assert "smoking has 5 times the effects" in told.out + told.err
    scores = json.loads((out / "report" / "scores.json").read_text())
    measured = {metric["subset"] for metric in scores["metrics"] if metric["name"].startswith("mean effect")}
    assert measured == set(ARMS) and all(metric["low"] is None for metric in scores["metrics"])
    # Sixty training patients support hardly any change, and three patients have no interval for a verdict to stand on.
    assert {verdict["answer"] for verdict in scores["verdicts"]} <= {"inconclusive"}
    assert any("are an extrapolation" in note for note in scores["notes"])
    page = (out / "report" / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "SYNTHETIC" in page
    assert ">thoracic cavity</th>" in page, "regions of the held mask have the cohort's names"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already has other content"):
        run_command("demo", out=tmp_path, patients=80, steps=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
