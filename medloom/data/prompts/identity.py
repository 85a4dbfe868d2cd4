"""Columns that could identify a patient: by their name, or by values that are dates."""

import re

from medloom.data.columns import ALIASES, PATH_COLUMNS

IDENTIFYING_WORDS = """
    id ids uid uuid name names firstname lastname surname forename fullname initials mrn ssn accession passport account
    address street city county zip zipcode postcode phone telephone mobile fax email mail url ip serial licence license
    patientid subjectid studyid seriesid caseid imageid patientname phonenumber
"""
DATING_WORDS = """
    date dates datetime timestamp dob birthday birthdate dateofbirth studydate scandate examdate visitdate
"""
IDENTIFIERS, DATES = frozenset(IDENTIFYING_WORDS.split()), frozenset(DATING_WORDS.split())
# Beginnings of months in English, German, French, Spanish, Italian, Portuguese and Dutch.
MONTH_BEGINNINGS = """
    jan|gen|ene|feb|fev|f\u00e9v|mar|maa|m\u00e4r|mrz|apr|abr|avr|may|mai|mei|mag|jun|jui|giu|jul|lug|aug|ago|aou|ao\u00fb
    |sep|set|oct|okt|ott|out|nov|dec|d\u00e9c|dez|dic
"""
MONTHS = f"(?:{''.join(MONTH_BEGINNINGS.split())})[^\\W\\d_]*\\.?"
YEAR, MONTH_OR_DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|[12]\d|3[01])"
# 3, 3., 3rd, 1er and 3º
DAY = rf"{MONTH_OR_DAY}(?:st|nd|rd|th|er|[.\u00ba\u00aa])?"
OF = r"(?:(?:of|de|del)\s+)?"
# A date with its year, anywhere in a text.
DATE_WITHIN = re.compile(
    rf"(?<!\d){YEAR}(?P<mark>[-/.]){MONTH_OR_DAY}(?P=mark){MONTH_OR_DAY}(?!\d)"
    rf"|(?<!\d){MONTH_OR_DAY}(?P<sign>[-/.])\s?{MONTH_OR_DAY}(?P=sign)\s?{YEAR}(?!\d)"
    rf"|\b{DAY}(?:\s+|(?<=\.)|[-/]){OF}{MONTHS}(?:,?\s+{OF}|(?<=\.)|[-/]){YEAR}\b"
    rf"|\b{MONTHS}\s+{DAY},?\s+{YEAR}\b",
    re.IGNORECASE,
)
# Dates only if nothing else is in the cell: 20240131, and 31.1.24.
DATE_ALONE = re.compile(rf"{YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|{MONTH_OR_DAY}([-/.]){MONTH_OR_DAY}\1\d\d")


def names_identity(column: str) -> str | None:
    """The content of a column by its name: "an identifier", "a date", or None.

    `PatientID`, `patient_id` and `patient id` are equivalent.
    """
    folded, words = column.strip().casefold(), name_words(column)
    standards = ("patient_id", *PATH_COLUMNS)
    if words & IDENTIFIERS or any(folded in (standard, *ALIASES[standard]) for standard in standards):
        return "an identifier"
    return "a date" if words & DATES else None


def name_words(column: str) -> frozenset[str]:
    """The words of a column's name, in lower case."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", column)
    return frozenset(word.casefold() for word in re.split(r"[\W\d_]+", parted) if word)


def is_age(column: str) -> bool:
    """Whether a column holds ages, by its name."""
    return "age" in name_words(column)


def is_date(text: str) -> bool:
    """Whether a value is or contains an absolute date."""
    return bool(DATE_WITHIN.search(text) or DATE_ALONE.fullmatch(text))
