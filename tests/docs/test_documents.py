"""The documents: every command can be typed, every option and link exists, examples name what is there."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import BENCHMARKS
from medloom.cli.main import split_command
from medloom.core.config import parse
from medloom.core.options import options_of
from medloom.recipes.commands import commands, resolve

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SHELL = ("sh", "bash", "console")
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Options in prose that belong to other programs.
FOREIGN = {"--nproc_per_node", "--extra-index-url", "--index-url", "--upgrade", "--array", "--output"}
EVERY_COMMAND = {"--help", "--help-all", "--print-config", "--config", "--version"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, languages: tuple[str, ...]) -> list[str]:
    return [body for _, language, body in BLOCK.findall(text) if language in languages]


def typed_commands(text: str) -> list[list[str]]:
    """The words of every `medloom ...` command in shell blocks, also behind torchrun."""
    found = []
    for body in blocks(text, SHELL):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words[:1] == ["medloom"]:
                found.append(words[1:])
            elif "medloom" in words and words[0] in ("torchrun", "accelerate"):
                found.append([word for word in words[words.index("medloom") + 1 :] if word != "--"])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_commands_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in typed_commands(read(name)):
        if words[-1] in EVERY_COMMAND:
            continue
        command, rest = split_command(words)
        if rest == ["..."]:
            continue
        config, _ = resolve(command)
        # A file that a page names need not be there to know that its options are right.
        file = rest.index("--config") if "--config" in rest else len(rest)
        parse(config, rest[:file] + rest[file + 2 :], command)


@pytest.mark.parametrize("name", NAMES)
def test_commands_stand_in_blocks_of_a_shell(name: str) -> None:
    text = BLOCK.sub("", read(name))
    assert not re.findall(r"^ {4,}\$? ?medloom .*", text, re.MULTILINE)


def every_option() -> set[str]:
    options = [option for name in commands() for option in options_of(resolve(name)[0]).values()]
    return {option.flag for option in options if not option.setting}


def every_setting() -> set[str]:
    return {option.name for name in commands() for option in options_of(resolve(name)[0]).values()}


def in_prose(text: str) -> set[str]:
    """Options that inline code names."""
    quoted = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    return {flag for code in quoted for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z0-9]\b", code)}


@pytest.mark.parametrize("name", [name for name in NAMES if "experiments" not in name and "benchmarks" not in name])
def test_options_in_prose_exist(name: str) -> None:
    lines = read(name).splitlines()
    text = "\n".join(line for line in lines if "python -m benchmarks" not in line and "pip " not in line)
    flags = in_prose(text)
    known = every_option() | FOREIGN | EVERY_COMMAND
    unknown = {flag for flag in flags if flag not in known and "--" + flag.removeprefix("--no-") not in known}
    assert not unknown


@pytest.mark.parametrize("name", NAMES)
def test_settings_in_yaml_exist(name: str) -> None:
    known = every_setting()
    for body in blocks(read(name), ("yaml",)):
        values = yaml.safe_load(body)
        for group in ("loop", "network", "noise", "text", "gan", "tokens", "autoencoder"):
            inner = values.get(group) if isinstance(values, dict) else None
            for key in inner if isinstance(inner, dict) else ():
                assert f"{group}.{key}" in known, f"{name}: {group}: {key}"


@pytest.mark.parametrize("name", [name for name in NAMES if "experiments" not in name])
def test_settings_in_prose_exist(name: str) -> None:
    groups = "loop|network|noise|text|gan|tokens|autoencoder|encoder"
    named = re.findall(rf"`(?:{groups})\.[a-z_0-9]+(?=[`:])", BLOCK.sub("", read(name)))
    assert {each.removeprefix("`") for each in named} <= every_setting()


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_exist(name: str) -> None:
    assert set(re.findall(r"python -m benchmarks ([a-z_]+)", read(name))) <= {*BENCHMARKS}


@pytest.mark.parametrize("name", NAMES)
def test_files_in_prose_exist(name: str) -> None:
    quoted = re.findall(r"`((?:medloom|tests|benchmarks|examples|docs)/[\w/.-]+)`", BLOCK.sub("", read(name)))
    inside = re.findall(r"`([a-z_]+/[\w/]+\.py)(?:`|:)", BLOCK.sub("", read(name)))
    missing = [path for path in quoted if not (ROOT / path).exists()]
    assert not missing + [path for path in inside if not ((ROOT / path).exists() or (ROOT / "medloom" / path).exists())]


@pytest.mark.parametrize("name", NAMES)
def test_python_names_exist(name: str) -> None:
    for body in blocks(read(name), ("python",)):
        tree = ast.parse(body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medloom"):
                module = import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{name}: {node.module}.{alias.name}"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "medloom":
                assert hasattr(import_module("medloom"), node.attr), f"{name}: medloom.{node.attr}"


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ +(.+)$", BLOCK.sub("", text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()) for title in titles]
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_what_is_there(name: str) -> None:
    text = BLOCK.sub("", read(name))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        page = (ROOT / name).parent / file if file else ROOT / name
        assert page.exists(), f"{name}: {target}"
        if anchor and page.suffix == ".md":
            assert anchor in anchors(page.read_text(encoding="utf-8")), f"{name}: {target}"


def test_no_page_names_a_path_of_one_machine() -> None:
    for name in NAMES:
        assert not re.search(r"(?<![\w.])/(home|work|root|tmp)/", read(name)), name
