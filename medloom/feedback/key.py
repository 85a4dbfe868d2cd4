"""The key of a reader study: what the images are whose names say nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.data.tables import read_table

if TYPE_CHECKING:
    import pandas as pd


def read_key(path: Path) -> dict[str, Mapping[str, str]]:
    """Item -> what it is, from the key.csv of `medloom rate design`.

    Raises:
        UserError: another table, or a truth or source that is not allowed.
    """
    table = read_table(path)
    for name in ("item", "source", "case", "arm", "truth"):
        if name not in table.header:
            hint = did_you_mean(name, table.header) or "."
            raise UserError(f"{path}: no column {name!r}{hint} It is not the key that `medloom rate design` writes.")
    rows = [dict(zip(table.header, map(spelled, row), strict=True)) for row in table.rows]
    for line, row in zip(table.lines, rows, strict=True):
        if row["truth"] not in ("0", "1") or row["source"] not in ("real", "synthetic"):
            raise UserError(f"{path}, line {line}: truth {row['truth']!r} or source {row['source']!r} is not allowed.")
    return {row["item"]: row for row in rows}


def with_key(ratings: "pd.DataFrame", key: Path) -> "pd.DataFrame":
    """Ratings whose sources, and patients where there are any, are those of the key.

    Args:
        ratings: see `medloom.feedback.agreement.table.checked_ratings`.
        key: key.csv.

    Raises:
        UserError: a rated item that the key lacks, or see `read_key`.
    """
    known = read_key(key)
    for item, line in zip(ratings["item"], ratings["line"], strict=True):
        if item not in known:
            raise UserError(f"line {line} of the ratings: item {item!r} is not in {key}; give the key of this study.")
    patients = [known[item].get("patient_id") or "" for item in ratings["item"]]
    units = [f"patient {own}" if own else unit for own, unit in zip(patients, ratings["unit"], strict=True)]
    return ratings.assign(source=[known[item]["source"] for item in ratings["item"]], unit=units)
