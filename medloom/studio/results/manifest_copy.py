"""The manifest of a result as it is in another place: its paths lead to the same files from there."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from medloom.data.columns import PATH_COLUMNS


def rewritten(manifest: Path, place: Callable[[str, str], str]) -> str:
    """A manifest with other paths.

    Args:
        manifest: as a command wrote it.
        place: column and path as they are written -> the path that is written instead; empty for none.
    """
    with manifest.open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream))
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells = [
            place(name, cell) if name in PATH_COLUMNS and cell else cell for name, cell in zip(header, row, strict=True)
        ]
        writer.writerow(cells)
    return written.getvalue()
