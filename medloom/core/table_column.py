"""A column of a clinical table as it conditions a model: a number in standard units, or one of a few categories."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medloom.core.cells import MISSING, NUMBER, Cell, capped_age, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean

NOT_KNOWN = math.nan


@dataclass(frozen=True)
class TableColumn:
    """What training saw of a column, and how its cells are read.

    Attributes:
        name: in the table.
        categories: the values that training saw; empty for a number.
        mean: of the known numbers in training.
        deviation: the same, their standard deviation.
        low: smallest number that training saw.
        high: largest number that training saw.
        cap: numbers above it become the next whole one, as ages above 89 do.
        sentinels: values that stand for a missing one.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    low: float = 0.0
    high: float = 0.0
    cap: float | None = None
    sentinels: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableColumn":
        """From JSON values, where tuples are lists."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)

    @property
    def seen(self) -> str:
        """What training saw, in words."""
        return ", ".join(self.categories) if self.categories else f"{spelled(self.low)} to {spelled(self.high)}"

    def has(self, value: Cell) -> bool:
        """Whether a value lies in what training saw; a missing one is in nothing."""
        if self.categories:
            return spelled(value) in self.categories
        return isinstance(value, float) and self.low <= _capped(value, self.cap) <= self.high

    def read(self, cell: Any) -> Cell:
        """What a cell means: a number, capped; a category's name; or None where it is missing.

        Raises:
            UserError: a text where a number belongs.
        """
        text = spelled(cell)
        if text in self.categories:
            return text
        if text.casefold() in MISSING or text in self.sentinels:
            return None
        return text if self.categories else read_number(self.name, text, self.cap)

    def encode(self, cell: Any) -> float:
        """A cell as the model takes it: a standard score, the place of a category, or NaN where it is missing.

        Raises:
            UserError: as `read`, or a category that training did not see.
        """
        value = self.read(cell)
        if value is None:
            return NOT_KNOWN
        if isinstance(value, float):
            return (value - self.mean) / self.deviation
        if value not in self.categories:
            hint = did_you_mean(value, self.categories) or "."
            raise UserError(f"column {self.name!r}: {value!r} was never trained on{hint} Seen: {self.seen}.")
        return float(self.categories.index(value))


def read_number(name: str, text: str, cap: float | None) -> float:
    """The number that a cell's text is; above `cap`, the first whole one above it.

    Raises:
        UserError: it is no number.
    """
    capped = capped_age(text, cap)
    if capped is None and not NUMBER.fullmatch(text):
        raise UserError(
            f"column {name!r}: {text!r} is not a number; mend it, or leave the cell empty where it is unknown."
        )
    return _capped(float(text) if capped is None else capped, cap)


def _capped(number: float, cap: float | None) -> float:
    return number if cap is None or number <= cap else float(math.floor(cap) + 1)
