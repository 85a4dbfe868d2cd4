"""Tables from CSV, TSV, Parquet, JSONL and XLSX files; problems are reported by line."""

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from medloom.core.errors import UserError
from medloom.core.lookup import look_up


@dataclass(frozen=True)
class Problem:
    """An unusable row: its line in the file (the header is line 1) and the reason."""

    line: int
    reason: str


@dataclass
class Table:
    """Rows as read, before columns are interpreted.

    Attributes:
        header: column names, blanks trimmed.
        rows: cells by position; strings from text files, typed values from Parquet, JSONL and XLSX.
        lines: the line of the file where each row starts.
        problems: unreadable rows, left out of `rows`.
        typed: whether cells already have types.
    """

    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    typed: bool = False


def read_table(path: Path, sheet: str | None = None) -> Table:
    """Read a table; the ending of its name gives the format.

    Args:
        path: with an ending in READERS.
        sheet: sheet of an XLSX file; None for the first one.

    Raises:
        UserError: a missing file, an unknown ending, text that is not UTF-8 (names the line), a quote that never
            closes, no rows, or an unknown sheet.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; name a manifest ({', '.join(READERS)}).")
    suffix = path.suffix.lower()
    reader = look_up(READERS, suffix, f"manifest ending of {path}:")
    if sheet is not None and suffix != XLSX:
        raise UserError(f"--sheet {sheet}: {path} has no sheets; leave the option out.")
    table = reader(path) if sheet is None else _read_frame(path, sheet)
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
                raise UserError(f"{path}, line {number}: a NUL byte; this is not a text table, or it is truncated.")
            yield text


def _read_separated(path: Path, delimiter: str) -> Table:
    # One field may hold a whole report.
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
            width = len(table.header)
            while len(row) > width and not row[-1].strip():
                row.pop()
            if len(row) == width:
                table.rows.append([cell.strip() for cell in row])
                table.lines.append(line)
                continue
            name = "tab" if delimiter == "\t" else "comma"
            hint = f": a text with a {name} must be in double quotes" if len(row) > width else ""
            table.problems.append(Problem(line, f"{len(row)} fields where the header has {width}{hint}"))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: {error}; a quote that opens here is never closed, or needs doubling inside a field."
        ) from error
    if table is None:
        raise UserError(f"{path} is empty: a manifest has a header and at least one row.")
    return table


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


def _read_frame(path: Path, sheet: str | None = None) -> Table:
    """A Parquet file, or a sheet of an XLSX file."""
    import pandas as pd

    try:
        if path.suffix.lower() != XLSX:
            frame = pd.read_parquet(path)
        else:
            with pd.ExcelFile(path) as workbook:
                sheets = {str(name): name for name in workbook.sheet_names}
                frame = workbook.parse(0 if sheet is None else look_up(sheets, sheet, f"sheet of {path}:"))
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read as {path.suffix} ({error}).") from error
    header = [str(name).strip() for name in frame.columns]
    rows = frame.astype(object).where(frame.notna(), None).values.tolist()
    return Table(header, rows, list(range(2, len(rows) + 2)), typed=True)


XLSX = ".xlsx"
READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_separated, delimiter=","),
    ".tsv": partial(_read_separated, delimiter="\t"),
    ".parquet": _read_frame,
    ".jsonl": _read_jsonl,
    XLSX: _read_frame,
}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV table atomically; None becomes an empty cell."""
    from medloom.core.files import atomic_file

    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
