"""Options from dataclasses: a field is an option, the fields of a nested dataclass are a group of options."""

import dataclasses
import functools
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, SupportsFloat, SupportsIndex, TypeVar

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
Value = TypeVar("Value")
# Options whose name is a keyword of Python.
KEYWORDS: Mapping[str, str] = {"from": "from_run"}
REPEATED, SETTING, HINT = "repeated", "setting", "hint"
TRUTH: Mapping[str, bool] = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Kind(NamedTuple):
    """A type of values: what one may be given as, its word in help, and what one and several are called in errors."""

    given_as: tuple[type, ...]
    word: str
    one: str
    several: str


KINDS: Mapping[type, Kind] = {
    bool: Kind((bool,), "true|false", "true or false", "true or false for each"),
    int: Kind((str, SupportsIndex), "N", "a whole number", "whole numbers"),
    float: Kind((str, SupportsFloat), "NUMBER", "a number", "numbers"),
    str: Kind((str, os.PathLike, int, float), "TEXT", "text", "texts"),
    Path: Kind((str, os.PathLike), "PATH", "a path", "paths"),
}


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: as in YAML, with its group: `loop.learning_rate`.
        kind: type of its value, or of each of its values.
        count: how many values it takes: None for one that is no list, 0 for any number.
        optional: whether None is a value.
        pairs: whether its values are pairs, NAME=TEXT.
        repeated: whether it is given again for each of its values.
        setting: whether a size, a preset or a YAML file decides it, and the command line does not.
        default: of its dataclass; `...` where it is required.
        help: what the dataclass's docstring says about it.
        title: of its group: the first paragraph of the nested dataclass's docstring.
        hint: the end of an error about a value of another type: what a user may have meant.
    """

    name: str
    kind: type
    count: int | None = None
    optional: bool = False
    pairs: bool = False
    repeated: bool = False
    setting: bool = False
    default: object = ...
    help: str = ""
    title: str = ""
    hint: str = ""

    @property
    def flag(self) -> str:
        """The option as a user writes it: `--loop.learning-rate`, and a setting as in a YAML file: `loop.clip`."""
        return self.name if self.setting else flag_of(self.name)

    @property
    def is_switch(self) -> bool:
        """Whether it needs no value: `--x` and `--no-x`."""
        return self.kind is bool and self.count is None

    @property
    def takes_one(self) -> bool:
        """Whether one value follows each time it is given."""
        return self.count is None or self.repeated

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is ...

    @property
    def word(self) -> str:
        """What stands for its value in help: `N`, `NUMBER NUMBER`, `TEXT...`."""
        word = "NAME=TEXT" if self.pairs else KINDS[self.kind].word
        if self.takes_one:
            return word
        return " ".join([word] * self.count) if self.count else f"{word}..."

    def gather(self, words: Sequence[str]) -> list[str]:
        """The values in the words that follow the option on the command line; numbers may be written `1,2`.

        Raises:
            UserError: too few or too many words.
        """
        if not words and self.is_switch:
            return ["true"]
        if not words:
            raise UserError(f"{self.flag} needs a value: give {self._expected()}.")
        if self.takes_one and len(words) > 1:
            raise UserError(
                f"{self.flag} takes one value, but {len(words)} were given: {' '.join(words)};"
                " put a value with spaces in quotes."
            )
        if self.takes_one or self.pairs:
            return list(words)
        if list(words) in ([""], ["[]"]):
            return []
        return list(words) if self.kind in (str, Path) else [part for word in words for part in word.split(",") if part]

    def read(self, value: object, where: str = "") -> object:
        """The option's value from a value of Python, or from texts of a YAML file or the command line.

        Args:
            value: as given.
            where: what an error begins with, e.g. "--config mine.yaml: ".

        Raises:
            UserError: a value of another type, or another number of values.
        """
        if self.optional and (value is None or (value in ("none", ["none"]) and self.kind in (bool, int, float))):
            return None
        if self.count is None:
            return self._read_one(value, where)
        values = self._listed(value)
        if self.count and len(values) != self.count:
            raise UserError(f"{where}{self.flag}: give {self._expected()}, not {len(values)}.")
        if self.pairs:
            return dict(self._read_pair(entry, where) for entry in values)
        return tuple(self._read_one(entry, where) for entry in values)

    def _listed(self, value: object) -> list[object]:
        if isinstance(value, str):
            return [*self.gather([value])]
        if isinstance(value, Mapping):
            return list(value.items()) if self.pairs else [value]
        return list(value) if isinstance(value, Sequence) else [value]

    def _read_one(self, value: object, where: str) -> object:
        try:
            return _converted(value, self.kind)
        except ValueError as error:
            hint = f"; {self.hint}" if self.hint else ""
            raise UserError(f"{where}{self.flag}: give {self._expected()}, not {_quoted(value)}{hint}.") from error

    def _read_pair(self, entry: object, where: str) -> tuple[str, str]:
        match entry.split("=", 1) if isinstance(entry, str) else entry:
            case [str(name), str(text)] if name and text:
                return name, text
        hint = "; put a pair with spaces in quotes" if isinstance(entry, str) else ""
        raise UserError(f"{where}{self.flag}: give {self._expected()}, not {_quoted(entry)}{hint}.")

    def _expected(self) -> str:
        if self.pairs:
            return "pairs NAME=TEXT"
        kind = KINDS[self.kind]
        if self.takes_one:
            return kind.one
        return f"{self.count} {kind.several}" if self.count else kind.several


def repeated() -> tuple[str, ...]:
    """A field for an option that is given again for each of its values: `--set a=1 --set b=2,c=3`."""
    return dataclasses.field(default=(), metadata={REPEATED: True})


def given_again() -> typing.Any:
    """A required field for an option that is given once or more: `--synthetic a.csv --synthetic b.csv`."""
    return dataclasses.field(metadata={REPEATED: True})


def setting(default: Value) -> Value:
    """A field that sizes, presets, YAML files and Python set, and that is no option of the command line.

    For what follows from a model's size or belongs to one published system, so that help lists what a user decides.
    """
    return dataclasses.field(default=default, metadata={SETTING: True})


def hinted(default: Value, hint: str) -> Value:
    """A field whose errors end with a hint at what a user may have meant."""
    return dataclasses.field(default=default, metadata={HINT: hint})


def flag_of(name: str) -> str:
    """An option's name as a user writes it: `--loop.learning-rate`, and `--from` of the field `from_run`."""
    spoken = next((word for word, field in KEYWORDS.items() if field == name), name)
    return "--" + spoken.replace("_", "-")


@functools.cache
def options_of(cls: "type[DataclassInstance]") -> Mapping[str, Option]:
    """Name (`loop.steps`) -> option, those of nested dataclasses included, in order.

    Raises:
        TypeError: a field of a type that no option has.
    """
    return {option.name: option for option in _options(cls, "", "", ...)}


def build(cls: type[Config], values: Mapping[str, object], prefix: str = "") -> Config:
    """The dataclass, and the nested ones, from values by option name."""
    hints = typing.get_type_hints(cls)
    arguments: dict[str, object] = {}
    for entry in dataclasses.fields(cls):
        name, hint = f"{prefix}{entry.name}", hints[entry.name]
        is_group = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        arguments[entry.name] = build(hint, values, f"{name}.") if is_group else values[name]
    return cls(**arguments)


def _options(cls: "type[DataclassInstance]", prefix: str, title: str, default: object) -> Iterator[Option]:
    hints, docs = typing.get_type_hints(cls), _attributes(cls)
    for entry in dataclasses.fields(cls):
        name, hint = f"{prefix}{entry.name}", hints[entry.name]
        own = _default(entry) if default is ... else getattr(default, entry.name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _options(hint, f"{name}.", summary(hint), own)
        else:
            marks = REPEATED in entry.metadata, SETTING in entry.metadata
            misread = str(entry.metadata.get(HINT, ""))
            yield Option(name, *_shape(hint), *marks, own, docs.get(entry.name, ""), title, misread)


def summary(cls: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())


def _default(entry: "dataclasses.Field[object]") -> object:
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return ... if entry.default is MISSING else entry.default


def _attributes(cls: type) -> dict[str, str]:
    """Field -> its text in the `Attributes:` section of the class's docstring, or of one that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for name, text in re.findall(r"^    (\w+): ((?:.|\n(?!    \w))*)", section, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def _shape(hint: object) -> tuple[type, int | None, bool, bool]:
    """The type of a field's values, how many it has, whether None is one, and whether they are pairs."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and len(parts) == 2 and parts[1] is types.NoneType:
        kind, count, _, pairs = _shape(parts[0])
        return kind, count, True, pairs
    if isinstance(hint, type) and hint in KINDS:
        return hint, None, False, False
    if origin is Mapping and parts == (str, str):
        return str, 0, False, True
    if origin is tuple and parts[0] in KINDS and parts[1:] == (Ellipsis,):
        return parts[0], 0, False, False
    if origin is tuple and parts[0] in KINDS and set(parts) == {parts[0]}:
        return parts[0], len(parts), False, False
    raise TypeError(f"no option has the type {hint}")


def _converted(value: object, kind: type) -> object:
    """A value as one of the kind; texts are read as numbers and truth values."""
    if kind is bool and isinstance(value, str):
        value = TRUTH.get(value.casefold())
    misfit = isinstance(value, bool) is not (kind is bool) or not isinstance(value, KINDS[kind].given_as)
    if misfit or (kind is Path and not str(value)):
        raise ValueError(value)
    converted: object = kind(value)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(value)
    return converted


def _quoted(value: object) -> str:
    return repr(str(value)) if isinstance(value, str | Path) else str(value)
