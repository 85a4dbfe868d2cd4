"""Cells of clinical tables: numbers, texts, identifiers and missing values."""

import math
import re
import unicodedata
from collections.abc import Iterable

# A number, a text, or None for a missing value. Zero is a value.
Cell = float | str | None
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})
LARGE = 1e7
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# Codes that look like numbers: padded with zeros, or with an exponent that no program writes so.
CODE = re.compile(r"[+-]?0\d.*|\d+E\d+")
WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0*")
EXPONENT = re.compile(r"\d(?:\.\d+)?[eE]\+\d+")
# They change how a letter looks, and not which it is.
SELECTORS = frozenset({"\u034f", *map(chr, range(0xFE00, 0xFE10))})
WHOLE_TENTHS = re.compile(r"([+-]?\d+)\.0$")
# Ages already capped in a table: 90+, > 89, >= 90.
CAPPED_AGE = re.compile(r"(?:(?P<over>>)|>=|≥)?\s*(?P<years>\d+)\s*\+?")


# What a spreadsheet runs: after + or - only what calls or names something else.
FORMULA = re.compile(r"[=@\t\r]|[+-](?=.*[(|!])", re.DOTALL)


class Code(str):
    """A word that looks like a number and is none, as 007 or 4.10."""

    __slots__ = ()


def harmless_text(text: str) -> str:
    """A text that no spreadsheet runs."""
    return f"'{text}" if FORMULA.match(text) or (text.startswith("'") and FORMULA.match(text.lstrip("'"))) else text


def plain_text(text: str) -> str:
    """A text as it was before `harmless_text`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text.lstrip("'")) else text


def clean_text(text: str) -> str:
    """A text without blanks around it, its line ends LF."""
    return (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text).strip()


def printable(text: str) -> str:
    """A text without control characters, by which it could colour a terminal or move its cursor; LF becomes a blank."""
    return "".join(
        letter if letter.isprintable() or letter == " " else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def faulty_text(text: str) -> str | None:
    """Why no table can hold a text; None for one that it can."""
    if "\0" in text:
        return "a NUL character in a text"
    # ASCII holds no halves of characters, and is recognised quickly.
    if not text.isascii() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        return "half a character in a text (a lone surrogate), which was cut by its length in UTF-16"
    return None


def identifier(cell: object) -> str | None:
    """The one form of an identifier, by whatever program it was written; None where it is missing.

    A whole number has no decimal point, letters are composed (NFC), and invisible characters are left out. Zeros in
    front and capital letters count.
    """
    if cell is None or cell != cell:
        return None
    text = f"{cell:.0f}" if isinstance(cell, float) and cell.is_integer() else str(cell)
    if not (text.isascii() and text.isprintable()):
        blank = "".join(" " if letter.isspace() else letter for letter in text if letter not in SELECTORS)
        visible = "".join(letter for letter in blank if unicodedata.category(letter) not in ("Cf", "Cc"))
        text = unicodedata.normalize("NFC", visible)
    text = " ".join(text.split())
    if EXPONENT.fullmatch(text) and float(text).is_integer():
        text = f"{float(text):.0f}"
    whole = WHOLE_FLOAT.fullmatch(text)
    plain = whole[1] if whole else text
    return None if plain.casefold() in MISSING else plain


def alike_identifier(text: str) -> str:
    """What identifiers have in common that differ only by zeros in front of numbers, and by capital letters."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text.casefold())


def are_codes(texts: Iterable[str]) -> bool:
    """Whether texts that look like numbers are words: as numbers some would be lost.

    So it is where one is padded with zeros or has the exponent of a code (1E5), or where two of them are one number
    (4.10 and 4.1); 7.0 is 7.
    """
    seen: dict[float, str] = {}
    for text in texts:
        if CODE.fullmatch(text):
            return True
        if NUMBER.fullmatch(text):
            plain = WHOLE_TENTHS.sub(r"\1", text.lstrip("+"))
            if seen.setdefault(float(text), plain) != plain and "e" not in (plain + seen[float(text)]).casefold():
                return True
    return False


def spelled(cell: object) -> str:
    """A cell as text: whole numbers without a decimal point, missing values empty, texts as they are."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return str(cell).casefold()
    text = str(cell).strip()
    if not NUMBER.fullmatch(text):
        return text
    if isinstance(cell, str):
        # A text remains itself but for the point of a whole number: 007 and 4.10 are codes, 7.0 is 7.
        return text if CODE.fullmatch(text) else WHOLE_TENTHS.sub(r"\1", text)
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
