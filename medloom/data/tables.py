"""Tables from files: CSV and TSV with line numbers for every broken row, Parquet, JSONL and XLSX."""

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from medloom.core.errors import UserError
from medloom.core.lookup import look_up


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used: its line in the file (the header is line 1) and why."""

    line: int
    reason: str


@dataclass
class Table:
    """Rows as read, before anything is known about columns.

    Attributes:
        header: column names, blanks trimmed.
        rows: cells by position; text files give strings, Parquet, JSONL and XLSX their own types.
        lines: the line of the file on which each row starts.
        problems: rows that were left out because they could not be read.
        typed: whether cells already have types.
    """

    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    typed: bool = False


def read_table(path: Path, sheet: str | None = None) -> Table:
    """Read a table by its ending.

    Args:
        path: one of READERS by its ending.
        sheet: of an XLSX file, by name; the first one where it is None.

    Raises:
        UserError: missing file, unknown ending, text that is not UTF-8 (names the line), a quote that never closes, no
            row at all, or a sheet that the file does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; name a manifest ({', '.join(READERS)}).")
    suffix = path.suffix.lower()
    reader = look_up(READERS, suffix, f"manifest ending of {path}:")
    if sheet is not None and suffix != XLSX:
        raise UserError(f"--sheet {sheet}: {path} has no sheets; leave the option out.")
    table = reader(path) if sheet is None else _read_xlsx(path, sheet)
    if not table.rows and not table.problems:
        raise UserError(f"{path} is empty: a manifest has a header and at least one row.")
    return table


def _text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (a byte-order mark is skipped), one at a time."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            line = raw[len(codecs.BOM_UTF8) :] if number == 1 and raw.startswith(codecs.BOM_UTF8) else raw
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}, byte {error.start + 1}: not UTF-8; save the table as UTF-8 and try again."
                ) from error
            if "\0" in text:
                raise UserError(f"{path}, line {number}: a NUL byte; this is not a text table, or it is cut short.")
            yield text


def _read_separated(path: Path, delimiter: str) -> Table:
    # A field may hold a whole report.
    csv.field_size_limit(16 * 1024 * 1024)
    reader = csv.reader(_text_lines(path), delimiter=delimiter, skipinitialspace=True, strict=True)
    start = 1
    table: Table | None = None
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not row or all(not cell.strip() for cell in row):
                continue
            if table is None:
                table = Table(header=[name.strip() for name in row])
                continue
            _add_row(table, row, line, delimiter)
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: {error}; a quote that opens here is never closed, or is not doubled inside a field."
        ) from error
    if table is None:
        raise UserError(f"{path} is empty: a manifest has a header and at least one row.")
    return table


def _add_row(table: Table, row: list[str], line: int, delimiter: str) -> None:
    width = len(table.header)
    while len(row) > width and not row[-1].strip():
        row.pop()
    if len(row) != width:
        name = "tab" if delimiter == "\t" else "comma"
        hint = f": a {name} inside a text has to stand in double quotes" if len(row) > width else ""
        table.problems.append(Problem(line, f"{len(row)} fields where the header has {width}{hint}"))
        return
    table.rows.append([cell.strip() for cell in row])
    table.lines.append(line)


def _read_csv(path: Path) -> Table:
    return _read_separated(path, ",")


def _read_tsv(path: Path) -> Table:
    return _read_separated(path, "\t")


def _read_jsonl(path: Path) -> Table:
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    for number, text in enumerate(_text_lines(path), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            problems.append(Problem(number, f"not JSON ({error.msg} at column {error.colno})"))
            continue
        if not isinstance(value, dict):
            problems.append(Problem(number, "not a JSON object"))
            continue
        objects.append({str(name).strip(): cell for name, cell in value.items()})
        lines.append(number)
    header = list(dict.fromkeys(name for row in objects for name in row))
    return Table(header, [[row.get(name) for name in header] for row in objects], lines, problems, typed=True)


def _from_frame(path: Path, read: Callable[[Path], Any]) -> Table:
    try:
        frame = read(path)
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read as {path.suffix} ({error}).") from error
    header = [str(name).strip() for name in frame.columns]
    rows = frame.astype(object).where(frame.notna(), None).values.tolist()
    return Table(header, rows, list(range(2, len(rows) + 2)), typed=True)


def _read_parquet(path: Path) -> Table:
    import pandas as pd

    return _from_frame(path, pd.read_parquet)


def _read_xlsx(path: Path, sheet: str | None = None) -> Table:
    import pandas as pd

    def read(workbook: Path) -> Any:
        with pd.ExcelFile(workbook) as opened:
            sheets = {str(name): name for name in opened.sheet_names}
            return opened.parse(0 if sheet is None else look_up(sheets, sheet, f"sheet of {path}:"))

    return _from_frame(path, read)


XLSX = ".xlsx"
READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    XLSX: _read_xlsx,
}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table atomically; None becomes an empty cell."""
    from medloom.core.files import atomic_file

    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
