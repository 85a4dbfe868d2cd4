"""Paths in tables: from a cell to the file that it names, and back to a cell of another table."""

import os
import unicodedata
from pathlib import Path

from medloom.core.frames import file_of


def absolute(path: Path | str) -> Path:
    """A path from the root, without `..`, and with its links as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve would follow links.


def located(root: Path, cell: str) -> str:
    """The absolute path that a cell names in a table's folder.

    Links are kept: in stores by content it is the link's name that says the format. Backslashes and other Unicode forms
    of letters, which a table from another system has, are tried where there is no file by the name as it stands.
    """
    path = absolute(root / cell)
    if ("\\" not in cell and cell.isascii()) or file_of(path).exists():
        return str(path)
    forward = cell.replace("\\", "/")
    tried = (forward, *(unicodedata.normalize(form, forward) for form in ("NFC", "NFD")))
    return str(next((found for name in tried if file_of(found := absolute(root / name)).exists()), path))


def missing_file(path: str) -> str:
    """The reason for a row whose file is not there."""
    hint = "; folders are separated by / here, not by a backslash" if "\\" in path else ""
    what = "; a link that leads nowhere" if Path(path).is_symlink() else ""
    return f"file missing ({path}){hint}{what}"


def portable(path: str | None, folder: Path) -> str | None:
    """A path relative to a table's folder, so that both can be moved; absolute where they have no folder in common."""
    if path is None or path != path:
        return None
    absolute = Path(path)
    try:
        common = Path(os.path.commonpath((absolute, folder)))
    except ValueError:
        # Drives of Windows.
        return str(absolute)
    return str(absolute) if common == Path(common.anchor) else Path(os.path.relpath(absolute, folder)).as_posix()
