"""A reader sees the old file or the new one, never half of one."""

from pathlib import Path

import pytest

from medloom.core.files import (
    atomic_file,
    atomic_folder,
    hash_folder,
    is_written,
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


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"b": 1, "a": [2]})
    write_json(tmp_path / "b" / "x.json", {"a": [2], "b": 1})
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
