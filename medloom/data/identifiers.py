"""Remarks on the identifiers of patients in a table: several spellings of one, and those that almost agree."""

from collections import defaultdict
from collections.abc import Sequence

from medloom.core.cells import alike_identifier, identifier

LISTED = 5


def identifier_notes(cells: Sequence[object], lines: Sequence[int], column: str) -> tuple[str, ...]:
    """What a user should know of a column of identifiers; lines stand for the identifiers themselves.

    Args:
        cells: as they are in the table.
        lines: their lines.
        column: its name.
    """
    spellings: dict[str, dict[str, int]] = defaultdict(dict)
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    for cell, line in zip(cells, lines, strict=True):
        if (patient := identifier(cell)) is not None:
            spellings[patient].setdefault(str(cell), line)
            alike[alike_identifier(patient)].setdefault(patient, line)
    notes = []
    if several := [list(found.values()) for found in spellings.values() if len(found) > 1]:
        notes.append(
            f"column {column!r}: {_count(several, 'is', 'are')} spelled in several ways (7.0 and 7, invisible or"
            f" composed characters), and each is one patient: {_listed(several)}."
        )
    if close := [list(found.values()) for found in alike.values() if len(found) > 1]:
        notes.append(
            f"column {column!r}: {_count(close, 'has', 'have')} another one that differs only by zeros in front or"
            f" capital letters, and they count as different patients: {_listed(close)}; correct them if they are one."
        )
    return tuple(notes)


def _count(groups: Sequence[Sequence[int]], one: str, several: str) -> str:
    return f"1 patient {one}" if len(groups) == 1 else f"{len(groups)} patients {several}"


def _listed(groups: Sequence[Sequence[int]]) -> str:
    listed = "; ".join(f"lines {' and '.join(map(str, lines[:3]))}" for lines in groups[:LISTED])
    return listed + (f" and {len(groups) - LISTED} more" if len(groups) > LISTED else "")
