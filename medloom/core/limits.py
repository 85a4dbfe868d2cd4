"""Limits on values, declared beside the default of a dataclass's field and checked when the dataclass is built."""

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from medloom.core.errors import UserError
from medloom.core.lookup import closest
from medloom.core.options import SETTING, flag_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = TypeVar("Value")
LIMITS = "limits"


class Limits(NamedTuple):
    """What a number may be, or the words that are allowed."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf
    words: tuple[str, ...] = ()

    def allow(self, value: object) -> bool:
        """Whether a value is within the limits; a number has to be finite."""
        if isinstance(value, float | int) and not self.words:
            return self.at_least <= value <= self.at_most and self.above < value < self.below
        return value is None or value in self.words

    def __str__(self) -> str:
        if self.words:
            return f"allowed are {', '.join(self.words)}"
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        said = [f"{word} {value:g}" for word, value in bounds.items() if math.isfinite(value)]
        return f"it has to be {' and '.join(said) or 'a finite number'}"


def limited(
    default: Value,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
    words: Iterable[str] = (),
    setting: bool = False,
) -> Value:
    """A field whose values, or each of several, have limits; see `check_limits`.

    Args:
        default: value of the field.
        at_least: smallest number; above: a number below all that are allowed.
        at_most: largest number; below: a number above all that are allowed.
        words: the texts that are allowed.
        setting: as `medloom.core.options.setting`.
    """
    limits = Limits(at_least, above, at_most, below, tuple(words))
    metadata: dict[str, object] = {LIMITS: limits, SETTING: True} if setting else {LIMITS: limits}
    field: Value = dataclasses.field(default=default, metadata=metadata)
    return field


def check_limits(options: "DataclassInstance", group: str = "", form: str = "") -> None:
    """Refuse values of fields outside of their limits; None is within all limits.

    Args:
        options: a dataclass with `limited` fields.
        group: of the options, e.g. `loop`.
        form: of a field's name and value in the message, where the fields are no options of a command.

    Raises:
        UserError: for the first one.
    """
    for field in dataclasses.fields(options):
        limits: Limits | None = field.metadata.get(LIMITS)
        given = getattr(options, field.name)
        values = given if isinstance(given, tuple) else (given,)
        if limits is None or all(map(limits.allow, values)):
            continue
        name = f"{group}.{field.name}" if group else field.name
        shown = " ".join(map(str, values))
        own = "the setting {} is {}" if SETTING in field.metadata else f"{flag_of(name)} {{1}}"
        said = form.format(field.name, shown) if form else own.format(name, shown)
        meant = closest(shown, limits.words)
        raise UserError(f"{said}: {limits}{f'; did you mean {meant!r}?' if meant else '.'}")
