"""The three evaluations as commands: their first help screen, their examples, and commands from Python."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest

from medloom.cli.main import split_command
from medloom.core.config import option_types, parse
from medloom.core.errors import UserError
from medloom.recipes.commands import COMMANDS, run_command

NAMES = [name for name in COMMANDS if name.startswith(("evaluate", "compare"))]


def config_of(name: str) -> Any:
    return importlib.import_module(COMMANDS[name][0]).Config


@pytest.mark.parametrize("name", NAMES)
def test_the_first_help_screen_has_the_required_and_the_common_options(name: str) -> None:
    config = config_of(name)
    required = {field.name for field in dataclasses.fields(config) if field.default is dataclasses.MISSING}
    assert required <= set(config.common) <= set(option_types(config)) and len(config.common) <= 18


@pytest.mark.parametrize("name", NAMES)
def test_the_example_can_be_typed(name: str) -> None:
    config = config_of(name)
    program, *words = config.example.split()
    command, rest = split_command(words)
    assert (program, command) == ("medloom", name)
    assert parse(config, rest, command).out in (Path("report"), Path("compared"))


def test_a_manifest_stands_without_an_option() -> None:
    assert split_command(["evaluate", "whatif", "w.csv", "--out", "r"])[1] == ["--data", "w.csv", "--out", "r"]
    assert split_command(["evaluate", "edits", "e.csv"])[1] == ["--data", "e.csv"]
    with pytest.raises(UserError, match="with 'evaluate' go: evaluate images, evaluate whatif, evaluate edits"):
        split_command(["evaluate"])


def test_commands_from_python(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown command 'evaluate image', did you mean 'evaluate images'"):
        run_command("evaluate image", out=tmp_path)
    with pytest.raises(UserError, match=r"holds no whatif\.json"):
        run_command("evaluate whatif", data=tmp_path / "manifest.csv", out=tmp_path / "out")
