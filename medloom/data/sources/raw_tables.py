"""Columns of large CSV tables of a data source, gzipped or not; errors name the line."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".csv.gz")


def find_table(folders: Sequence[Path], name: str) -> Path | None:
    """The table `name`, with `*` for its version, in the first folder with it; highest version first, gzipped last."""
    for folder in folders:
        found = [
            (path.name.removesuffix(ending), -order, path)
            for order, ending in enumerate(ENDINGS)
            for path in folder.glob(f"{name}{ending}")
            if path.is_file()
        ]
        if found:
            return max(found)[-1]
    return None


def require_table(folders: Sequence[Path], name: str, option: str) -> Path:
    """As `find_table`.

    Raises:
        UserError: the table is in none of the folders; names the expected files.
    """
    if found := find_table(folders, name):
        return found
    files = " or ".join(f"{name}{ending}" for ending in ENDINGS)
    raise UserError(f"{' and '.join(map(str, folders))} holds no {files}; name the folder of the table with {option}.")


def read_columns(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """Some columns of a table as texts, blanks trimmed, and `line`, the line of the file.

    Raises:
        UserError: a missing column, a line with too many or too few fields, a quote that never closes, text that is not
            UTF-8, or a truncated file.
    """
    import pandas as pd

    with _opened(path) as stream:
        rows = _rows(path, stream)
        header = [name.strip() for name in next(rows, (0, []))[1]]
        for name in columns:
            if name not in header:
                raise UserError(
                    f"{path} has no column {name!r}{did_you_mean(name, header) or '.'} Columns: {', '.join(header)}."
                    " Name the folder of the unmodified table."
                )
        indices = [header.index(name) for name in columns]
        lines: list[int] = []
        cells: list[list[str]] = []
        for line, row in rows:
            if len(row) != len(header):
                raise UserError(
                    f"{path}, line {line}: {len(row)} fields where the header has {len(header)}; the table is damaged:"
                    " download it again."
                )
            lines.append(line)
            cells.append([row[index].strip() for index in indices])
    if not cells:
        raise UserError(f"{path} has no rows; download it again.")
    return pd.DataFrame(cells, columns=list(columns)).assign(line=lines)


def columns_of(path: Path) -> list[str]:
    """The column names of a table."""
    with _opened(path) as stream:
        return [name.strip() for name in next(_rows(path, stream), (0, []))[1]]


def _opened(path: Path) -> TextIO:
    # utf-8-sig skips a byte-order mark.
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _rows(path: Path, stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each row that is not empty."""
    reader = csv.reader(stream, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{path}, after line {reader.line_num}: {error}; the table is damaged: download it again."
        ) from error
