"""Joint support: how many training patients are near a changed row, in the columns that the change touches.

A run keeps counts of training patients in coarse bins of one, two or three columns, and no rows. A changed row is
looked up in some of these tables, so that with many columns no match of all of them is needed: each changed column
with each other column, and with every two of its declared causes.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import Cell, spelled
from medloom.core.files import explained_content, read_mapping, write_text
from medloom.core.table_column import TableColumn
from medloom.core.types import Sample
from medloom.data.prompts.template import Template

SUPPORT = "support.json"
# Training patients that have to be near a changed row.
LEAST_NEAR = 3
EXTRAPOLATION_NOTE = f"Extrapolation: fewer than {LEAST_NEAR} training patients are near the changed row."
# Bins over the span of a number between its 5th and 95th percentile; two bins to either side are near: a band of a
# fifth of the span.
BINS, REACH = 20, 2
SPAN = (0.05, 0.95)


def is_extrapolation(near: int | None) -> bool:
    """Whether a changed row is an extrapolation: too few training patients are near it; not if none were counted."""
    return near is not None and near < LEAST_NEAR


@dataclass(frozen=True)
class BinnedColumn:
    """A column in bins.

    Attributes:
        column: as the training rows have it.
        start: lower end of bin 0 of a number.
        width: of a bin.
    """

    column: TableColumn
    start: float = 0.0
    width: float = 1.0

    @classmethod
    def of(cls, column: TableColumn, cells: Sequence[Cell]) -> "BinnedColumn":
        """For the cells of the training rows, as the column reads them."""
        numbers = [cell for cell in cells if isinstance(cell, float)]
        if column.categories or not numbers:
            return cls(column)
        low, high = np.quantile(numbers, SPAN)
        # Where nearly all numbers are equal, the whole range counts.
        span = float(high - low) or column.high - column.low or 1.0
        return cls(column, float(low), span / BINS)

    def code(self, cell: Cell) -> int | None:
        """The bin of a number, or the place of a category; -1 for a category that training lacks, None if unknown."""
        if cell is None:
            return None
        if self.column.categories:
            text = spelled(cell)
            return self.column.categories.index(text) if text in self.column.categories else -1
        number = self.column.read(cell)
        return int(np.floor((number - self.start) / self.width)) if isinstance(number, float) else None


@dataclass(frozen=True, eq=False)
class CountTable:
    """Training patients by modality and the bins of some columns.

    Attributes:
        columns: their names; of three, two are declared causes of the first.
        codes: modality and bins `(cells, 1 + columns)`.
        counts: patients of each cell; a patient in several cells is divided among them.
    """

    columns: tuple[str, ...]
    codes: NDArray[np.intp]
    counts: NDArray[np.float64]

    def concerns(self, changed: Collection[str]) -> bool:
        """Whether a change of some columns is looked up here: of any column, but of three only of the effect."""
        return any(name in changed for name in (self.columns[:1] if len(self.columns) > 2 else self.columns))


@dataclass(frozen=True)
class TrainingSupport:
    """What a run keeps to judge the support of a changed row.

    Attributes:
        modalities: by code.
        columns: by name.
        tables: of one, two or three columns.
    """

    modalities: tuple[str, ...]
    columns: Mapping[str, BinnedColumn]
    tables: Sequence[CountTable]

    @classmethod
    def measure(
        cls, samples: Sequence[Sample], columns: Sequence[TableColumn], template: Template | None
    ) -> "TrainingSupport":
        """Count the training patients.

        Args:
            samples: training rows.
            columns: that the model is conditioned on, as the rows have them.
            template: declares causes; None if nothing does.
        """
        modalities = tuple(sorted({sample.condition.modality or "" for sample in samples}))
        cells = {
            column.name: [column.read(row.condition.table.get(column.name)) for row in samples] for column in columns
        }
        binned = {column.name: BinnedColumn.of(column, cells[column.name]) for column in columns}
        known = [modalities.index(sample.condition.modality or "") for sample in samples]
        codes = {name: [column.code(cell) for cell in cells[name]] for name, column in binned.items()}
        patients = [sample.patient for sample in samples]
        tables = [_count(names, known, codes, patients) for names in _joint(list(binned), template)]
        return cls(modalities, binned, tables)

    def near(self, modality: str | None, before: Mapping[str, Cell], after: Mapping[str, Cell]) -> int | None:
        """How many training patients are near a changed row, at least.

        Args:
            modality: of the row; None for that of a model of one.
            before: the factual row.
            after: the changed one. Columns that are unknown in it take no part.

        Returns:
            The smallest number over the tables that concern the change; None if there is no such table.
        """
        changed = {name for name in self.columns if after.get(name) != before.get(name)}
        codes = {name: column.code(after.get(name)) for name, column in self.columns.items()}
        asked = modality or self.modalities[0]
        place = self.modalities.index(asked) if asked in self.modalities else -1
        found = []
        for table in self.tables:
            own = [codes[name] for name in table.columns]
            if not table.concerns(changed) or None in own:
                continue
            # Categories are near if they are equal, numbers within a few bins.
            reach = [0, *(0 if self.columns[name].column.categories else REACH for name in table.columns)]
            away = np.abs(table.codes - np.array([place, *own], dtype=np.intp))
            found.append(float(table.counts[(away <= np.array(reach)).all(axis=1)].sum()))
        # A sum of fractions of patients may lack a rounding error to a whole number.
        return int(min(found) + 1e-6) if found else None

    def write(self, path: Path) -> None:
        """Write to a JSON file."""
        values = {
            "modalities": self.modalities,
            "columns": [
                {"column": asdict(own.column), "start": own.start, "width": own.width} for own in self.columns.values()
            ],
            "tables": [
                {"columns": table.columns, "codes": table.codes.tolist(), "counts": np.round(table.counts, 6).tolist()}
                for table in self.tables
            ],
        }
        # Without the indentation of other files, which would make a table of numbers long.
        write_text(path, json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "TrainingSupport":
        """From the file that `write` has written.

        Raises:
            UserError: the file is damaged.
        """
        values = read_mapping(path)
        with explained_content(path):
            return cls._of(values)

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> "TrainingSupport":
        columns = [
            BinnedColumn(TableColumn.from_dict(own["column"]), own["start"], own["width"]) for own in values["columns"]
        ]
        tables = [
            CountTable(
                tuple(own["columns"]),
                np.array(own["codes"], dtype=np.intp).reshape(-1, 1 + len(own["columns"])),
                np.array(own["counts"], dtype=np.float64),
            )
            for own in values["tables"]
        ]
        return cls(tuple(values["modalities"]), {own.column.name: own for own in columns}, tables)


def _joint(names: Sequence[str], template: Template | None) -> list[tuple[str, ...]]:
    """The columns of each table: one, two, and a column with two of its causes."""
    causes = {name: template.columns[name].parents for name in names if template and name in template.columns}
    families = [
        (name, *pair)
        for name, parents in causes.items()
        for pair in combinations([parent for parent in parents if parent in names], 2)
    ]
    return [*((name,) for name in names), *combinations(names, 2), *families]


def _count(
    names: tuple[str, ...],
    modalities: Sequence[int],
    codes: Mapping[str, Sequence[int | None]],
    patients: Sequence[str],
) -> CountTable:
    """The table of some columns; rows in which one of them is unknown do not count."""
    cells: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for row, patient in enumerate(patients):
        own = [codes[name][row] for name in names]
        if None not in own:
            cells[patient].add((modalities[row], *(code for code in own if code is not None)))
    counts: dict[tuple[int, ...], float] = defaultdict(float)
    for found in cells.values():
        for cell in found:
            counts[cell] += 1 / len(found)
    ordered = sorted(counts)
    return CountTable(
        names,
        np.array(ordered, dtype=np.intp).reshape(len(ordered), 1 + len(names)),
        np.array([counts[cell] for cell in ordered], dtype=np.float64),
    )
