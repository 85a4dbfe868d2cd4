"""Openings of held-out images: what counts, what does not, and that counting never ends an evaluation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medloom.core.output_folder import output_files
from medloom.data.manifest import Manifest, read_manifest
from medloom.evaluation.report import openings
from medloom.evaluation.report.openings import OPENINGS, count_opening
from medloom.evaluation.report.plan import Plan

COMMAND = "evaluate images"


def plan(digest: str) -> Plan:
    return Plan("plan.yaml", digest, f"2026-01-01T00:00:0{digest[-1]}Z", "", ())


@pytest.fixture
def held_out(tmp_path: Path) -> Manifest:
    return held_out_in(tmp_path / "data")


def held_out_in(folder: Path, kept: int = 4, note: str = "") -> Manifest:
    folder.mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(bytes([number]) * 100)
    rows = [f"{number}.png,CT,p{number},{note}" for number in range(kept)]
    (folder / "test.csv").write_text("\n".join(["path,modality,patient_id,note", *rows]) + "\n")
    return read_manifest(folder / "test.csv", need=("path",))


def entries(manifest: Manifest) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(manifest.source.with_name(OPENINGS).read_text())["openings"]
    return found


def test_every_other_folder_is_an_opening_and_a_resumed_one_is_none(held_out: Manifest, tmp_path: Path) -> None:
    first = count_opening(held_out, COMMAND, None, tmp_path / "a" / "report", "x")
    assert first.sentence == "The held-out images were opened once; without a plan."
    assert count_opening(held_out, COMMAND, None, tmp_path / "a" / "report", "x") == first
    assert count_opening(held_out, COMMAND, None, tmp_path / "b" / "report", "x").count == 2
    # Other images in the same folder are another look at the held-out ones.
    assert count_opening(held_out, COMMAND, None, tmp_path / "b" / "report", "y").count == 3
    assert len(entries(held_out)) == 3


def test_plans_are_counted_and_a_change_is_named(held_out: Manifest, tmp_path: Path) -> None:
    assert count_opening(held_out, COMMAND, plan("a1"), tmp_path / "r1", "x").note == ""
    same = count_opening(held_out, COMMAND, plan("a1"), tmp_path / "r2", "y")
    assert same.sentence == "The held-out images were opened 2 times; with one plan." and same.hashed.endswith("01Z")
    changed = count_opening(held_out, COMMAND, plan("b2"), tmp_path / "r1", "x")
    assert (changed.count, changed.plans) == (3, 2)
    assert (
        "opened 3 times; with 2 different plans. The plan was changed after they had been opened on" in changed.sentence
    )
    assert "with the plan a1" in changed.note
    # The first plan, resumed: it was first.
    assert count_opening(held_out, COMMAND, plan("a1"), tmp_path / "r1", "x").note == ""
    dropped = count_opening(held_out, COMMAND, None, tmp_path / "r3", "x")
    assert "had the plan b2, which was not given" in dropped.note and dropped.hashed == ""


def test_a_plan_after_an_opening_without_one_is_named(held_out: Manifest, tmp_path: Path) -> None:
    count_opening(held_out, COMMAND, None, tmp_path / "r1", "x")
    assert "opened without a plan before" in count_opening(held_out, COMMAND, plan("a1"), tmp_path / "r2", "x").note
    # A plan of another command has other metrics.
    other = count_opening(held_out, "evaluate edits", plan("b2"), tmp_path / "r3", "x")
    assert other.note == "" and (other.count, other.plans) == (3, 2)


def test_the_plan_of_a_resumed_evaluation_was_hashed_at_its_first_start(held_out: Manifest, tmp_path: Path) -> None:
    early, late = Plan("p", "a", "early", "", ()), Plan("p", "a", "late", "", ())
    count_opening(held_out, COMMAND, early, tmp_path / "r", "x")
    assert count_opening(held_out, COMMAND, late, tmp_path / "r", "x").hashed == "early"
    assert count_opening(held_out, COMMAND, late, tmp_path / "other", "x").hashed == "late"


def test_images_are_known_by_their_contents(held_out: Manifest, tmp_path: Path) -> None:
    count_opening(held_out, COMMAND, None, tmp_path / "r1", "x")
    renamed = held_out_in(tmp_path / "data", note="a new column's value")
    assert count_opening(renamed, COMMAND, None, tmp_path / "r2", "x").count == 2
    fewer = held_out_in(tmp_path / "data", kept=3)
    assert count_opening(fewer, COMMAND, None, tmp_path / "r3", "x").count == 1 and len(entries(held_out)) == 3


def test_the_file_holds_no_path(held_out: Manifest, tmp_path: Path) -> None:
    count_opening(held_out, COMMAND, plan("a1"), tmp_path / "secret" / "report", "x")
    text = held_out.source.with_name(OPENINGS).read_text()
    assert "secret" not in text and str(tmp_path) not in text and "/" not in text
    assert entries(held_out)[0]["out"] == "report"


NO_TEXTS = json.dumps({"openings": [{name: ["a list"] for name in openings.ENTRY}]})


@pytest.mark.parametrize("content", ["{", "[]", '{"openings": 3}', '{"openings": [{"time": 1}]}', NO_TEXTS])
def test_a_damaged_file_is_left_and_said(held_out: Manifest, tmp_path: Path, content: str) -> None:
    path = held_out.source.with_name(OPENINGS)
    path.write_text(content)
    found = count_opening(held_out, COMMAND, None, tmp_path / "r", "x")
    assert found.sentence == (
        "Openings of the held-out images cannot be counted: openings.json next to test.csv cannot be read or written."
    )
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_is_said(
    held_out: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings.os, "access", lambda *_: False)
    found = count_opening(held_out, COMMAND, None, tmp_path / "r", "x")
    assert found.lack == "the folder of test.csv cannot be written" and found.count == 0
    assert not held_out.source.with_name(OPENINGS).exists()


def test_a_held_lock_is_waited_for_and_then_said(
    held_out: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings, "PATIENCE", 0.1)
    with output_files(held_out.source.with_name(OPENINGS).absolute()):
        assert count_opening(held_out, COMMAND, None, tmp_path / "r", "x").lack
    assert count_opening(held_out, COMMAND, None, tmp_path / "r", "x").count == 1


MANY = """
import sys
from pathlib import Path
from medloom.data.manifest import read_manifest
from medloom.evaluation.report.openings import count_opening
manifest = read_manifest(Path(sys.argv[1]), need=("path",))
for number in range(10):
    assert count_opening(manifest, "evaluate images", None, Path(f"{sys.argv[2]}-{number}"), "x").count
"""


def test_two_processes_lose_nothing(held_out: Manifest, tmp_path: Path) -> None:
    words = [[sys.executable, "-c", MANY, str(held_out.source), str(tmp_path / name)] for name in "ab"]
    started = [subprocess.Popen(each) for each in words]
    assert [process.wait(120) for process in started] == [0, 0]
    assert len(entries(held_out)) == 20
    assert sorted(path.name for path in held_out.source.parent.iterdir() if path.suffix != ".png") == [
        OPENINGS,
        "test.csv",
    ]
