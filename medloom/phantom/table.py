"""The clinical table of the cohort: what a hospital would have written down, with its gaps."""

from collections.abc import Collection
from typing import Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.seeds import numpy_generator
from medloom.phantom.causal import MODEL, Patient

OBSERVED = tuple(name for name, variable in MODEL.items() if variable.observed)
# A cell is empty so often, or holds the number that stands for "not known" in many hospitals' tables.
MISSING = {"smoking": 0.02, "pack_years": 0.02, "height": 0.05, "coffee": 0.01}
SENTINELS = {"pack_years": (-999, 0.02), "height": (999, 0.01)}


def observed_columns(hide: Collection[str] = ()) -> tuple[str, ...]:
    """The table's columns, in order, less the hidden ones.

    Raises:
        UserError: a column that the table does not have.
    """
    for name in hide:
        look_up({column: column for column in OBSERVED}, name, "column to hide")
    left = tuple(name for name in OBSERVED if name not in hide)
    if not left:
        raise UserError("--hide names every column of the table; leave one.")
    return left


def observed_row(patient: Patient, complete: bool = False) -> dict[str, Any]:
    """What the table says of a patient; None where a cell is empty.

    Args:
        patient: whose row.
        complete: whether no cell is missing.
    """
    chances = numpy_generator("phantom", "table", patient.cohort, patient.number).uniform(size=len(OBSERVED))
    row = {name: patient.values[name] for name in OBSERVED}
    if complete:
        return row
    for name, chance in zip(OBSERVED, chances.tolist(), strict=True):
        share = MISSING.get(name, 0.0)
        number, rate = SENTINELS.get(name, (None, 0.0))
        if chance < share:
            row[name] = None
        elif chance < share + rate:
            row[name] = number
    return row
