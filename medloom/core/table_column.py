"""A column of a clinical table as a condition of a model: a standardised number, or one of a few categories."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medloom.core.cells import MISSING, NUMBER, Cell, capped_age, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean_value

NOT_KNOWN = math.nan


@dataclass(frozen=True)
class TableColumn:
    """Statistics of a column in the training data, and the encoding of its cells.

    Attributes:
        name: in the table.
        categories: the values in training; empty for a number.
        mean: of the known numbers in training.
        std: standard deviation of the known numbers in training.
        low: smallest number in training.
        high: largest number in training.
        cap: larger numbers become the next whole number above it, as ages above 89 do.
        sentinels: values that mean missing.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0
    cap: float | None = None
    sentinels: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableColumn":
        """From JSON values, which have lists instead of tuples."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)

    @property
    def seen(self) -> str:
        """The values in training, in words."""
        return ", ".join(self.categories) if self.categories else f"{spelled(self.low)} to {spelled(self.high)}"

    def joined(self, other: "TableColumn") -> "TableColumn":
        """With the values of another training too; without them where one had numbers and the other categories."""
        if bool(self.categories) != bool(other.categories):
            return self
        categories = tuple(sorted({*self.categories, *other.categories}))
        return replace(self, categories=categories, low=min(self.low, other.low), high=max(self.high, other.high))

    def has(self, value: Cell) -> bool:
        """Whether a value is among those in training; a missing value is not."""
        if self.categories:
            return spelled(value) in self.categories
        return isinstance(value, float) and self.low <= _capped(value, self.cap) <= self.high

    def read(self, cell: object) -> Cell:
        """The meaning of a cell: a capped number, a category, or None where it is missing.

        Raises:
            UserError: a text instead of a number.
        """
        text = spelled(cell)
        if text in self.categories:
            return text
        if text.casefold() in MISSING or text in self.sentinels:
            return None
        return text if self.categories else read_number(self.name, text, self.cap)

    def encode(self, cell: object) -> float:
        """A cell as input of the model: a standard score, the index of a category, or NaN where it is missing.

        Raises:
            UserError: see `read`; or a category that is not in training.
        """
        value = self.read(cell)
        if value is None:
            return NOT_KNOWN
        if isinstance(value, float):
            return (value - self.mean) / self.std
        if value not in self.categories:
            hint = did_you_mean_value(value, self.categories) or "."
            raise UserError(f"column {self.name!r}: {value!r} was never trained on{hint} Seen: {self.seen}.")
        return float(self.categories.index(value))


def read_number(name: str, text: str, cap: float | None) -> float:
    """The number in a cell; above `cap`, the first whole number above `cap`.

    Raises:
        UserError: not a number.
    """
    capped = capped_age(text, cap)
    if capped is None and not NUMBER.fullmatch(text):
        raise UserError(
            f"column {name!r}: {text!r} is not a number; correct it, or leave the cell empty if it is unknown."
        )
    return _capped(float(text) if capped is None else capped, cap)


def _capped(number: float, cap: float | None) -> float:
    return number if cap is None or number <= cap else float(math.floor(cap) + 1)
