"""Names in tables: one visible dict a folder serves lookup, command-line choices and documentation."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from medloom.core.errors import UserError

Value = TypeVar("Value")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause to append to an error: `, did you mean 'x'?`, or the empty string where nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    # Two swapped letters in a short word already bring the ratio down to a half.
    close = get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.5)
    return f", did you mean {by_folded[close[0]]!r}?" if close else ""


def look_up(table: Mapping[str, Value], name: str, what: str) -> Value:
    """The entry of `table` called `name`; `what` names the kind of thing for the error.

    Raises:
        UserError: no such name; lists the allowed ones and the closest.
    """
    if name in table:
        return table[name]
    raise UserError(f"unknown {what} {name!r}{did_you_mean(name, table) or '.'} Known: {', '.join(table)}.")
