"""The rows of a manifest: cells under standard names with types, located files, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.cells import MISSING, are_codes, identifier, spelled
from medloom.core.errors import UserError
from medloom.core.frames import ALL, file_of, split_frame
from medloom.data.columns import ALIASES, PATH_COLUMNS
from medloom.data.paths import located, missing_file
from medloom.data.tables import Problem, Table
from medloom.data.units import joined_units

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"
NO_MODALITY = "image"


def frame_of_table(table: Table, found: Mapping[str, str], root: Path, image_frame: int | str | None) -> "pd.DataFrame":
    """The rows of a table under standard names, with types, absolute paths and their lines.

    Args:
        table: as read.
        found: standard name -> the table's own.
        root: folder of the table.
        image_frame: of files with several frames, where a row names none.
    """
    import pandas as pd

    by_column = {column: standard for standard, column in found.items()}
    # A clinical column gets a name that differs from `line` and from the standard names.
    taken = {*table.header, *found, "line"}
    header = []
    for name in table.header:
        own = by_column.get(name, name)
        # A standard name that is not found is one that the user left out.
        left_out = own in ALIASES
        clashes = own == "line" or left_out or own.casefold() in found
        while name not in by_column and (clashes or (own != name and own in taken)):
            own, clashes = f"{own}_", False
        taken.add(own)
        header.append(own)
    frame = pd.DataFrame(table.rows, columns=header, dtype=object)
    for name in frame.columns:
        frame[name] = _typed(frame[name], name in ALIASES, table.typed)
    if "patient_id" in found:
        stored = [row[table.header.index(found["patient_id"])] for row in table.rows]
        frame["patient_id"] = pd.Series([identifier(cell) for cell in stored], dtype=object)
    for name in ("modality", "view"):
        if name in frame:
            # What cannot be seen makes no other modality.
            frame[name] = pd.Series(map(identifier, frame[name]), dtype=object)
    for name in PATH_COLUMNS:
        if name in frame:
            # As objects: a plain list would become a string column, in which None turns into NaN.
            paths = [None if cell is None else located(root, cell) for cell in frame[name]]
            frame[name] = pd.Series(paths, dtype=object)
    if "path" in frame:
        numbers = frame["frame"] if "frame" in frame else [None] * len(frame)
        frame["path"] = pd.Series(map(_with_frame, frame["path"], numbers, repeat(image_frame)), dtype=object)
    if "modality" not in frame:
        frame["modality"] = NO_MODALITY
    frame["line"] = table.lines
    return frame


def _with_frame(path: str | None, number: str | None, default: int | str | None) -> str | None:
    """A path with its row's frame, else with the default one, unless it names one itself."""
    chosen = default if number is None else spelled(number).casefold()
    return path if path is None or chosen is None or split_frame(path)[1] is not None else f"{path}#{chosen}"


def _typed(column: "pd.Series[Any]", standard: bool, typed: bool) -> "pd.Series[Any]":
    """Missing cells become None; clinical columns of a text file become numeric if all their cells are numbers."""
    import pandas as pd

    missing = [cell is None or (isinstance(cell, str) and cell.strip().casefold() in MISSING) for cell in column]
    # Yes and no are words, also where a format has a type for them, so that every format gives the same.
    spelled_out = [spelled(cell) if isinstance(cell, bool) else cell for cell in column]
    values = [None if gone else cell for gone, cell in zip(missing, spelled_out, strict=True)]
    cells = pd.Series(values, index=column.index, dtype=object)
    if standard:
        texts = [None if cell is None else str(cell).strip() for cell in values]
        return pd.Series(texts, index=column.index, dtype=object)
    numbers = cells.infer_objects() if typed else pd.to_numeric(cells, errors="coerce")
    numeric = pd.api.types.is_numeric_dtype(numbers) and (
        typed or not are_codes(cell.strip() for cell in dict.fromkeys(values) if isinstance(cell, str))
    )
    if numeric and bool((numbers.notna() | cells.isna()).all()) and bool(numbers.notna().any()):
        return numbers
    # Among words, `none` is a value (no finding), in capital letters too; only among numbers does it mean missing.
    named = [isinstance(cell, str) and cell.strip().casefold() == NONE for cell in column]
    words = [NONE if none else value for none, value in zip(named, values, strict=True)]
    return pd.Series(words, index=column.index, dtype=object)


def units_of(frame: "pd.DataFrame", where: str) -> str | None:
    """The units that the column `pixel_unit` says, by modality.

    Raises:
        UserError: no unit of values, or two for one modality.
    """
    pairs = dict.fromkeys(zip(frame["modality"], frame["pixel_unit"], strict=True))
    try:
        return joined_units(*(f"{modality}={unit}" for modality, unit in pairs if modality and unit))
    except UserError as error:
        raise UserError(f"{where}, column 'pixel_unit': {error}") from error


def is_frame(cell: str | None) -> bool:
    """Whether a cell names a frame, or none."""
    return cell is None or cell.casefold() == ALL or spelled(cell).isdecimal()


def row_problems(
    frame: "pd.DataFrame", found: Mapping[str, str], need: Sequence[str], repeated: bool = False
) -> list[Problem]:
    """The rows that cannot be used, by what needs no decoding, the first reason of each.

    Args:
        frame: the rows.
        found: standard name -> the table's own.
        need: required standard columns.
        repeated: whether an image may have several rows, as in a table of ratings.
    """
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for record in records_of(frame):
        path, mask, prior = record["path"] if "path" in need else None, record.get("mask"), record.get("prior")
        # The current image of several pairs has one row with each prior image.
        pair = f"{path}\x1f{prior or ''}"
        # The image and its prior may be folders: DICOM series.
        checks = (
            ("path", "path" in need and path is None, "no path"),
            ("frame", not is_frame(number := record.get("frame")), f"{number!r} is neither a number from 0 nor all"),
            ("path", pair in lines and not repeated, f"the same path as line {lines.get(pair)} ({path})"),
            ("path", path is not None and not file_of(path).exists(), missing_file(str(path))),
            ("text", "text" in need and not record.get("text"), "empty text"),
            ("modality", record["modality"] is None, "no modality"),
            ("mask", "mask" in need and mask is None, "no mask"),
            ("mask", mask is not None and not file_of(mask).is_file(), missing_file(str(mask))),
            ("prior", "prior" in need and prior is None, "no prior image"),
            ("prior", prior is not None and not file_of(prior).exists(), missing_file(str(prior))),
            ("prior", prior is not None and prior == path, f"the prior image is the image itself ({prior})"),
        )
        faults = [f"column {found[column]!r}: {reason}" for column, wrong, reason in checks if wrong]
        if faults:
            problems.append(Problem(record["line"], faults[0]))
        elif path:
            lines[pair] = record["line"]
    return problems


def records_of(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a frame by column."""
    return [{str(name): cell for name, cell in record.items()} for record in frame.to_dict("records")]
