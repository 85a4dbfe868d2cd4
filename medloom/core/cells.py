"""Cells of clinical tables: numbers, texts, and what stands for a missing value."""

import math
import re
from typing import Any

# A number, a text, or None where the value is missing. Zero is a value.
Cell = float | str | None
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})
LARGE = 1e7
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# Ages that a table has already capped: 90+, > 89, >= 90.
CAPPED_AGE = re.compile(r"(?:(?P<over>>)|>=|≥)?\s*(?P<years>\d+)\s*\+?")


def spelled(cell: Any) -> str:
    """A cell as text: whole numbers without a decimal point, however the table held them; missing ones empty."""
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
    # Seven digits are what single precision holds: 0.1 of a Parquet file is not 0.10000000149.
    return f"{number:.7g}"


def capped_age(text: str, cap: float | None) -> float | None:
    """The age that a text such as `90+` or `> 89` stands for, where it is above `cap` anyway; else None."""
    found = CAPPED_AGE.fullmatch(text)
    if found is None or cap is None:
        return None
    age = float(found["years"]) + bool(found["over"])
    return age if age > cap else None
