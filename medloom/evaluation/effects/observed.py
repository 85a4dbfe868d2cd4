"""What held-out patients show: the difference between those with a value and the others, beside the generated shift.

The observed difference is adjusted by least squares for the columns that the user names. It is an association, as the
difference of conditional means of a generator is one; agreement says that the generator learnt what its data show, not
that the attribute causes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import read_sample
from medloom.data.masks import read_labels
from medloom.evaluation.effects.measure import Arm, Effects
from medloom.evaluation.report.metrics import Figure, Reference
from medloom.metrics.uncertainty import bootstrap_interval, bootstrap_mean

SECTION = "effects"
BESIDE = "generated shift beside the observed difference"
# Fewer on either side say nothing.
FEWEST = 5
FULL_SCALE = 255.0


@dataclass(frozen=True)
class Observed:
    """One held-out image: its patient, its cells by column as the template reads them, and the mean of each region."""

    patient: str
    cells: Mapping[str, Cell]
    regions: Mapping[str, float]


def observe(
    samples: Sequence[Sample],
    cells: Sequence[Mapping[str, Cell]],
    spec: ImageSpec,
    names: Mapping[int, str],
    unit: str | None = None,
) -> list[Observed]:
    """Measure held-out images in the regions of their masks, in the unit of generated images.

    Args:
        samples: rows with a mask.
        cells: of each row, by column.
        spec: the model's image space, to which images and masks are brought.
        names: label -> name of the class.
        unit: of files that do not state theirs.

    Raises:
        UserError: an image or a mask that cannot be used.
    """
    return [
        Observed(sample.patient, told, _means(sample, spec, names, unit))
        for sample, told in zip(samples, cells, strict=True)
        if sample.condition.mask is not None
    ]


def _means(sample: Sample, spec: ImageSpec, names: Mapping[int, str], unit: str | None) -> dict[str, float]:
    if sample.condition.mask is None or sample.condition.modality is None:
        raise ValueError("a row without mask or modality is not measured")
    intensity = spec.of(sample.condition.modality)
    low, high = (intensity.low, intensity.high) if intensity.kind == "window" else (0.0, FULL_SCALE)
    image = read_sample(sample.path, spec, sample.condition.modality, unit).array[0]
    values = (image + 1) / 2 * (high - low) + low
    labels = read_labels(sample.condition.mask, spec)
    found = [int(label) for label in np.unique(labels) if label > 0]
    return {names.get(label, f"label {label}"): float(values[labels == label].mean()) for label in found}


def observed_figures(
    effects: Effects, observed: Sequence[Observed], adjust: Sequence[str], seed: int
) -> tuple[list[Figure], list[str]]:
    """For each arm of one column and each region: the generated shift, with the observed difference as its reference.

    Args:
        effects: what was measured; its regions hold the shifts.
        observed: held-out images.
        adjust: columns that the observed difference is adjusted for.
        seed: of the resamples.

    Returns:
        Figures, and notes on arms that have no observed counterpart.

    Raises:
        UserError: a column to adjust for that the rows do not have.
    """
    known = {name: name for name in (observed[0].cells if observed else ())}
    for name in adjust:
        look_up(known, name, "--adjust: column")
    figures: list[Figure] = []
    notes: list[str] = []
    for name, arm in effects.arms.items():
        if len(arm.changes) != 1:
            notes.append(f"{name} changes several columns; no observed difference is set beside it.")
            continue
        regions = list(dict.fromkeys(row.region for row in effects.regions.shifts if row.arm == name))
        for region in regions:
            figures.extend(_beside(effects, arm, region, observed, adjust, seed, notes))
    return figures, list(dict.fromkeys(notes))


def _beside(
    effects: Effects,
    arm: Arm,
    region: str,
    observed: Sequence[Observed],
    adjust: Sequence[str],
    seed: int,
    notes: list[str],
) -> list[Figure]:
    (column, value) = next(iter(arm.changes.items()))
    asked = [row for row in effects.regions.shifts if (row.arm, row.region) == (arm.name, region)]
    factual = {row.source: _as_cell(effects.regions.told[row.source].get(column)) for row in asked}
    moved = [row for row in asked if factual[row.source] not in (None, _as_cell(value))]
    rows = [row for row in observed if region in row.regions and row.cells.get(column) is not None]
    exposure = _exposure(rows, column, value)
    if len({row.source for row in moved}) < 2 or exposure is None:
        notes.append(f"{arm.name}: too few patients on one side; no observed difference is set beside it.")
        return []
    number = isinstance(value, int | float)
    step = float(np.mean([float(value) - _float(factual[row.source]) for row in moved])) if number else 1.0
    design = np.column_stack([exposure, *_covariates(rows, adjust), np.ones(len(rows))])
    target = np.array([row.regions[region] for row in rows])

    def difference(chosen: NDArray[Any]) -> float:
        return step * float(np.linalg.lstsq(design[chosen], target[chosen], rcond=None)[0][0])

    seen = bootstrap_interval(difference, [row.patient for row in rows], seed)
    made = bootstrap_mean(np.array([row.shift for row in moved]), [row.source for row in moved], seed)
    told = f", adjusted for {', '.join(adjust)}" if adjust else ", not adjusted"
    return [
        Figure.of(
            made,
            section=SECTION,
            metric=BESIDE,
            subset=f"{arm.name} | {region}",
            counted="patients",
            reference=Reference.of(seen, f"observed in {seen.n} patients{told}"),
            note=f"{effects.unit}; of the patients in whom it is a change; an association",
        )
    ]


def _exposure(rows: Sequence[Observed], column: str, value: Any) -> NDArray[np.float64] | None:
    """The column as a number for each row; None where a group is too small."""
    if isinstance(value, int | float):
        numbers = np.array([_float(row.cells[column]) for row in rows], dtype=np.float64)
        return numbers if len(rows) >= 2 * FEWEST and numbers.std() > 0 else None
    with_it = np.array([row.cells[column] == value for row in rows], dtype=np.float64)
    return with_it if FEWEST <= with_it.sum() <= len(rows) - FEWEST else None


def _covariates(rows: Sequence[Observed], adjust: Sequence[str]) -> list[NDArray[np.float64]]:
    """Numbers as they are, categories as one column for each but the first.

    A missing number counts as the mean, with a column that says so, and a missing category as one of its own: tables
    of patients are seldom complete in every column.
    """
    columns: list[NDArray[np.float64]] = []
    for name in adjust:
        cells = [row.cells.get(name) for row in rows]
        known = [cell for cell in cells if cell is not None]
        if known and all(isinstance(cell, float) for cell in known):
            numbers = np.array([np.nan if cell is None else float(cell) for cell in cells])
            missing = np.isnan(numbers)
            columns.append(np.where(missing, 0.0, numbers - numbers[~missing].mean()))
            columns += [missing.astype(np.float64)] if missing.any() else []
            continue
        for level in sorted({str(cell) for cell in cells})[1:]:
            columns.append(np.array([str(cell) == level for cell in cells], dtype=np.float64))
    return columns


def _as_cell(value: Any) -> Cell:
    """A cell of a manifest as a number where it is one."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _float(cell: Cell) -> float:
    if not isinstance(cell, float):
        raise UserError(f"{cell!r} is not a number, and the what-if sets its column to one.")
    return cell
