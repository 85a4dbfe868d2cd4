"""Options from dataclasses: one dataclass is a command's options, its YAML file's keys and its Python arguments.

Precedence, weakest first: the dataclass, `--size`, `--preset`, `--config`, the command line.
"""

import dataclasses
import json
import re
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.core.pages import show_page

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Options = TypeVar("Options")
# Options whose name is a keyword of Python.
KEYWORDS = {"from": "from_run"}
SHIPPED = ("size", "preset")
REPEATED = "repeated"


def repeated() -> Any:
    """A field for an option that is given again for each of its values: `--set a=1 --set b=2,c=3`."""
    return dataclasses.field(default=(), metadata={REPEATED: True})


def plain(value: Any) -> Any:
    """Options as JSON values: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def option_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """Option name (`loop.steps`) -> type, nested dataclasses included."""
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):
        kind = hints[entry.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= option_types(kind, f"{prefix}{entry.name}.")
        else:
            found[f"{prefix}{entry.name}"] = kind
    return found


def shown(name: str) -> str:
    """An option's name as the user writes it: `--loop.learning-rate`."""
    spoken = next((word for word, field in KEYWORDS.items() if field == name), name)
    return "--" + spoken.replace("_", "-")


def configure(cls: type[Options], **values: Any) -> Options:
    """Options from Python, with `size` and `preset` applied as on the command line.

    Args:
        cls: the options' dataclass, e.g. `medloom.recipes.text2image.Config`.
        values: options by name; nested ones as `**{"loop.steps": 100}` or as a mapping `loop={"steps": 100}`.

    Raises:
        UserError: as on the command line.
    """
    arguments: list[str] = []
    again = _repeated_options(cls)
    for name, value in _flatten(values).items():
        if value is None:
            continue
        if name in again:
            arguments += [word for entry in value for word in (f"--{name}", str(entry))]
        elif isinstance(value, tuple | list) and not value:
            arguments.append(f"--{name}=[]")
        elif isinstance(value, tuple | list):
            arguments += [f"--{name}", *map(str, value)]
        else:
            arguments.append(f"--{name}={value}")
    return parse(cls, arguments, cls.__module__.rsplit(".", 1)[-1])


def parse(cls: type[Options], arguments: Sequence[str], program: str) -> Options:
    """Options from command-line arguments.

    Raises:
        UserError: an unknown option or YAML key (with the closest one), a value of another type, a missing option.
        SystemExit: status 0 after `--help`.
    """
    kinds = option_types(cls)
    again = _repeated_options(cls)
    tokens = _gathered(_normalise(arguments, kinds | dict.fromkeys(again, str), program), again)
    parser = _parser(cls, program)
    if "--help" in tokens:
        show_page(_spoken(parser.format_help()))
        raise SystemExit(0)
    for kind in SHIPPED:
        # Where `--size` is a number it is an option like any other.
        if kind in kinds and kinds[kind] is not int:
            chosen = _value_of(tokens, kind) or _yaml_value(tokens, kind) or _default(cls, kind)
            _apply(parser, cls, kind, chosen, kinds)
    if path := _value_of(tokens, "config"):
        _check_yaml(Path(path), kinds)
    return _parsed(cls, parser, tokens)


def _parsed(cls: type[Options], parser: "ArgumentParser", tokens: Sequence[str]) -> Options:
    from argparse import ArgumentError

    try:
        namespace = parser.parse_args(list(tokens))
        values = parser.instantiate(namespace).as_dict()
    except ArgumentError as error:
        raise UserError(_explained(str(error))) from error
    values.pop("config", None)
    return cls(**values)


def _parser(cls: type, program: str) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    description = (cls.__doc__ or "").strip().split("\n")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ArgumentParser(prog=f"medloom {program}", description=description, exit_on_error=False)
        parser.add_class_arguments(cls)
        parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    return parser


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _repeated_options(cls: type) -> frozenset[str]:
    return frozenset(entry.name for entry in dataclasses.fields(cls) if entry.metadata.get(REPEATED))


def _gathered(tokens: Sequence[str], again: frozenset[str]) -> list[str]:
    """Every value of an option that is given again and again as one list."""
    gathered = [token for token in tokens if token[2:].partition("=")[0] not in again]
    for name in sorted(again):
        if values := _values_of(tokens, name):
            gathered.append(f"--{name}={json.dumps(values)}")
    return gathered


def _normalise(arguments: Sequence[str], kinds: Mapping[str, Any], program: str) -> list[str]:
    """`--a.b-c v w` as `--a.b_c=[v,w]`: dashes, flags without a value, and lists as separate words."""
    tokens: list[str] = []
    position = 0
    while position < len(arguments):
        token = arguments[position]
        position += 1
        if token in ("-h", "--help"):
            tokens.append("--help")
            continue
        if not token.startswith("--"):
            raise UserError(f"medloom {program}: {token!r} is not an option; see medloom {program} --help.")
        written, equals, value = token[2:].partition("=")
        name = _known(written, kinds, program)
        words: list[str] = [value] if equals else []
        while not equals and position < len(arguments) and not _is_option(arguments[position]):
            words.append(arguments[position])
            position += 1
        tokens.append(_joined(name, words, kinds.get(name)))
    return tokens


def _is_option(word: str) -> bool:
    return word.startswith("--") or word == "-h"


def _known(written: str, kinds: Mapping[str, Any], program: str) -> str:
    name = KEYWORDS.get(written, written.replace("-", "_"))
    if name in kinds or name == "config":
        return name
    options = [shown(known) for known in (*kinds, "config")]
    hint = did_you_mean(f"--{written}", options)
    raise UserError(f"medloom {program}: unknown option --{written}{hint or '.'} See medloom {program} --help.")


def _joined(name: str, words: Sequence[str], kind: Any) -> str:
    listed = _is_list(kind)
    if _is_flag(kind) and not words:
        return f"--{name}=true"
    if not words:
        raise UserError(f"{shown(name)} needs a value.")
    if listed and not (len(words) == 1 and words[0].startswith("[")):
        if kind == tuple[str, ...]:
            return f"--{name}={json.dumps(list(words))}"
        return f"--{name}=[{','.join(part for word in words for part in word.split(',') if part)}]"
    if len(words) > 1:
        raise UserError(f"{shown(name)} takes one value, and {len(words)} were given: {' '.join(words)}.")
    return f"--{name}={words[0]}"


def _is_flag(kind: Any) -> bool:
    return kind is bool


def _is_list(kind: Any) -> bool:
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return any(typing.get_origin(option) in (tuple, list) for option in options)


def _values_of(tokens: Sequence[str], name: str) -> list[str]:
    return [token.partition("=")[2] for token in tokens if token.startswith(f"--{name}=")]


def _value_of(tokens: Sequence[str], name: str) -> str | None:
    values = _values_of(tokens, name)
    return values[-1] if values else None


def _yaml_value(tokens: Sequence[str], name: str) -> str | None:
    path = _value_of(tokens, "config")
    value = _read_yaml(Path(path)).get(name) if path else None
    return None if value is None else str(value)


def _default(cls: type, name: str) -> str | None:
    return next(entry.default for entry in dataclasses.fields(cls) if entry.name == name)  # type: ignore[return-value]


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {path} cannot be read: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"--config {path} is not a table of options.")
    return values


def _check_yaml(path: Path, kinds: Mapping[str, Any]) -> None:
    names = {**{name: name for name in kinds}, **KEYWORDS}
    for name in _flatten(_read_yaml(path)):
        if name.replace("-", "_") not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"--config {path}: unknown key {name!r}{hint or '.'} See --help for the options.")


def shipped(cls: type, kind: str) -> dict[str, dict[str, Any]]:
    """Name -> options of the sizes or presets that a command ships: `<kind>-<name>.yaml` in its `settings` package."""
    import yaml

    package = getattr(cls, "settings", None)
    if package is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for entry in sorted(resources.files(package).iterdir(), key=lambda item: item.name):
        if entry.name.startswith(f"{kind}-"):
            name = entry.name.removeprefix(f"{kind}-").removesuffix(".yaml")
            found[name] = yaml.safe_load(entry.read_text(encoding="utf-8"))
    return found


def _apply(parser: "ArgumentParser", cls: type, kind: str, name: str | None, kinds: Mapping[str, Any]) -> None:
    if name is None or name == "null":
        return
    known = shipped(cls, kind)
    if name not in known:
        raise UserError(
            f"unknown {kind} {name!r}{did_you_mean(name, known) or '.'} Known: {', '.join(known) or 'none'}."
        )
    values = _flatten(known[name])
    if unknown := sorted(set(values) - set(kinds)):
        raise ValueError(f"shipped {kind} {name} has unknown options {unknown}")
    parser.set_defaults(values)


def _explained(message: str) -> str:
    """jsonargparse's message as one sentence about the option as the user writes it."""
    if match := re.search(r"arguments are required: (.+)", message):
        return f"{', '.join(shown(name.strip()) for name in match[1].split(','))} has to be given; see --help."
    if match := re.search(r'Parser key "([^"]+)":\s*(.*)', message, re.DOTALL):
        return f"{shown(match[1])}: {' '.join(match[2].split())}."
    return " ".join(message.split())


def _spoken(text: str) -> str:
    """Option names in a help text with dashes."""
    return re.sub(r"--[a-z][\w.]*", lambda match: shown(match[0][2:]), text)
