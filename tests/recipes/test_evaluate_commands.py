"""The three evaluations as commands: their examples, and commands from Python."""

from pathlib import Path

import pytest

from medloom.cli.main import split_command
from medloom.core.config import parse
from medloom.core.errors import UserError
from medloom.recipes.commands import commands, resolve, run_command

NAMES = [name for name in commands() if name.startswith(("evaluate", "compare"))]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_can_be_typed(name: str) -> None:
    config, _ = resolve(name)
    program, *words = config.example.split()
    command, rest = split_command(words)
    assert (program, command) == ("medloom", name)
    assert parse(config, rest, command).out in (Path("report"), Path("compared"))


def test_a_manifest_stands_without_an_option() -> None:
    assert split_command(["evaluate", "whatif", "w.csv", "--out", "r"])[1] == ["--data", "w.csv", "--out", "r"]
    assert split_command(["evaluate", "edits", "e.csv"])[1] == ["--data", "e.csv"]
    with pytest.raises(UserError, match="commands of 'evaluate': evaluate images, evaluate whatif, evaluate edits"):
        split_command(["evaluate"])


def test_commands_from_python(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown command 'evaluate image', did you mean 'evaluate images'"):
        run_command("evaluate image", out=tmp_path)
    with pytest.raises(UserError, match=r"holds no whatif\.json"):
        run_command("evaluate whatif", data=tmp_path / "manifest.csv", out=tmp_path / "out")
