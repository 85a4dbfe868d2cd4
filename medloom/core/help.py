"""The help page of a command: its required and common options on one screen, or all of them by group."""

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medloom.core.options import Option, options_of, summary

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Options on the first screen where a command does not name them, besides the required ones.
FIRST_SCREEN = 10
WIDEST, NAME_WIDTH = 110, 28
GENERAL: Sequence[tuple[str, str]] = (
    (
        "--config PATH",
        "YAML file with options and settings, e.g. `loop: {steps: 4000}`; the command line comes first.",
    ),
    ("--print-config", "print the options as such a file, instead of running the command."),
    ("--help, -h", "show the required and the most common options."),
    ("--help-all", "show all options."),
)


def show_page(text: str) -> None:
    """Print to standard output; that its reader has seen enough, as `head` has after ten lines, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is still buffered would be refused again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_page(
    cls: "type[DataclassInstance]", program: str, defaults: Mapping[str, object], everything: bool = False
) -> str:
    """The help of a command.

    Args:
        cls: its options. `common` names those on the first screen besides the required ones, `groups` those of one
            subject by its title, and `example` is a whole command line; all are optional class variables.
        program: the command's words, e.g. "data split".
        defaults: value of each option that is not given, by name.
        everything: whether all options are shown, by group.
    """
    options = {name: option for name, option in options_of(cls).items() if not option.setting}
    settings = len(options_of(cls)) - len(options)
    required = [option for option in options.values() if option.is_required]
    names: Sequence[str] | None = getattr(cls, "common", None)
    if names is None:
        # The first ones that are not required, its own first.
        fields = dict.fromkeys(name for base in cls.__mro__ for name in inspect.get_annotations(base))
        names = [name for name in fields if name in options and not options[name].is_required][:FIRST_SCREEN]
    common = [options[name] for name in names if not options[name].is_required]
    parts = [f"medloom {program}: {summary(cls)}", _section("Required", required, defaults)]
    if everything:
        groups: Mapping[str, Sequence[str]] = getattr(cls, "groups", {})
        grouped = {name for names in groups.values() for name in names}
        rest = [option for name, option in options.items() if not option.is_required and name not in grouped]
        for group in dict.fromkeys(_group(option) for option in rest):
            members = [option for option in rest if _group(option) == group]
            title = f"--{group}.*: {members[0].title.rstrip('.')}" if group else "Optional"
            parts.append(_section(title, members, defaults))
        parts += [_section(title, [options[name] for name in names], defaults) for title, names in groups.items()]
        parts.append("\n".join(["Of every command:", *(_block(name, text) for name, text in GENERAL)]))
        if settings:
            parts.append(f"--print-config also shows {settings} settings, which --size, --preset and --config decide.")
    else:
        others = len(options) + len(GENERAL) - len(required) - len(common)
        parts += [_section("Common", common, defaults), f"--help-all shows the other {others} options."]
    if example := getattr(cls, "example", None):
        parts.append(f"Example:\n  {example}")
    return "\n\n".join(part for part in parts if part)


def _group(option: Option) -> str:
    return option.name.rpartition(".")[0].replace("_", "-")


def _section(title: str, options: Iterable[Option], defaults: Mapping[str, object]) -> str:
    blocks = [_block(_heading(option), _text(option, defaults)) for option in options]
    return "\n".join([f"{title}:", *blocks]) if blocks else ""


def _heading(option: Option) -> str:
    return f"{option.flag} / --no-{option.flag[2:]}" if option.is_switch else f"{option.flag} {option.word}"


def _text(option: Option, defaults: Mapping[str, object]) -> str:
    again = " (may be given several times)" if option.repeated else ""
    default = _said(defaults.get(option.name))
    return f"{option.help.rstrip('.')}{again}{f' (default: {default})' if default else ''}."


def _said(value: object) -> str:
    """A default as a user would write it; nothing for None and for an empty list."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={entry}" for name, entry in value.items())
    if isinstance(value, tuple):
        return " ".join(map(_said, value))
    return "" if value is None else str(value).removesuffix(".0")


def _block(name: str, text: str) -> str:
    """An option's name with its text to the right, or below where the name is long."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    indent = " " * (NAME_WIDTH + 4)
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(name) <= NAME_WIDTH and lines:
        return "\n".join([f"  {name:<{NAME_WIDTH}}  {lines[0].lstrip()}", *lines[1:]])
    return "\n".join([f"  {name}", *lines])
