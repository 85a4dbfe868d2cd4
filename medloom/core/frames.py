"""A frame of a file with several, as a path names it: `heart.dcm#3`, or `chest.dcm#all` for a volume of all frames."""

import re
from pathlib import Path

from medloom.core.errors import UserError

# All frames of a file as one volume.
ALL = "all"
NAMED = re.compile(rf"(.+)#(\d+|{ALL})", re.DOTALL | re.IGNORECASE)


def as_path(given: object) -> Path:
    """A path as a user of the library gives it.

    Raises:
        UserError: it is none.
    """
    if not isinstance(given, str | Path):
        raise UserError(f"{given!r} is no path; give the name of a file or folder.")
    return Path(given)


def split_frame(path: Path | str) -> tuple[Path, int | str | None]:
    """The file of a path, and the frame that it names: a number from 0, ALL, or None.

    A file whose own name looks like this is itself.

    Raises:
        UserError: what was given is no path.
    """
    path = as_path(path)
    found = NAMED.fullmatch(path.name)
    if found is None or path.exists():
        return path, None
    return path.with_name(found[1]), int(found[2]) if found[2].isdecimal() else ALL


def file_of(path: Path | str) -> Path:
    """The file of a path, which may name a frame."""
    return split_frame(path)[0]
