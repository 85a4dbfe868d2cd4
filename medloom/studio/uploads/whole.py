"""Files that hold all of their image: none that has its values from another file of this computer."""

import mmap
import re
from pathlib import Path

from medloom.core.errors import UserError

# Endings of headers, and of values without one.
HALVES = (".mhd", ".nhdr", ".hdr", ".img")
# The line of a header that says where the values are, and what it says where they are behind it. It is looked for in
# all of the file: a header may be of any length.
PLACES = {
    ".mha": (re.compile(rb"ElementDataFile", re.IGNORECASE), re.compile(rb"[ \t]*[=:][ \t]*LOCAL[ \t]*\r?\n")),
    ".nrrd": (re.compile(rb"(?m)^[ \t]*data ?file", re.IGNORECASE), None),
}


def require_whole(path: Path) -> None:
    """Refuse a file whose values lie in another one.

    Whoever reads such a file reads whatever file of this computer its header names.

    Raises:
        UserError: says how to bring it.
    """
    ending = path.suffix.lower()
    if ending in HALVES or (ending in PLACES and _names_another(path, ending)):
        raise UserError(
            "the values of this image lie in another file: write both into one, as .nii.gz, .mha or .nrrd, and bring"
            " that."
        )


def _names_another(path: Path, ending: str) -> bool:
    field, own = PLACES[ending]
    if not path.stat().st_size:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(own is None or not own.match(content, found.end()) for found in field.finditer(content))
