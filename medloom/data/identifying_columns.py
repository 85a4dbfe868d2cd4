"""Columns of words that would carry patients into a model: their values stand in the files of a run, by name."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.table_column import TableColumn
from medloom.core.types import Sample
from medloom.data.identifying_texts import LEAST_PATIENTS, LONG_NUMBER, MARK, kinds_in

# Longer values are sentences.
LONGEST = 60
# ZZSTUDY0001, MRN-123, cc_116 and 0012345
IDENTIFIER = re.compile(r"[^\W\d_]+[-_/ ]?\d{3,}|\d{6,}")
# Numbers of six digits are also codes of diseases and drugs; marks stand where something was removed.
NAMELESS = (LONG_NUMBER, MARK)
STAND = "and would stand in the model"
LEAVE_OUT = (
    "leave the column out, or, if it identifies nobody, list it in the table's template, among `columns` and under"
    " `allow`."
)


def patients_of(cells: Iterable[tuple[str, Sample]]) -> dict[str, set[str]]:
    """The patients of each value of a column.

    Args:
        cells: the known ones, and the rows that they are of.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for text, sample in cells:
        found[text].add(sample.patient)
    return found


def refuse_identifying(name: str, cells: Sequence[tuple[str, Sample]], where: str) -> None:
    """Refuse a column whose words may identify patients.

    Args:
        name: of the column.
        cells: the known ones, and the rows that they are of.
        where: the table, for messages.

    Raises:
        UserError: says why, and what to do.
    """
    for text, sample in cells:
        if what := _identifying(text):
            raise UserError(
                f"{where}, line {sample.line}: column {name!r} holds {what}, which may identify a patient and would"
                f" stand in the model; {LEAVE_OUT}"
            )
    if why := reason(patients_of(cells)):
        raise UserError(f"--table {name}: in {where} {why}; group them into few categories, or {LEAVE_OUT}")


def may_identify(cells: Sequence[tuple[str, Sample]]) -> bool:
    """Whether the words of a column may identify patients; see `refuse_identifying`."""
    return any(_identifying(text) for text, _ in cells) or reason(patients_of(cells)) is not None


def _identifying(text: str) -> str | None:
    return next((what for what in kinds_in(text) if what not in NAMELESS), None)


def reason(values: Mapping[str, Set[str]]) -> str | None:
    """Why the words of a column are no categories but patients or free text; None if they are categories.

    Real columns have rare categories: it takes several of them, of many of the patients.

    Args:
        values: the patients of each value.

    Examples:
        >>> reason({"north": {"a", "b", "c"}, "south": {"d"}})
        >>> reason({"AB123": {"a"}, "AB124": {"b"}})
        '2 of 2 different words look like identifiers of single patients, and would stand in the model'
    """
    own = {text: patients for text, patients in values.items() if len(patients) == 1}
    if 2 * len(like := [text for text in own if IDENTIFIER.fullmatch(text)]) > len(values):
        return f"{len(like)} of {len(values)} different words look like identifiers of single patients, {STAND}"
    if 2 * len(long := [text for text in values if len(text) > LONGEST]) > len(values):
        return f"{len(long)} of {len(values)} different words are free text of more than {LONGEST} letters, {STAND}"
    named, everyone = set().union(*own.values()), set().union(*values.values())
    if len(own) >= LEAST_PATIENTS and 2 * len(own) > len(values) and 4 * len(named) > len(everyone):
        return f"{len(own)} of {len(values)} different words are of a single patient each, {STAND}"
    return None


def rare_note(columns: Sequence[TableColumn], samples: Sequence[Sample]) -> str | None:
    """What a user should know of categories that few training patients have; None without such.

    Args:
        columns: that condition the model.
        samples: the training rows.
    """
    found = []
    for column in columns:
        cells = ((spelled(sample.condition.table[column.name]), sample) for sample in samples)
        patients = patients_of((text, sample) for text, sample in cells if text in column.categories)
        if rare := [text for text in column.categories if len(patients[text]) < LEAST_PATIENTS]:
            found.append(f"{len(rare)} of {len(column.categories)} of {column.name!r}")
    if not found:
        return None
    return (
        f"--table: fewer than {LEAST_PATIENTS} training patients have some of the categories, which stand in the model"
        f" ({', '.join(found)}); group them if they may identify someone."
    )
