"""Saving a result under a name, in the folder that the studio was started with."""

import os
import re
import shutil
import uuid
from pathlib import Path

from medloom.core.errors import UserError
from medloom.generation.kept_images import MANIFEST
from medloom.studio.results.folder import Result
from medloom.studio.results.manifest_copy import rewritten

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
        if (manifest := result.folder / MANIFEST).is_file():
            (partial / MANIFEST).write_text(
                rewritten(manifest, lambda _, path: _seen_from(target, result.folder, path))
            )
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{name!r} cannot be saved ({error.strerror}); nothing is lost.") from error
    return target


def _seen_from(target: Path, folder: Path, path: str) -> str:
    """A path that is written in a folder, for a copy of it: what lies in the folder is copied, all else stays."""
    file = (folder / path).resolve()
    if file.is_relative_to(folder.resolve()) or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(file, target.resolve())).as_posix()
