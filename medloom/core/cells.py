"""Cells of clinical tables: numbers, texts and missing values."""

import math
import re

# A number, a text, or None for a missing value. Zero is a value.
Cell = float | str | None
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})
LARGE = 1e7
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# Ages already capped in a table: 90+, > 89, >= 90.
CAPPED_AGE = re.compile(r"(?:(?P<over>>)|>=|≥)?\s*(?P<years>\d+)\s*\+?")


def spelled(cell: object) -> str:
    """A cell as text: whole numbers without a decimal point, missing values empty."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return str(cell).casefold()
    text = str(cell).strip()
    if not NUMBER.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    if number.is_integer() or abs(number) >= LARGE:
        return f"{number:.0f}"
    # Single precision has seven digits: 0.1 in a Parquet file is not 0.10000000149.
    return f"{number:.7g}"


def plain_number(cell: object) -> object:
    """A cell as it is written to a table: a whole number without a decimal point, anything else as it is."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < LARGE else cell


def capped_age(text: str, cap: float | None) -> float | None:
    """The age meant by a text such as `90+` or `> 89` if it is above `cap`; else None."""
    found = CAPPED_AGE.fullmatch(text)
    if found is None or cap is None:
        return None
    age = float(found["years"]) + bool(found["over"])
    return age if age > cap else None
