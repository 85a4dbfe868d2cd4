"""Tables of ratings: from an export or a store, checked row by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.cells import MISSING, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.feedback.ratings.export import ratings_table
from medloom.feedback.ratings.rubric import LEVELS, ORIGIN, QUALITY

if TYPE_CHECKING:
    import pandas as pd

# Questions of the rubrics, and the level that follows from them -> their scales.
SCALES: Mapping[str, tuple[int, ...]] = {
    **{item.name: tuple(map(int, item.answers)) for item in QUALITY.items},
    "level": LEVELS,
    **{item.name: tuple(map(int, item.answers)) for item in ORIGIN.items},
}
NEEDED = ("rater", "item")
TEXTS = {"modality": "not stated", "source": "", "flags": "", "time": "", "session": "1"}
NUMBERS = {"seconds": float("nan"), "round": 1.0, "repeat": 0.0}
SOURCES = ("synthetic", "real")
LINE = "line"
UNIT = "unit"


def read_ratings(path: Path) -> "pd.DataFrame":
    """The table that `medloom rate export` writes, or one like it; see `checked_ratings`.

    Raises:
        UserError: see `read_table` and `checked_ratings`.
    """
    import pandas as pd

    from medloom.data.tables import read_table

    table = read_table(path)
    if table.problems:
        first = table.problems[0]
        raise UserError(f"{path}, line {first.line}: {first.reason}; correct the row.")
    frame = pd.DataFrame(table.rows, columns=table.header)
    return checked_ratings(frame.assign(**{LINE: table.lines}), str(path))


def ratings_of_store(path: Path) -> "pd.DataFrame":
    """The ratings in a store, as its export has them.

    Raises:
        UserError: no store, or see `checked_ratings`.
    """
    frame = ratings_table(path)
    return checked_ratings(frame.assign(**{LINE: range(2, len(frame) + 2)}), str(path))


def checked_ratings(frame: "pd.DataFrame", where: str) -> "pd.DataFrame":
    """Ratings with numbers as numbers, all columns of a report, and the unit of each row: its patient or its item.

    Args:
        frame: with columns of the export; `rater`, `item` and one of SCALES are needed, all others may be missing.
        where: the file, for errors.

    Raises:
        UserError: no rows, a missing column, a row without rater or item, a rating off its scale, a time that is no
            number of seconds, or two raters whose names differ by capital letters or spaces only.
    """
    import pandas as pd

    known = [name for name in frame.columns if name != LINE]
    scales = [name for name in SCALES if name in known]
    for name in NEEDED:
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise UserError(f"{where}: no column {name!r}{hint} Columns: {', '.join(map(str, known))}.")
    if not scales:
        raise UserError(
            f"{where}: none of the columns {', '.join(SCALES)}; it is no table of ratings of images. Columns:"
            f" {', '.join(map(str, known))}."
        )
    if not len(frame):
        raise UserError(f"{where}: no ratings; rate images first.")
    # A store has missing values of pandas' own.
    frame = frame.astype(object).where(frame.notna(), None)
    checked = pd.DataFrame({LINE: frame[LINE].astype(int)})
    for name in NEEDED:
        checked[name] = [spelled(cell) for cell in frame[name]]
        if empty := next((line for line, text in zip(frame[LINE], checked[name], strict=True) if not text), None):
            raise UserError(f"{where}, line {empty}: no {name}; name one in every row.")
    for name in scales:
        checked[name] = _numbers(frame, name, where, SCALES[name])
    for name in NUMBERS:
        checked[name] = _numbers(frame, name, where, (0, 1) if name == "repeat" else None)
        checked[name] = checked[name].fillna(NUMBERS[name])
    for name, default in TEXTS.items():
        cells = [spelled(cell) for cell in frame[name]] if name in known else [""] * len(frame)
        checked[name] = [cell or default for cell in cells]
    patients = [spelled(cell) for cell in frame["patient_id"]] if "patient_id" in known else [""] * len(frame)
    checked[UNIT] = [
        f"item {item}" if patient.casefold() in MISSING else f"patient {patient}"
        for patient, item in zip(patients, checked["item"], strict=True)
    ]
    if wrong := [text for text in checked["source"] if text not in (*SOURCES, "")]:
        row = checked.index[checked["source"] == wrong[0]][0]
        raise UserError(
            f"{where}, line {checked[LINE][row]}: source is {wrong[0]!r}; allowed are {' and '.join(SOURCES)}."
        )
    refuse_alike(sorted(set(checked["rater"])), where)
    return checked


def refuse_alike(raters: Sequence[str], where: str) -> None:
    """Refuse two raters whose names differ by capital letters or spaces only: they are one person, or will be mixed up.

    Raises:
        UserError: names both.
    """
    seen: dict[str, str] = {}
    for rater in raters:
        folded = "".join(rater.casefold().split())
        if folded in seen:
            raise UserError(
                f"{where}: the raters {seen[folded]!r} and {rater!r} differ by capital letters or spaces only; give one"
                " person one name, and two persons two."
            )
        seen[folded] = rater


def _numbers(frame: "pd.DataFrame", name: str, where: str, allowed: Sequence[int] | None) -> "pd.Series[float]":
    """A column as numbers, nan for missing.

    Raises:
        UserError: names the row of a cell that is no number, or none of those allowed.
    """
    import pandas as pd

    if name not in frame.columns:
        return pd.Series(float("nan"), index=frame.index, dtype="float64")
    values = []
    for line, cell in zip(frame[LINE], frame[name], strict=True):
        text = spelled(cell)
        try:
            value = float("nan") if text.casefold() in MISSING else float(text)
        except ValueError:
            value = float("inf")
        if value in (float("inf"), float("-inf")) or value < 0 or (allowed and value == value and value not in allowed):
            what = ", ".join(map(str, allowed)) if allowed else "numbers from 0"
            raise UserError(f"{where}, line {line}: {name} is {text!r}; allowed are {what}.")
        values.append(value)
    return pd.Series(values, index=frame.index, dtype="float64")
