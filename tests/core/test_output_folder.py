"""One writer at a time, in a folder that holds nothing else."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.core.files import atomic_file, write_json
from medloom.core.output_folder import LOCK, output_folder

HOLDER = """
import sys, time
from pathlib import Path
from medloom.core.output_folder import output_folder
with output_folder(Path(sys.argv[1]), "run.json") as out:
    (out / "half.csv").write_text("cut off")
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    """Another process that writes the folder."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="already has other content"), output_folder(tmp_path, "run.json"):
        pass
    with pytest.raises(UserError, match="is a file"), output_folder(tmp_path / "thesis.tex", "run.json"):
        pass
    assert names(tmp_path) == ["thesis.tex"]
    (tmp_path / "run.json").write_text("{}")
    with output_folder(tmp_path, "run.json") as out, output_folder(tmp_path, "run.json") as again:
        assert out == again == tmp_path and LOCK in names(tmp_path)
    assert names(tmp_path) == ["run.json", "thesis.tex"]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "images").mkdir()
    for name in (".a-0a1b2c3d.partial.png", "images/.000007-0a1b2c3d.partial.png", "images/.b-00000000.partial"):
        (tmp_path / name).touch()
    (tmp_path / ".mine.partial").touch()
    with output_folder(tmp_path, "run.json"):
        pass
    assert names(tmp_path) == [".mine.partial", "images", "run.json"] and names(tmp_path / "images") == []


def test_two_writers_of_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "out"
    other = hold(folder)
    known = json.loads((folder / LOCK).read_text())
    try:
        expected = pytest.raises(UserError, match=f"process {known['process']} on .* is writing it; wait")
        with expected, output_folder(folder, "run.json"):
            pass
        assert json.loads((folder / LOCK).read_text()) == known
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    # It had not written its marker yet: the lock says whose the folder is.
    with output_folder(folder, "run.json"):
        assert f"process {known['process']} on " in caplog.text and "its lock is taken over" in caplog.text
    assert names(folder) == ["half.csv"]


def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with output_folder(folder, "run.json"):
        write_json(folder / "deep" / "run.json", {})
        folder.rename(tmp_path / "moved")
        with pytest.raises(UserError, match="was removed or moved while this command was writing it"):
            write_json(folder / "deep" / "more.json", {})
        folder.mkdir()
        with pytest.raises(UserError, match="was removed or moved"), atomic_file(folder / "a.csv"):
            pass
        shutil.rmtree(folder)
    assert names(tmp_path) == ["moved"]
