"""Messages name options that exist; what is no option but a setting of YAML files is named as it stands there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import medloom
from medloom.core.help import GENERAL
from medloom.core.options import options_of
from medloom.recipes.commands import commands, resolve

PACKAGE = Path(medloom.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*")
# What stands before a name that is put in, and what help says of switches.
PARTS = {"--no-", "--x", "--no-x", "--version"}


@cache
def flags() -> set[str]:
    options = [option for command in commands() for option in options_of(resolve(command)[0]).values()]
    known = {option.flag for option in options if not option.setting}
    return known | {f"--no-{flag[2:]}" for flag in known} | {flag for text, _ in GENERAL for flag in FLAG.findall(text)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_options_in_texts_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for flag in FLAG.findall(node.value):
                assert flag in flags() | PARTS, f"{path}, line {node.lineno}: {flag} is no option of any command"
