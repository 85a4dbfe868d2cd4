"""Commands that are killed and run again end in the same bytes; and what differs is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import COMMANDS, differences

ROOT = Path(__file__).resolve().parents[2]


def kills(*words: str) -> "subprocess.CompletedProcess[str]":
    """The benchmark in a process of its own, which is in the state of a fresh command."""
    command = [sys.executable, "-m", "benchmarks", "kills", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=1500)


@pytest.mark.slow
def test_a_command_that_is_killed_twice() -> None:
    done = kills("--kills", "2", "--only", "data split")
    assert done.returncode == 0, done.stderr
    name, operations, killed, runs, identical, differed = done.stdout.splitlines()[2].strip("| ").split(" | ")
    assert (name, killed, differed) == ("`data split`", "2", "nothing")
    assert int(operations) > 10 and 1 <= int(runs) == int(identical)


def test_names_and_contents_are_compared(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "a.csv").write_text("a")
    (tmp_path / "other" / "logs" / "events.out.tfevents.1").touch()
    assert differences(tmp_path / "one", tmp_path / "other") == []
    (tmp_path / "other" / "a.csv").write_text("b")
    (tmp_path / "other" / ".b-0a1b2c3d.partial").mkdir()
    assert differences(tmp_path / "one", tmp_path / "other") == [".b-0a1b2c3d.partial", "a.csv"]


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_ten_kills() -> None:
    done = kills("--kills", "10", "--seed", "1", "--only", *list(COMMANDS)[::2])
    assert done.returncode == 0, done.stdout + done.stderr
