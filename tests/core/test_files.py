"""A reader sees the old file or the new one, never half of one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.core.files import (
    atomic_file,
    atomic_folder,
    explained_content,
    hash_folder,
    is_written,
    make_folder,
    read_json,
    read_mapping,
    remove_leftovers,
    write_json,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("flushed", [True, False])
def test_an_empty_file_is_not_taken_for_a_written_one(flushed: bool, tmp_path: Path) -> None:
    assert not is_written(tmp_path / "none.png") and not is_written(tmp_path)
    (tmp_path / "empty.png").touch()
    assert not is_written(tmp_path / "empty.png")
    with atomic_file(tmp_path / "empty.png", flushed) as temporary:
        temporary.write_text("pixels")
    assert is_written(tmp_path / "empty.png") and [path.name for path in tmp_path.iterdir()] == ["empty.png"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").write_text("one")
    (tmp_path / "model").rename(tmp_path / ".model-0a1b2c3d.old.partial")
    (tmp_path / ".model-99999999.partial").mkdir()
    remove_leftovers(tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_a_folder_below_a_file_is_one_sentence(below: str, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("mine")
    target = tmp_path / "afile" / below
    for write in (make_folder, lambda path: write_json(path / "a.json", {})):
        with pytest.raises(UserError, match=rf"cannot make the folder {target}: \S+afile is no folder; name another"):
            write(target)
    assert (tmp_path / "afile").read_text() == "mine"


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write .*: File name too long; give a shorter name"):
        write_json(tmp_path / ("a" * 300), {})
    with pytest.raises(UserError, match="cannot write the file .*: it is a folder; give another name"):
        write_json(tmp_path, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a file system in which nothing can be made")
@pytest.mark.parametrize("write", [make_folder, lambda path: write_json(path, {}), lambda path: open_folder(path)])
def test_a_file_system_that_takes_nothing_is_one_sentence(write: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match=r"cannot (write|make the folder) /proc/\S+: .*; name a writable folder"):
        write(Path("/proc/medloom"))


def open_folder(path: Path) -> None:
    with atomic_folder(path):
        pass


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_another_type_of_json_is_refused_by_the_name_of_the_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json holds no values by name"):
        read_mapping(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json is damaged"), explained_content(tmp_path / "a.json"):
        dict(read_json(tmp_path / "a.json"))["steps"]


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"b": 1, "a": [2]})
    write_json(tmp_path / "b" / "x.json", {"a": [2], "b": 1})
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
