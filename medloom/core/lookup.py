"""Names in tables: one visible dict a folder serves lookup, command-line choices and documentation."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import SequenceMatcher
from operator import ne
from typing import TypeVar

from medloom.core.errors import UserError

Value = TypeVar("Value")
# Least fraction of letters that two words share in order, and least length of a beginning that names a word.
CUTOFF, PREFIX = 0.78, 3


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is a slip of the pen for, or None where none is that close.

    >>> closest("trian", ["train", "generate"]), closest("sex", ["text", "path"])
    ('train', None)
    """
    typed = _folded(name)
    by_folded = {_folded(candidate): candidate for candidate in known}
    close = [candidate for candidate in by_folded if _is_close(typed, candidate)]
    best = max(close, key=lambda candidate: SequenceMatcher(None, typed, candidate).ratio(), default=None)
    return None if best is None else by_folded[best]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause to append to an error: `, did you mean 'x'?`, or the empty string where nothing is close."""
    guess = closest(name, known)
    return "" if guess is None else f", did you mean {guess!r}?"


def did_you_mean_value(value: str, known: Iterable[str]) -> str:
    """As `did_you_mean` for values of a column, of which only those one edit apart are a slip of the pen.

    Codes of categories are alike and mean different things: UILD is no slip for RA-ILD.

    >>> did_you_mean_value("UILD", ["RA-ILD", "NSIP"]), did_you_mean_value("nevr", ["never", "current"])
    ('', ", did you mean 'never'?")
    """
    guess = next((candidate for candidate in known if _is_one_edit(value.casefold(), candidate.casefold())), None)
    return "" if guess is None else f", did you mean {guess!r}?"


def look_up(table: Mapping[str, Value], name: str, what: str) -> Value:
    """The entry of `table` called `name`; `what` names the kind of thing for the error.

    Raises:
        UserError: no such name; lists the allowed ones and the closest.
    """
    if name in table:
        return table[name]
    known = f"Known: {', '.join(table)}." if table else "There is none."
    raise UserError(f"unknown {what} {name!r}{did_you_mean(name, table) or '.'} {known}")


def never_trained(what: str, name: str, known: Collection[str]) -> str:
    """The sentence about a name that training did not have, with the closest that it had.

    >>> never_trained("modality", "CTT", ["CT", "MRI"])
    "modality 'CTT' was never trained on, did you mean 'CT'? Known: CT, MRI."
    """
    hint, listed = did_you_mean(name, known), ", ".join(known) or "none"
    return f"{what} {name!r} was never trained on{f'{hint} Known' if hint else '; known'}: {listed}."


def _is_one_edit(word: str, other: str) -> bool:
    """Whether a letter is added, left out or changed, or two neighbours are exchanged, at most once."""
    short, long = sorted((word, other), key=len)
    if len(long) - len(short) > 1 or len(long) < PREFIX:
        return word == other
    start = next((place for place, letter in enumerate(short) if letter != long[place]), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    exchanged = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return short[start + 1 :] == long[start + 1 :] or exchanged


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def _is_close(typed: str, candidate: str) -> bool:
    """Word by word where both have as many, so that a shared group (`loop.`, `data import `) makes nothing closer."""
    ours, theirs = re.split("[ .]", typed), re.split("[ .]", candidate)
    return all(map(_are_close, ours, theirs)) if len(ours) == len(theirs) else _are_close(typed, candidate)


def _are_close(word: str, other: str) -> bool:
    one_letter = len(word) == len(other) >= PREFIX and sum(map(ne, word, other)) == 1
    beginning = len(word) >= PREFIX and other.startswith(word)
    alike = SequenceMatcher(None, word, other).ratio() >= CUTOFF
    return word == other or one_letter or beginning or alike or sorted(word) == sorted(other)
