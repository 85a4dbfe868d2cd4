"""The one command; `medloom.recipes.commands` has its table."""

import itertools
import os
import signal
import sys
from collections.abc import Sequence

from medloom import __version__
from medloom.core.cells import printable
from medloom.core.errors import GateError, UserError
from medloom.core.help import show_page
from medloom.core.lookup import closest
from medloom.core.progress import show_on_console
from medloom.core.stopping import Stopped, ending_by_signals
from medloom.recipes.commands import GROUPS, commands, resolve

HELP = ("-h", "--help", "--help-all", "help")
USER_ERROR = 2
GATE_FAILED = 3
# As a shell has it of a program that a signal ended.
SIGNALLED = 128
# As a shell has it of a program whose reader went away: 128 and SIGPIPE.
CLOSED = 141
# Libraries' progress bars and advice would stand between the user and our own messages.
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0, 2 after a user's mistake, 3 where a gate failed; as a shell has it 128 + N after signal N: 130 after Ctrl-C.
    """
    show_on_console()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # torchrun takes --n for one of its own options unless `--` stands before the command.
    words = words[1:] if words[:1] == ["--"] else words
    try:
        with ending_by_signals():
            return _dispatch(words)
    except (UserError, GateError) as error:
        # Messages quote cells of tables, which may hold anything.
        for line in f"medloom: {error}".split("\n"):
            print(printable(line), file=sys.stderr)
        return GATE_FAILED if isinstance(error, GateError) else USER_ERROR
    except BrokenPipeError:
        # Who reads the output has enough of it (`| head`); Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except KeyboardInterrupt as stop:
        by = stop if isinstance(stop, Stopped) else Stopped(signal.SIGINT)
        print(f"medloom: stopped by {by.name}; the same command resumes it.", file=sys.stderr)
        return SIGNALLED + by.number


def _dispatch(words: list[str]) -> int:
    named = words[:-1] if words and words[-1] in HELP else words
    if " ".join(named) not in commands() and _members(named):
        show_page(overview(" ".join(named)))
        return 0
    if words[0] in ("-V", "--version"):
        print(f"medloom {__version__}")
        return 0
    command, rest = split_command(words)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from medloom.core.config import parse

    config, run = resolve(command)
    result = run(parse(config, rest, command))
    return result if isinstance(result, int) else 0


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command at the start of the words, and its arguments.

    Raises:
        UserError: no such command; with the one that was meant, or with those of the group.
    """
    for length in (3, 2, 1):
        command = " ".join(words[:length])
        if command in commands():
            return command, _positional(command, list(words[length:]))
    leading = list(itertools.takewhile(lambda word: not word.startswith("-"), words[:3]))
    # A group is "data", or "data import" within it; the word after it is the one that is not known.
    depth = next((length for length in (2, 1) if leading[length - 1 :] and _members(leading[:length])), 0)
    typed = " ".join(leading[: depth + 1]) or words[0]
    guesses = (_guess(" ".join(leading[:length])) for length in range(len(leading), depth, -1))
    if guess := next(filter(None, guesses), None):
        raise UserError(f"unknown command {typed!r}, did you mean {guess!r}? See medloom --help.")
    group = " ".join(leading[:depth])
    members = f"; commands of {group!r}: {', '.join(_members([group]))}." if group else "."
    raise UserError(f"unknown command {typed!r}{members} See medloom --help.")


def _guess(typed: str) -> str | None:
    """The command that was meant; `text2image` alone means `train text2image`."""
    by_last_word = {name.rpartition(" ")[2]: name for name in commands()}
    return closest(typed, commands()) or by_last_word.get(closest(typed, by_last_word) or "")


def _members(words: Sequence[str]) -> list[str]:
    """The commands of the group that the words name; of no words, all of them."""
    return [name for name in commands() if name.startswith(" ".join([*words, ""]))]


def _positional(command: str, rest: list[str]) -> list[str]:
    """`medloom data check TABLE` names its manifest without an option, `data import SOURCE` and `checklist` a folder.

    Raises:
        UserError: a name without an option that a command of the group does not take.
    """
    if command == "data import weights" and rest and not rest[0].startswith("-"):
        raise UserError(f"{command} {rest[0]}: say what it is, with --text-encoder, --checkpoint or --lora.")
    if (
        command.startswith(("data ", "evaluate whatif", "evaluate edits", "checklist"))
        and rest
        and not rest[0].startswith("-")
    ):
        return ["--root" if command.startswith("data import ") else "--data", *rest]
    return rest


def overview(group: str = "") -> str:
    """The help of a group of commands; without a name, of medloom as a whole."""
    shown = _members(group.split())
    width = max(map(len, shown))
    lines: list[str] = []
    for title, names in itertools.groupby(shown, _title):
        lines += ["", f"{title}:", *(f"  medloom {name:<{width}}  {commands()[name]}" for name in names)]
    return "\n".join(
        [
            "medloom: conditional and counterfactual medical image generation. For research only.",
            *lines,
            "",
            "medloom COMMAND --help shows a command's options with their defaults.",
        ]
    )


def _title(command: str) -> str:
    """The title of a command's group: that of its first words, as many as there is a title for."""
    return next(GROUPS[group] for end in (2, 1, 0) if (group := " ".join(command.split()[:end])) in GROUPS)


if __name__ == "__main__":
    sys.exit(main())
