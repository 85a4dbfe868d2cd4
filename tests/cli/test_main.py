"""The one command: overview, speed, did-you-mean."""

import importlib
import subprocess
import sys
import time

import pytest

from medloom.cli.main import COMMANDS, main, split_command


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_recipe_and_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = importlib.import_module(COMMANDS[command][0])
    assert callable(recipe.run) and recipe.Config.__doc__
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and f"medloom {command}" in text
    undocumented = [line for line in text.splitlines() if line.strip().startswith("--") and "MISSING" in line]
    assert not undocumented


def test_the_overview_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["--version"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrate"]) == 2
    assert "unknown command 'genrate', did you mean 'generate'?" in capsys.readouterr().err
    assert main(["data", "--x"]) == 2
    assert "with 'data' go: data check, data phantom" in capsys.readouterr().err


def test_commands_of_three_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert split_command(["data", "import", "openi", "reports/", "--preview"]) == (
        "data import openi",
        ["--root", "reports/", "--preview"],
    )
    assert split_command(["data", "check", "a.csv"]) == ("data check", ["--data", "a.csv"])
    assert main(["data", "import", "mimic", "cxr/"]) == 2
    assert "unknown command 'data import mimic', did you mean 'data import mimic-cxr'?" in capsys.readouterr().err
    assert main(["data", "import"]) == 2
    assert "with 'data import' go: data import mimic-cxr, data import openi" in capsys.readouterr().err


def test_import_and_help_are_quick_and_light() -> None:
    script = "import sys, medloom, medloom.cli.main as m; m.main(['--help']); assert 'torch' not in sys.modules"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    # The limits are 0.5 s for the import and 1 s for the help; a loaded machine is given some room.
    assert time.perf_counter() - started < 2.0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m medloom generate --help | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: medloom generate")
