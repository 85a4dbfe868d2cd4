"""The one command; `medloom.recipes.commands` has its table."""

import os
import sys
from collections.abc import Sequence

from medloom import __version__
from medloom.core.errors import GateError, UserError
from medloom.core.lookup import did_you_mean
from medloom.core.pages import show_page
from medloom.core.progress import show_on_console
from medloom.recipes.commands import commands, resolve

USER_ERROR = 2
GATE_FAILED = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after a user's mistake, 3 where a gate failed, 130 after Ctrl-C."""
    show_on_console()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # torchrun takes --n for one of its own options unless `--` stands before the command.
    words = words[1:] if words[:1] == ["--"] else words
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"medloom: {error}", file=sys.stderr)
        return USER_ERROR
    except GateError as error:
        print(f"medloom: {error}", file=sys.stderr)
        return GATE_FAILED
    except KeyboardInterrupt:
        print("medloom: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return INTERRUPTED


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        show_page(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"medloom {__version__}")
        return 0
    command, rest = split_command(words)
    _quiet_libraries()
    from medloom.core.config import parse

    config, run = resolve(command)
    result = run(parse(config, rest, command))
    return result if isinstance(result, int) else 0


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command at the start of the words, and its arguments.

    Raises:
        UserError: no such command; with the closest one.
    """
    known = commands()
    for length in (3, 2, 1):
        command = " ".join(words[:length])
        if command in known:
            return command, _positional(command, list(words[length:]))
    leading = [word for word in words[:3] if not word.startswith("-")]
    # A group is "data", or "data import" within it; the word after it is the one that is not known.
    depth = 2 if len(leading) > 1 and _group(leading[:2]) else 1
    group = _group(leading[:depth])
    typed = " ".join(leading[: depth + 1])
    with_it = f"; with {' '.join(leading[:depth])!r} go: {', '.join(group)}." if group else ""
    close = did_you_mean(typed, known) if len(leading) > depth or not group else ""
    hint = close or with_it or "."
    raise UserError(f"unknown command {typed!r}{hint} See medloom --help.")


def _group(words: Sequence[str]) -> list[str]:
    """The commands that begin with these words and go on."""
    return [name for name in commands() if words and name.startswith(f"{' '.join(words)} ")]


def _positional(command: str, rest: list[str]) -> list[str]:
    """`medloom data check TABLE` names its manifest without an option, `medloom data import SOURCE ROOT` its folder."""
    if command.startswith("data ") and rest and not rest[0].startswith("-"):
        return ["--root" if command.startswith("data import ") else "--data", *rest]
    return rest


def overview() -> str:
    """The help of the command as a whole."""
    known = commands()
    width = max(map(len, known))
    lines = [f"  medloom {name:<{width}}  {line}" for name, line in known.items()]
    return "\n".join(
        [
            "medloom: conditional and counterfactual medical image generation. For research only.",
            "",
            *lines,
            "",
            "medloom COMMAND --help shows a command's options with their defaults.",
        ]
    )


def _quiet_libraries() -> None:
    """Libraries' progress bars and advice would stand between the user and our own messages."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


if __name__ == "__main__":
    sys.exit(main())
