"""Reading what a browser sent: numbers in range, choices, and all mistakes at once, each by its field."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean_value

# Characters of a text that a form may send.
LONGEST = 10_000


class FormError(UserError):
    """What is wrong with a form.

    Attributes:
        fields: name of a field -> a sentence on it; "" stands for the form as a whole.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = dict(fields)


@dataclass
class Reading:
    """The values of a form, and what is wrong with them.

    Attributes:
        values: as the browser sent them.
        wrong: name of a field -> a sentence on it.
    """

    values: Mapping[str, str]
    wrong: dict[str, str] = field(default_factory=dict)

    def refuse(self, name: str, sentence: str) -> None:
        """Note what is wrong with a field; the first sentence stays."""
        self.wrong.setdefault(name, sentence)

    def require_all_right(self) -> None:
        """End the reading.

        Raises:
            FormError: something is wrong.
        """
        if self.wrong:
            raise FormError(self.wrong)

    def text(self, name: str) -> str:
        """A text without outer blanks; empty where there is none."""
        value = self.values.get(name, "").strip()
        if len(value) > LONGEST:
            self.refuse(name, f"The text has {len(value)} characters; at most {LONGEST} are read.")
        return value[:LONGEST]

    def switch(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self.values.get(name) == "on"

    def whole(self, name: str, what: str, low: int, high: int, default: int) -> int:
        """A whole number in a range."""
        value = self.text(name)
        if not value:
            return default
        number = int(value) if value.isascii() and value.lstrip("-").isdigit() and len(value) < 20 else None
        if number is None or not low <= number <= high:
            self.refuse(name, f"{what} is {value[:40]!r}; give a whole number from {low} to {high}.")
            return default
        return number

    def number(self, name: str, what: str, low: float, high: float, hint: str = "") -> str:
        """A number in a range as it was written; empty where there is none.

        Args:
            name: of the field.
            what: it is, in the sentence.
            low: smallest.
            high: largest.
            hint: what else the sentence says.
        """
        value = self.text(name).replace(",", ".")
        if not value:
            return ""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            self.refuse(name, f"{what} is {value[:40]!r}; give a number from {low:g} to {high:g}{hint}.")
        return value

    def choice(self, name: str, what: str, known: Iterable[str]) -> str:
        """One of some words; empty where none was chosen."""
        value, words = self.text(name), list(known)
        if value and value not in words:
            hint = did_you_mean_value(value, words) or "."
            self.refuse(name, f"{what} {value[:40]!r} is not known{hint} Known: {', '.join(words)}.")
            return ""
        return value
