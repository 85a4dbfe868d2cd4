"""The one command: overview, groups, help of every command, speed, did-you-mean."""

import re
import shlex
import subprocess
import sys
import time

import pytest

from medloom.cli.main import main, split_command
from medloom.core.config import parse
from medloom.core.options import options_of
from medloom.recipes.commands import commands, resolve

COMMANDS = tuple(commands())
FIRST_SCREEN = 20
GENERAL = {"--config", "--print-config", "--help", "--help-all"}


def page_of(command: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def listed(page: str) -> list[str]:
    """The options that a page has a block for."""
    return re.findall(r"^  (--[\w.-]+)", page, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_first_screen_of_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, run = resolve(command)
    assert callable(run)
    page = page_of(command, capsys, "--help")
    options = {name: option for name, option in options_of(config).items() if not option.setting}
    required = [option.flag for option in options.values() if option.is_required]
    assert page.startswith(f"medloom {command}: ") and listed(page)[: len(required)] == required
    assert len(listed(page)) <= FIRST_SCREEN and len(set(listed(page))) == len(listed(page))
    others = len(options) + len(GENERAL) - len(listed(page))
    assert f"\n--help-all shows the other {others} options." in page


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_help_all_can_be_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = resolve(command)
    page = page_of(command, capsys, "--help-all")
    options = {option.flag: option for option in options_of(config).values() if not option.setting}
    assert set(listed(page)) == set(options) | GENERAL
    assert not re.search(r"Optional\[|tuple\[|<class|PosixPath|\bNone\b", page)
    samples = {"TEXT": "x", "PATH": "x", "N": "1", "NUMBER": "0.5", "true|false": "true", "NAME=TEXT": "text=x"}
    words: list[str] = []
    for flag, rest in re.findall(r"^  (--[\w.-]+)(.*)", page, re.MULTILINE):
        if flag in GENERAL:
            continue
        assert options[flag].help, flag
        words += [flag]
        if options[flag].is_switch:
            assert rest.startswith(f" / --no-{flag[2:]}")
            words += [f"--no-{flag[2:]}"]
        else:
            value = re.match(r" (\S+(?: NUMBER)*)", rest)[1].removesuffix("...")
            words += [samples[word] for word in value.split()]
    shipped = {"--size": "tiny", "--preset": None}
    for flag, value in shipped.items():
        if flag in options and options[flag].kind is str:
            place = words.index(flag)
            words[place : place + 2] = [flag, value] if value else []
    words += ["--print-config"]
    with pytest.raises(SystemExit):
        parse(config, words, command)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_example_line_is_a_command(command: str) -> None:
    config, _ = resolve(command)
    if example := getattr(config, "example", None):
        name, *words = shlex.split(example)
        assert name == "medloom" and split_command(words)[0] == command
        assert parse(config, split_command(words)[1], command)


def test_help_has_the_defaults_that_a_run_has(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    def default(option: str, *words: str) -> str:
        page = " ".join(page_of("train text2image", capsys, "--help-all", *words).split())
        return re.search(rf"{option} [^()]*\(default: ([^)]*)\)", page)[1]

    assert default("--loop.steps N") == "1400" and default("--loop.learning-rate NUMBER") == "0.0005"
    assert default("--loop.compile") == "off"
    assert default("--loop.steps N", "--size", "small") == "50000"
    assert default("--loop.batch N", "--preset", "minim", "--loop.batch", "3") == "80"
    (tmp_path / "mine.yaml").write_text("loop: {steps: 7}\n")
    assert default("--loop.steps N", "--config", str(tmp_path / "mine.yaml")) == "7"


def test_groups_have_the_titles_of_their_classes(capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of("train text2image", capsys, "--help-all")
    assert "\n--loop.*: How long and how to train; the same for every generator:\n  --loop.steps N" in page
    places = [page.index(title) for title in ("Required:", "Optional:", "--network.*:", "Of every command:")]
    assert places == sorted(places)


def test_the_overview_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"  medloom {command} " in overview for command in COMMANDS)
    assert main(["--help"]) == 0 and capsys.readouterr().out == overview
    titles = [line for line in overview.splitlines() if line.endswith(":")]
    assert titles[1:3] == ["Prepare data:", "Import public data sets and weights:"]
    assert main(["--version"]) == 0


@pytest.mark.parametrize("words", ["data --help", "data", "data import -h", "data import", "train", "train --help-all"])
def test_groups_print_their_commands(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 0
    page = capsys.readouterr().out
    group = words.partition(" -")[0]
    assert {command for command in COMMANDS if f"  medloom {command} " in page} == {
        command for command in COMMANDS if command.startswith(f"{group} ")
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("genrate", "unknown command 'genrate', did you mean 'generate'? See medloom --help."),
        ("trian text2image", "unknown command 'trian', did you mean 'train text2image'?"),
        ("train text2img --data x", "unknown command 'train text2img', did you mean 'train text2image'?"),
        ("text2image --data x", "unknown command 'text2image', did you mean 'train text2image'?"),
        ("data chek a.csv", "unknown command 'data chek', did you mean 'data check'?"),
        ("data import mimic cxr/", "unknown command 'data import mimic', did you mean 'data import mimic-cxr'?"),
        ("data --x", "unknown command 'data'; commands of 'data': data check, data phantom"),
        (
            "data import zip",
            "unknown command 'data import zip'; commands of 'data import': data import mimic-cxr, data",
        ),
        ("frobnicate", "unknown command 'frobnicate'. See medloom --help."),
        ("--data x", "unknown command '--data'. See medloom --help."),
    ],
)
def test_an_unknown_command(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert f"medloom: {message}" in capsys.readouterr().err


def test_commands_of_three_words() -> None:
    assert split_command(["data", "import", "openi", "reports/", "--preview"]) == (
        "data import openi",
        ["--root", "reports/", "--preview"],
    )
    assert split_command(["data", "check", "a.csv"]) == ("data check", ["--data", "a.csv"])


def test_import_and_help_are_quick_and_light() -> None:
    script = "import sys, medloom, medloom.cli.main as m; m.main(['--help']); assert 'torch' not in sys.modules"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    # The limits are 0.5 s for the import and 1 s for the help; a loaded machine is given some room.
    assert time.perf_counter() - started < 2.0


def test_help_of_no_command_imports_torch() -> None:
    script = (
        "import sys\nfrom medloom.cli.main import commands, main\n"
        "for command in commands():\n"
        "    try:\n        main([*command.split(), '--help-all'])\n    except SystemExit:\n        pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m medloom generate --help-all | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("medloom generate: ")
