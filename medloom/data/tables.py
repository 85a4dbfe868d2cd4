"""Tables from CSV, TSV, Parquet, JSONL and XLSX files; problems are reported by line."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medloom.core.cells import clean_text, faulty_text, harmless_text, plain_text
from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_text
from medloom.core.lookup import look_up
from medloom.data.table_readers import Problem, Table, read_jsonl, read_parquet, read_separated, read_xlsx

__all__ = ["READERS", "XLSX", "Problem", "Table", "read_table", "row_ids", "write_csv"]

XLSX = ".xlsx"
READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(read_separated, usual=","),
    ".tsv": partial(read_separated, usual="\t"),
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    XLSX: read_xlsx,
}


def read_table(path: Path, sheet: str | None = None) -> Table:
    """Read a table; the ending of its name gives the format.

    Texts have line ends LF and no blanks around them. Blank rows and columns without a name or a cell are left out.

    Args:
        path: with an ending in READERS.
        sheet: sheet of an XLSX file; None for the first one.

    Raises:
        UserError: a missing file, an unknown ending, text that is not UTF-8 (names the line), a quote that never
            closes, no rows, two columns of one name up to case, or an unknown sheet.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder; name a table in it" if path.is_dir() else "does not exist; name a manifest"
        raise UserError(f"{path} {what} ({', '.join(READERS)}).")
    suffix = path.suffix.lower()
    reader = look_up(READERS, suffix, f"manifest ending of {path}:")
    if sheet is not None and suffix != XLSX:
        raise UserError(f"--sheet {sheet}: {path} has no sheets; leave the option out.")
    table = _tidied(reader(path) if sheet is None else read_xlsx(path, sheet), path)
    if not table.rows and not table.problems:
        raise UserError(f"{path} is empty: a manifest has a header and at least one row.")
    return table


def row_ids(path: Path, lines: Iterable[int]) -> list[str]:
    """The `source_id` that images of some rows carry: of the table's content and the line, and nothing of the row.

    Args:
        path: the table.
        lines: of the rows, see `Table.lines`.

    Example:
        >>> table = read_table(Path("test.csv"))
        >>> row_of = dict(zip(row_ids(Path("test.csv"), table.lines), table.rows, strict=True))
    """
    salt = hash_file(path)
    return [hash_text(f"{salt}{line}") for line in lines]


def _tidied(table: Table, path: Path) -> Table:
    """A table with clean texts, without blank rows and columns; rows whose texts cannot be kept become problems.

    Raises:
        UserError: two columns of one name up to case.
    """
    # Spreadsheets leave formatted columns without a name or a cell.
    used = {
        column
        for column, name in enumerate(table.header)
        if name or any(not _is_blank(row[column]) for row in table.rows)
    }
    header = [plain_text(name) for column, name in enumerate(table.header) if column in used]
    counts = Counter(name.casefold() for name in header)
    if twice := [name for name in header if counts[name.casefold()] > 1]:
        alike = list(dict.fromkeys(name for name in twice if name.casefold() == twice[0].casefold()))
        what = f"column {alike[0]!r} stands twice"
        if len(alike) > 1:
            what = f"columns {' and '.join(map(repr, alike))} have one name but for capital letters, and stand"
        raise UserError(f"{path}: {what} in the header; rename one.")
    rows: list[list[Any]] = []
    lines: list[int] = []
    problems = list(table.problems)
    for line, row in zip(table.lines, table.rows, strict=True):
        cells = [plain_text(clean_text(cell)) if isinstance(cell, str) else cell for cell in row]
        if all(_is_blank(cell) for cell in cells):
            continue
        faults = (
            f"column {name!r}: {fault}"
            for name, cell in zip(table.header, cells, strict=True)
            if isinstance(cell, str) and (fault := faulty_text(cell))
        )
        if fault := next(faults, None):
            problems.append(Problem(line, fault))
            continue
        rows.append([cell for column, cell in enumerate(cells) if column in used])
        lines.append(line)
    problems.sort(key=lambda problem: problem.line)
    return Table(header, rows, lines, problems, table.typed, table.notes)


def _is_blank(cell: object) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV table atomically, which `read_table` reads as the same cells; None becomes an empty cell.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, which `read_table` takes away.

    Raises:
        UserError: a text with a NUL byte or half a character, which no table can hold.
    """
    from medloom.core.files import atomic_file

    def written(cell: object, line: int) -> object:
        if not isinstance(cell, str):
            return "" if cell is None else cell
        text = harmless_text(clean_text(cell))
        if fault := faulty_text(text):
            raise UserError(f"{path}, line {line}: {fault}; correct the text.")
        return text

    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        # Quoted, so that no separator in a name is taken for the table's.
        csv.writer(
            stream, lineterminator="\n", quoting=csv.QUOTE_MINIMAL if _plain(header) else csv.QUOTE_ALL
        ).writerow([written(name, 1) for name in header])
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([written(cell, line) for cell in row] for line, row in enumerate(rows, 2))


def _plain(header: Sequence[str]) -> bool:
    return not any(mark in name for name in header for mark in ";\t|")
