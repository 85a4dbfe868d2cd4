"""One reader for each format of tables: text with separators, JSONL, Parquet and XLSX."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from medloom.core.cells import MISSING, NUMBER, faulty_text
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.columns import ALIASES, PATH_COLUMNS

if TYPE_CHECKING:
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

# Separators of tables, with their names; spreadsheets of many countries write semicolons.
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
INDEX = re.compile(r"__index_level_\d+__")
# The line that states the separator to Excel.
EXCEL = re.compile(r"sep=([,;\t|])", re.IGNORECASE)
# Errors of formulas: what was looked up is not there; all others are faults of the table.
NOT_AVAILABLE = "#N/A"


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
        notes: remarks for the user.
    """

    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    typed: bool = False
    notes: tuple[str, ...] = ()


def _text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (a byte-order mark is skipped), one at a time, each ending in LF.

    CR and CRLF are line ends too, alone in files of old programs, and inside of quoted texts.
    """
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
            if "\r" not in text:
                yield text
                continue
            # Not by str.splitlines, which takes further characters of texts for line ends.
            yield from re.findall(r"[^\n]*\n|[^\n]+", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_separated(path: Path, usual: str) -> Table:
    """A text table; its separator is the one that the header has most of, the usual one if there is a tie."""
    # One field may hold a whole report.
    csv.field_size_limit(16 * 1024 * 1024)
    separator = _separator(path, usual)
    reader = csv.reader(_text_lines(path), delimiter=separator, skipinitialspace=True, strict=True)
    start = 1
    table: Table | None = None
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not row or all(not cell.strip() for cell in row):
                continue
            if table is None and EXCEL.fullmatch(separator.join(row).strip()):
                continue
            if table is None:
                table = Table(header=[name.strip() for name in row])
                continue
            width = len(table.header)
            while len(row) > width and not row[-1].strip():
                row.pop()
            if len(row) == width:
                table.rows.append(list(row))
                table.lines.append(line)
                continue
            name = SEPARATORS[separator]
            hint = f": a text with a {name} must be in double quotes" if len(row) > width else ""
            table.problems.append(Problem(line, f"{len(row)} fields where the header has {width}{hint}"))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: {error}; a quote that opens here is never closed, or needs doubling inside a field."
        ) from error
    if table is None:
        raise UserError(f"{path} is empty: a manifest has a header and at least one row.")
    if separator == ";":
        _to_decimal_points(table)
    if separator != usual:
        table.notes = (f"{path}: columns are separated by a {SEPARATORS[separator]}.",)
    return table


def _separator(path: Path, usual: str) -> str:
    """The separator that the header has most of outside of quotes; the usual one if a known column stands between."""
    first = next((line for line in _text_lines(path) if line.strip()), "")
    if stated := EXCEL.fullmatch(first.strip()):
        return stated[1]
    outside = re.sub(r'"(?:[^"]|"")*"', "", first)
    counts = {mark: outside.count(mark) for mark in SEPARATORS}
    known = {name for standard, aliases in ALIASES.items() for name in (standard, *aliases)}
    if counts[usual] and known & {field.strip().casefold() for field in outside.split(usual)}:
        return usual
    most = max(counts.values())
    return usual if counts[usual] == most else next(mark for mark in SEPARATORS if counts[mark] == most)


def _to_decimal_points(table: Table) -> None:
    """Numbers of a table with semicolons from 1,5 to 1.5, in columns that hold nothing else.

    Identifiers and paths stay as they are, and so do columns with points as well, which may separate thousands.
    """
    names = {name for standard in ("patient_id", *PATH_COLUMNS) for name in (standard, *ALIASES[standard])}
    for column, name in enumerate(table.header):
        cells = [row[column].strip() for row in table.rows]
        if name.casefold() in names or any("." in cell for cell in cells):
            continue
        known = [cell for cell in cells if cell.casefold() not in MISSING]
        numbers = all(NUMBER.fullmatch(cell.replace(",", ".", 1)) for cell in known)
        if numbers and any(map(DECIMAL_COMMA.fullmatch, known)):
            for row in table.rows:
                row[column] = row[column].replace(",", ".", 1)


def read_jsonl(path: Path) -> Table:
    """A table of one JSON object a line."""
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[Problem] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named = {str(name).strip(): cell for name, cell in pairs}
        if any(faulty_text(name) for name in named):
            raise ValueError("a name holds half a character or NUL")
        if len(named) < len(pairs):
            raise ValueError("a name stands twice in the object")
        return named

    for number, text in enumerate(_text_lines(path), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text, object_pairs_hook=once)
        except json.JSONDecodeError as error:
            problems.append(Problem(number, f"not JSON ({error.msg} at column {error.colno})"))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(number, f"not JSON of a row ({error})"))
        else:
            if isinstance(value, dict):
                objects.append(value)
                lines.append(number)
            else:
                problems.append(Problem(number, "not a JSON object"))
    header = list(dict.fromkeys(name for row in objects for name in row))
    return Table(header, [[row.get(name) for name in header] for row in objects], lines, problems, typed=True)


def read_parquet(path: Path) -> Table:
    """A Parquet file."""
    from pyarrow import ArrowException, parquet

    try:
        # By column, because a table may have a name twice.
        table = parquet.read_table(path)
        # What pandas stores of an index without a name.
        table = table.drop_columns([name for name in table.column_names if INDEX.fullmatch(name)])
        # As Python values: a column of whole numbers with gaps stays one.
        columns = [column.to_pylist() for column in table.columns]
    except (ArrowException, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as .parquet ({error}).") from error
    rows = [[None if cell != cell else cell for cell in row] for row in zip(*columns, strict=True)]
    names = [str(name).strip() for name in table.column_names]
    return Table(names, rows, list(range(2, len(rows) + 2)), typed=True)


def read_xlsx(path: Path, sheet: str | None = None) -> Table:
    """A sheet of an XLSX file, cells as they are stored: texts remain texts, whole numbers have no decimal point."""
    import openpyxl

    try:
        formulas = openpyxl.load_workbook(path, read_only=True)
        values = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .xlsx ({error}).") from error
    sheets = {page.title: page for page in values.worksheets}
    if not sheets:
        raise UserError(f"{path} has no sheet with cells.")
    page = next(iter(sheets.values())) if sheet is None else look_up(sheets, sheet, f"sheet of {path}:")
    try:
        return _sheet(page, formulas[page.title])
    finally:
        values.close()
        formulas.close()


def _sheet(values: "ReadOnlyWorksheet", formulas: "ReadOnlyWorksheet") -> Table:
    from openpyxl.utils.escape import unescape

    # A sheet may state a smaller size than it has.
    for page in (values, formulas):
        page.reset_dimensions()
    table: Table | None = None
    for number, (row, written) in enumerate(zip(values.iter_rows(), formulas.iter_rows(), strict=True), 1):
        cells = [unescape(cell.value) if isinstance(cell.value, str) else cell.value for cell in row]
        if all(cell is None or cell == "" for cell in cells) and not any(_is_formula(cell) for cell in written):
            continue
        if table is None:
            table = Table(["" if cell is None else str(cell).strip() for cell in cells], typed=True)
            continue
        width = len(table.header)
        table.header += [""] * (len(cells) - width)
        for earlier in table.rows:
            earlier += [None] * (len(table.header) - len(earlier))
        cells += [None] * (len(table.header) - len(cells))
        faults = dict(_faults(table.header, cells, written))
        if faults:
            name, fault = next(iter(faults.items()))
            table.problems.append(Problem(number, f"column {name!r}: {fault}"))
            continue
        table.rows.append([_whole(None if cell == NOT_AVAILABLE else cell) for cell in cells])
        table.lines.append(number)
    return table or Table([], typed=True)


def _faults(header: list[str], cells: list[Any], written: Any) -> Iterator[tuple[str, str]]:
    """Cells of a row whose value is not in the file, or is an error of a formula, by their column."""
    for name, cell, stored in zip(header, cells, written, strict=False):
        if cell is None and _is_formula(stored):
            yield name, "a formula whose value is not in the file; open and save the table in a spreadsheet program"
        elif getattr(stored, "data_type", "") in ("e", "f") and str(cell)[:1] == "#" and cell != NOT_AVAILABLE:
            yield name, f"the error {cell} of a formula; correct it"


def _is_formula(cell: Any) -> bool:
    return getattr(cell, "data_type", "") == "f"


def _whole(cell: Any) -> Any:
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
