"""Bounds of a template: linear comparisons of columns and numbers, such as `pack_years <= 3 * (age - 15)`."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from medloom.core.cells import Cell, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean

LONGEST = 200  # names, numbers and signs of a bound
SHOWN = 60  # characters of a bound in a message
# Comparisons of sums of decimal numbers are exact to this fraction of their terms.
ROUNDING = 1e-9
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": lambda difference, slack: difference <= slack,
    ">=": lambda difference, slack: difference >= -slack,
    "<": lambda difference, slack: difference < -slack,
    ">": lambda difference, slack: difference > slack,
}
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
TOKEN = re.compile(rf"\s*(?:(?P<number>{NUMBER})|`(?P<quoted>[^`]+)`|(?P<name>[^\W\d]\w*)|(?P<mark><=|>=|[-+*/()<>]))")
ALLOWED = (
    "columns, numbers, + - * / and parentheses on both sides of <=, >=, < or >, as in pack_years <= 3 * (age - 15)"
)


@dataclass(frozen=True)
class Sum:
    """A linear expression: the sum of columns times numbers, and a number."""

    terms: Mapping[str, float] = field(default_factory=dict)
    number: float = 0.0

    def plus(self, other: "Sum", factor: float = 1.0) -> "Sum":
        """The sum of this and `factor` times another."""
        names = {*self.terms, *other.terms}
        terms = {name: self.terms.get(name, 0.0) + factor * other.terms.get(name, 0.0) for name in names}
        return Sum(terms, self.number + factor * other.number)


@dataclass(frozen=True)
class Bound:
    """A comparison that a changed row has to keep.

    Attributes:
        text: as the template states it.
        columns: that it names.
        difference: the left side less the right one.
        comparison: of `difference` and 0, a key of COMPARISONS.
    """

    text: str
    columns: frozenset[str]
    difference: Sum
    comparison: str

    def is_broken(self, row: Mapping[str, Cell]) -> bool:
        """Whether a row breaks the bound; a row with an unknown number does not.

        Raises:
            UserError: a cell that is not a number.
        """
        cells = {name: row[name] for name in self.columns}
        for name, cell in cells.items():
            if isinstance(cell, str):
                raise UserError(f"column {name!r}: {spelled(cell)!r} is not a number, and {self.text} compares it.")
        parts = [self.difference.number]
        for name, factor in self.difference.terms.items():
            cell = cells[name]
            if not isinstance(cell, float):
                return False
            parts.append(factor * cell)
        slack = ROUNDING * sum(abs(part) for part in parts)
        return not COMPARISONS[self.comparison](sum(parts), slack)


def read_bound(text: str, columns: Sequence[str]) -> Bound:
    """A bound from its text.

    Args:
        text: a comparison; a column whose name is not a plain word stands in backticks.
        columns: of the template.

    Raises:
        UserError: says what cannot be read, and what can.
    """
    return _Reader(text, columns).bound()


class _Reader:
    """Reads a comparison from left to right (recursive descent); nothing in it is ever executed."""

    def __init__(self, text: str, columns: Sequence[str]) -> None:
        self.text, self.columns, self.place = text, columns, 0
        self.tokens: list[tuple[str, str]] = []
        end = 0
        while text[end:].strip():
            found = TOKEN.match(text, end)
            if found is None:
                self.refuse(f"{text[end:].strip()[:1]!r} cannot be read")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind]))
            end = found.end()
        if len(self.tokens) > LONGEST:
            self.refuse(f"it has more than {LONGEST} names, numbers and signs")

    def refuse(self, why: str) -> NoReturn:
        shown = self.text if len(self.text) <= SHOWN else f"{self.text[:SHOWN]}..."
        raise UserError(f"bounds: {shown!r}: {why}; give {ALLOWED}.")

    @property
    def mark(self) -> str:
        """The sign at the current place; empty if there is none."""
        kind, text = self.tokens[self.place] if self.place < len(self.tokens) else ("", "")
        return text if kind == "mark" else ""

    def bound(self) -> Bound:
        left = self.sum()
        comparison = self.mark
        if comparison not in COMPARISONS:
            self.refuse("it has no comparison" if self.place == len(self.tokens) else "a comparison is expected")
        self.place += 1
        difference = left.plus(self.sum(), -1.0)
        if self.place < len(self.tokens):
            self.refuse(f"{self.tokens[self.place][1]!r} follows the comparison; state each comparison on its own")
        difference = Sum({name: factor for name, factor in difference.terms.items() if factor}, difference.number)
        if not difference.terms:
            self.refuse("it compares no column")
        if not all(map(math.isfinite, (*difference.terms.values(), difference.number))):
            self.refuse("a number is too large")
        return Bound(self.text, frozenset(difference.terms), difference, comparison)

    def sum(self) -> Sum:
        total = self.product()
        while self.mark in ("+", "-"):
            sign = 1.0 if self.mark == "+" else -1.0
            self.place += 1
            total = total.plus(self.product(), sign)
        return total

    def product(self) -> Sum:
        total = self.signed()
        while self.mark in ("*", "/"):
            mark = self.mark
            self.place += 1
            other = self.signed()
            if mark == "*" and not total.terms:
                total, other = other, total
            if other.terms:
                self.refuse("it multiplies columns" if mark == "*" else "it divides by a column")
            if mark == "/" and not other.number:
                self.refuse("it divides by 0")
            total = Sum().plus(total, other.number if mark == "*" else 1 / other.number)
        return total

    def signed(self) -> Sum:
        if self.mark in ("-", "+"):
            sign = -1.0 if self.mark == "-" else 1.0
            self.place += 1
            return Sum().plus(self.signed(), sign)
        if self.mark == "(":
            self.place += 1
            inside = self.sum()
            if self.mark != ")":
                self.refuse("a parenthesis is not closed")
            self.place += 1
            return inside
        if self.place == len(self.tokens):
            self.refuse("it ends too early")
        kind, text = self.tokens[self.place]
        if kind == "mark":
            self.refuse(f"a column or a number is expected, not {text!r}")
        self.place += 1
        if kind == "number":
            return Sum(number=float(text))
        if text not in self.columns:
            self.refuse(f"the template has no column {text!r}{did_you_mean(text, self.columns).rstrip('?.')}")
        return Sum({text: 1.0})
