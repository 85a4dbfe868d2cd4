"""One column of a template: what its cells mean, and how they are said."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medloom.core.cells import MISSING, NUMBER, Cell, capped_age, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.data.prompts.identity import is_age, is_date

SLOT = "{value}"


@dataclass(frozen=True)
class Rule:
    """What a column becomes after a change of its parents; all of `when` has to be met, and `was` too.

    Attributes:
        when: parent -> the values for which the rule holds, after the change.
        was: the column's own values before the change for which it holds; empty for any.
        value: what the column becomes; None makes it unknown.
    """

    when: Mapping[str, tuple[Cell, ...]]
    was: tuple[Cell, ...] = ()
    value: Cell = None

    def holds(self, was: Cell, row: Mapping[str, Cell]) -> bool:
        """Whether the rule applies to a column that was `was` in a row after the change."""
        return (not self.was or was in self.was) and all(row[parent] in cells for parent, cells in self.when.items())


@dataclass(frozen=True)
class Column:
    """How one column of a table is understood and said.

    Attributes:
        name: in the table.
        say: the phrase, with `{value}` in it; empty where the column is not said, as one that a model is told directly.
        values: every allowed value and its words, empty words being left out; None where anything may stand.
        unit: of a number.
        cap: numbers above it are not told exactly.
        bands: lowest number of each band, rising, and its words; empty where numbers are told exactly.
        missing: the phrase where the value is missing; empty to leave it out.
        sentinels: values that stand for a missing one.
        days: where the number is days relative to an event, what the event is (may be empty).
        parents: the columns that it is caused by.
        follows: rules, of which the first that holds applies.
        outcome: it is a consequence of what the image shows, so that a change of it is an association.
        allowed: whether it may hold dates.
    """

    name: str
    say: str = SLOT
    values: Mapping[str, str] | None = None
    unit: str = ""
    cap: float | None = None
    bands: tuple[tuple[float, str], ...] = ()
    missing: str = ""
    sentinels: frozenset[str] = frozenset()
    days: str | None = None
    parents: tuple[str, ...] = ()
    follows: tuple[Rule, ...] = field(default=())
    outcome: bool = False
    allowed: bool = False

    @property
    def is_number(self) -> bool:
        """Whether anything but a number is a mistake."""
        return self.values is None and (
            bool(self.unit) or self.cap is not None or self.days is not None or bool(self.bands)
        )

    def read(self, cell: Any) -> Cell:
        """What a table's cell means: a number, one of `values`, a text, or None where it is missing.

        Raises:
            UserError: a value that `values` lacks, a text where a number belongs, or an absolute date.
        """
        text = spelled(cell)
        if self.values is not None and (key := self._key(text)) is not None:
            return key
        if text.casefold() in MISSING or text in self.sentinels:
            return None
        if self.values is not None:
            close = did_you_mean(text, self.values) or "."
            allowed = ", ".join(self.values)
            raise UserError(f"column {self.name!r}: {text!r} is not in the value map{close} Allowed: {allowed}.")
        if not self.allowed and is_date(text):
            raise UserError(
                f"column {self.name!r}: {text!r} looks like a date, which could tell who the patient is; give days"
                " relative to an event (relative_days), or name the column under `allow`."
            )
        return self._number(cell, text)

    def phrase(self, cell: Cell) -> str:
        """What is said of a value that `read` gave; empty where nothing is."""
        if not self.say or cell is None:
            return self.missing if self.say else ""
        if self.values is not None:
            words = self.values[str(cell)]
        elif isinstance(cell, str):
            words = cell
        elif self.bands:
            words = next(words for lowest, words in reversed(self.bands) if cell >= lowest)
        elif self.days is not None:
            words = relative_days(cell, self.days)
        elif self.cap is not None and cell > self.cap:
            return self._capped()
        else:
            words = spelled(cell)
        return self.say.replace(SLOT, words) if words else ""

    def told(self, cell: Cell) -> Cell:
        """A value as it may be handed on: an age above the cap becomes the first one that is not told."""
        above = self.cap is not None and is_age(self.name) and isinstance(cell, float) and cell > self.cap
        return float(math.floor(self.cap) + 1) if above and self.cap is not None else cell

    def _key(self, text: str) -> str | None:
        """The key of the value map that a cell means: 0, 0.0 and "0" are the same."""
        return next((key for key in self.values or () if spelled(key) == text), None)

    def _number(self, cell: Any, text: str) -> Cell:
        if NUMBER.fullmatch(text):
            return self._in_a_band(float(str(cell).strip()))
        age = capped_age(text, self.cap) if is_age(self.name) else None
        if age is not None:
            return age
        if self.is_number:
            unit = f" ({self.unit})" if self.unit else ""
            raise UserError(
                f"column {self.name!r}: {text!r} is not a number{unit}; mend it, or name it under `sentinels` where it"
                " stands for a missing value."
            )
        return text

    def _in_a_band(self, number: float) -> float:
        if self.bands and number < self.bands[0][0]:
            lowest = spelled(self.bands[0][0])
            raise UserError(
                f"column {self.name!r}: {spelled(number)} lies below the lowest band ({lowest}); add a band, or name it"
                " under `sentinels` where it stands for a missing value."
            )
        return number

    def _capped(self) -> str:
        """An age says what comes before it and `90 or older`; another number, that it is over the cap."""
        if self.cap is None:
            raise ValueError("a column without a cap has no capped values")
        if is_age(self.name):
            return f"{self.say.partition(SLOT)[0]}{math.floor(self.cap) + 1} or older"
        return self.say.replace(SLOT, f"over {spelled(self.cap)}")


def relative_days(days: float, event: str = "") -> str:
    """Days before (negative) or after an event in words."""
    if days == 0:
        return f"on the day of {event}" if event else "on the day"
    count = f"{spelled(abs(days))} {'day' if abs(days) == 1 else 'days'}"
    return f"{count} {'before' if days < 0 else 'after'} {event}".rstrip()
