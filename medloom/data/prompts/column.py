"""One column of a template: the meaning and the wording of its cells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from medloom.core.cells import MISSING, NUMBER, Cell, Code, capped_age, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean_value
from medloom.data.prompts.identity import is_age, is_date

SLOT = "{value}"


@dataclass(frozen=True)
class Rule:
    """The value of a column after a change of its parents. The rule applies where all of `when` and `was` hold.

    Attributes:
        when: parent -> its values after the change.
        was: the column's own values before the change; empty for any.
        value: the new value; None makes it unknown.
    """

    when: Mapping[str, tuple[Cell, ...]]
    was: tuple[Cell, ...] = ()
    value: Cell = None

    def holds(self, was: Cell, row: Mapping[str, Cell]) -> bool:
        """Whether the rule applies to a column with the value `was` before, in a row after the change."""
        return (not self.was or was in self.was) and all(row[parent] in cells for parent, cells in self.when.items())


@dataclass(frozen=True)
class Column:
    """The meaning and the wording of one column of a table.

    Attributes:
        name: in the table.
        say: the phrase, with `{value}`; empty for a column that is not worded, such as a direct input of a model.
        values: every allowed value and its words, empty words being left out; None allows any value.
        unit: of a number.
        cap: larger numbers are not worded exactly.
        bands: lowest number of each band, ascending, and its words; empty to word numbers exactly.
        missing: the phrase for a missing value; empty to leave it out.
        sentinels: values that mean missing.
        days: for days relative to an event, the event (may be empty); else None.
        parents: the columns that cause it.
        follows: rules; the first one that holds applies.
        outcome: a consequence of the image content, so that the effect of a change of it is an association.
        allowed: it may hold dates.
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
        """Whether every known cell must be a number."""
        return self.values is None and (
            bool(self.unit) or self.cap is not None or self.days is not None or bool(self.bands)
        )

    @property
    def worded(self) -> bool:
        """Whether any of its values is put into words."""
        return bool(self.say) and (self.values is None or any(self.values.values()))

    def read(self, cell: object) -> Cell:
        """The meaning of a table's cell: a number, one of `values`, a text, or None where it is missing.

        Raises:
            UserError: a value not in `values`, a text instead of a number, or an absolute date.
        """
        text = spelled(cell)
        # 0, 0.0 and "0" are the same key of the value map.
        if (key := self._key(text)) is not None:
            return key
        if text.casefold() in MISSING or text in self.sentinels:
            return None
        if self.values is not None:
            raise UserError(
                f"column {self.name!r}: {text!r} is not in the value map{did_you_mean_value(text, self.values) or '.'}"
                f" Allowed: {', '.join(self.values)}."
            )
        if not self.allowed and is_date(text):
            raise UserError(
                f"column {self.name!r}: {text!r} looks like a date, which could identify the patient; give days"
                " relative to an event (relative_days), or list the column under `allow`."
            )
        if isinstance(cell, Code) and not self.is_number:
            return cell
        if NUMBER.fullmatch(text):
            number = float(str(cell).strip())
            if self.bands and number < self.bands[0][0]:
                raise UserError(
                    f"column {self.name!r}: {spelled(number)} lies below the lowest band ({spelled(self.bands[0][0])});"
                    " add a band, or list the value under `sentinels` if it means missing."
                )
            return number
        age = capped_age(text, self.cap) if is_age(self.name) else None
        if age is None and self.is_number:
            unit = f" ({self.unit})" if self.unit else ""
            raise UserError(
                f"column {self.name!r}: {text!r} is not a number{unit}; correct it, or list it under `sentinels` if it"
                " means missing."
            )
        return text if age is None else age

    def _key(self, text: str) -> str | None:
        """The key of the value map for a text, whatever its capital letters unless keys differ by these alone."""
        keys = [key for key in self.values or () if spelled(key).casefold() == text.casefold()]
        return next((key for key in keys if spelled(key) == text), keys[0] if len(keys) == 1 else None)

    def phrase(self, cell: Cell) -> str:
        """The words for a value from `read`; empty where nothing is worded."""
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
            # An age keeps only the words before it: "aged 90 or older".
            if is_age(self.name):
                return f"{self.say.partition(SLOT)[0]}{math.floor(self.cap) + 1} or older"
            words = f"over {spelled(self.cap)}"
        else:
            words = spelled(cell)
        return self.say.replace(SLOT, words) if words else ""

    def capped(self, cell: Cell) -> Cell:
        """A value fit for sharing: an age above the cap becomes the first whole year above the cap."""
        above = self.cap is not None and is_age(self.name) and isinstance(cell, float) and cell > self.cap
        return float(math.floor(self.cap) + 1) if above and self.cap is not None else cell


def relative_days(days: float, event: str = "") -> str:
    """Days before (negative) or after an event in words."""
    if days == 0:
        return f"on the day of {event}" if event else "on the day"
    count = f"{spelled(abs(days))} {'day' if abs(days) == 1 else 'days'}"
    return f"{count} {'before' if days < 0 else 'after'} {event}".rstrip()
