"""Saving a result under a name, in the folder that the studio was started with."""

import re
import shutil
import uuid
from pathlib import Path

from medloom.core.errors import UserError
from medloom.studio.results.folder import Result

NAME = re.compile(r"[\w][\w .()-]{0,79}")
# Names that Windows does not have as files.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def save_result(result: Result, root: Path, name: str) -> Path:
    """Copy the folder of a result; returns where it is now.

    Args:
        result: with images.
        root: the folder below which it is saved.
        name: of the new folder.

    Raises:
        UserError: there is nothing to save, the name is none, or there is such a folder, or no space.
    """
    if not result.images:
        raise UserError("there is no image to save yet.")
    if not NAME.fullmatch(name) or RESERVED.fullmatch(name) or name.endswith((".", " ")):
        raise UserError("give a name of up to 80 letters, digits, blanks and _ . - ( ), without a path.")
    target, partial = root / name, root / f".{uuid.uuid4().hex}.partial"
    if target.exists():
        raise UserError(f"there is a folder {name!r}; give another name.")
    try:
        shutil.copytree(result.folder, partial)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{name!r} cannot be saved ({error.strerror}); nothing is lost.") from error
    return target
