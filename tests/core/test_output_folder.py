"""One writer at a time, in a folder that holds nothing else."""

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.core.files import atomic_file, held_folders, temporary_folder, write_json, write_text
from medloom.core.output_folder import LOCK, output_files, output_folder
from medloom.core.workers import over_processes

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


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(UserError, match="afile is no folder"), output_folder(tmp_path / "afile" / "x", "run.json"):
        pass
    with pytest.raises(UserError, match="afile is no folder"), output_files(tmp_path / "afile" / "x.csv"):
        pass
    with pytest.raises(UserError, match="File name too long"), output_folder(tmp_path / ("a" * 300), "run.json"):
        pass
    assert names(tmp_path) == ["afile"]


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


def test_whatever_fails_in_a_folder_that_vanished_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    expected = pytest.raises(UserError, match="was removed or moved while this command was writing it")
    with expected, output_folder(folder, "run.json"):
        folder.rename(tmp_path / "moved")
        (folder / "index.csv").read_text()
    assert held_folders == {} and names(tmp_path) == ["moved"]
    # Its lock is there; that of another process in a folder that took its place is left alone.
    with expected, output_folder(folder, "run.json"):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / LOCK).touch()
        (folder / ".a-0a1b2c3d.partial.csv").touch()
        write_text(folder / "a.csv", "a")
    assert names(folder) == [".a-0a1b2c3d.partial.csv", LOCK]


def write_number(folder: Path, number: int) -> int:
    write_text(folder / "numbers" / f"{number}.txt", str(number))
    return number


def test_processes_write_only_into_a_folder_that_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    work = partial(write_number, folder)
    with output_folder(folder, "run.json"), over_processes(work, range(4), 2, 2) as numbers:
        assert list(numbers) == [0, 1, 2, 3]
    assert names(folder / "numbers") == ["0.txt", "1.txt", "2.txt", "3.txt"]
    with pytest.raises(UserError, match="was removed or moved"), output_folder(tmp_path / "out", "numbers"):
        folder.rename(tmp_path / "moved")
        with over_processes(work, range(4), 2, 2) as numbers:
            list(numbers)
    assert names(tmp_path) == ["moved"]


def test_an_error_leaves_no_incomplete_file_of_other_processes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), output_folder(tmp_path / "out", "run.json") as out:
        write_json(out / "run.json", {})
        (out / ".a-0a1b2c3d.partial.png").touch()
        raise ValueError("broken")
    assert names(tmp_path / "out") == ["run.json"]


def test_a_file_among_others_has_one_writer_and_no_leftovers(tmp_path: Path) -> None:
    table, other = tmp_path / "table.csv", tmp_path / ".other-0a1b2c3d.partial.csv"
    for path in (tmp_path / ".table-0a1b2c3d.partial.csv", tmp_path / ".table-0a1b2c3d.partial", other):
        path.touch()
    with output_files(table):
        with pytest.raises(UserError, match=r"--out .*table\.csv: process .* is writing it"), output_files(table):
            pass
        write_text(table, "a")
    assert names(tmp_path) == [other.name, ".table-0a1b2c3d.partial", table.name]


def test_temporary_folders_have_the_name_of_leftovers(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with temporary_folder(tmp_path / "a.mhd") as folder:
        with output_folder(tmp_path, "run.json"):
            pass
        assert not folder.exists()
