"""What held-out patients show: the difference between those with a value and the others, compared with the shift.

The observed difference is adjusted by least squares for the columns that the user names. It is an association, like the
difference of conditional means of a generator. Agreement says that the generator learnt what its data show, not that
the attribute causes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import read_sample
from medloom.data.manifest import Manifest, template_path
from medloom.data.masks import read_labels
from medloom.data.prompts import read_rows, read_template
from medloom.data.tables import Problem, read_table
from medloom.evaluation.effects.measure import Effects, MeasuredArm
from medloom.evaluation.effects.regions import BETWEEN
from medloom.evaluation.effects.support import within_support
from medloom.evaluation.report.estimates import by_unit, estimate_mean
from medloom.evaluation.report.metrics import Metric, Reference
from medloom.metrics.uncertainty import bootstrap_interval

OBSERVED = "generated shift compared with the observed difference"
# Fewer patients on either side say nothing. For a number, the sides are those above and below its mean.
FEWEST = 5
FULL_SCALE = 255.0

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """One held-out image: its patient, its cells by column as the template reads them, and the mean of each region."""

    patient: str
    cells: Mapping[str, Cell]
    regions: Mapping[str, float]


def read_observed(
    effects: Effects, whatif: Path, manifest: Manifest, unit: str | None
) -> tuple[list[Observed], list[str]]:
    """Read and measure held-out images with the masks of a what-if, and its template if it has one.

    Args:
        effects: what was measured.
        whatif: manifest.csv of `medloom whatif`.
        manifest: held-out images.
        unit: of files that do not state theirs.

    Returns:
        Images, and a note on rows that the template cannot read.

    Raises:
        UserError: a what-if without masks, or images or masks that cannot be used.
    """
    spec, path = effects.regions.spec, template_path(whatif)
    if spec is None or not effects.regions.shifts:
        raise UserError(f"--observed: {whatif} has no masks; run a what-if with masks.")
    readable: dict[int, dict[str, Cell]] = {sample.line: {} for sample in manifest.samples()}
    problems: list[Problem] = []
    # Without a template, columns of the model's table were set, whose cells are as they stand.
    if path.is_file():
        readable, problems = read_rows(read_table(manifest.source), read_template(path), str(manifest.source))
    samples = [sample for sample in manifest.samples() if sample.line in readable]
    cells = [
        {
            **sample.condition.table,
            "view": sample.condition.view,
            "modality": sample.condition.modality,
            **readable[sample.line],
        }
        for sample in samples
    ]
    notes = []
    if left_out := len(manifest) - len(samples):
        reason = problems[0].reason
        notes.append(f"{left_out} rows of {manifest.source} that the template cannot read were left out ({reason}).")
    return observe(samples, cells, spec, effects.regions.names, unit), notes


def observe(
    samples: Sequence[Sample],
    cells: Sequence[Mapping[str, Cell]],
    spec: ImageSpec,
    names: Mapping[int, str],
    unit: str | None = None,
) -> list[Observed]:
    """Measure held-out images in the regions of their masks, in the unit of generated images.

    Args:
        samples: rows; those without a mask are left out.
        cells: of each row, by column.
        spec: the model's image space, to which images and masks are brought.
        names: label to name of the class.
        unit: of files that do not state theirs.

    Raises:
        UserError: an image or a mask that cannot be used.
    """
    rows = []
    for sample, own in zip(samples, cells, strict=True):
        mask, modality = sample.condition.mask_file, sample.condition.modality
        if mask is None or modality is None:
            continue
        intensity = spec.of(modality)
        low, high = (intensity.low, intensity.high) if intensity.kind == "window" else (0.0, FULL_SCALE)
        values = (read_sample(sample.path, spec, modality, unit).array[0] + 1) / 2 * (high - low) + low
        labels = read_labels(mask, spec)
        found = [int(label) for label in np.unique(labels) if label > 0]
        means = {names.get(label, f"label {label}"): float(values[labels == label].mean()) for label in found}
        rows.append(Observed(sample.patient, own, means))
    return rows


def observed_metrics(
    effects: Effects, observed: Sequence[Observed], adjust: Sequence[str], seed: int
) -> tuple[list[Metric], list[str]]:
    """For each arm of one column and each region: the generated shift, with the observed difference as its reference.

    Args:
        effects: what was measured; its regions hold the shifts.
        observed: held-out images.
        adjust: columns that the observed difference is adjusted for.
        seed: of the resamples.

    Returns:
        Metrics, and notes on arms that have no observed counterpart.

    Raises:
        UserError: a column to adjust for that the rows do not have.
    """
    known = dict.fromkeys(observed[0].cells if observed else ())
    for name in adjust:
        look_up(known, name, "--adjust: column")
    metrics: list[Metric] = []
    notes: list[str] = []
    for name, arm in effects.arms.items():
        if len(arm.changes) != 1:
            notes.append(f"{name} changes several columns; it is compared with no observed difference.")
            continue
        for region in dict.fromkeys(row.region for row in effects.regions.shifts if row.arm == name):
            metric = _compared(effects, arm, region, observed, adjust, seed)
            if isinstance(metric, Metric):
                metrics.append(metric)
            else:
                notes.append(f"{name}: {metric}; it is compared with no observed difference.")
    return metrics, list(dict.fromkeys(notes))


def _compared(
    effects: Effects, arm: MeasuredArm, region: str, observed: Sequence[Observed], adjust: Sequence[str], seed: int
) -> Metric | str:
    """The shift of one region, of the patients in whom the arm is a change; or why there is no such comparison."""
    column, value = next(iter(arm.changes.items()))
    asked = [row for row in effects.regions.shifts if (row.arm, row.region) == (arm.name, region)]
    factual = {row.source: _as_cell(effects.regions.cells[row.source].get(column)) for row in asked}
    moved = [row for row in asked if factual[row.source] not in (None, _as_cell(value))]
    if not moved:
        return "it is a change in no patient"
    # Where no changed row has support, the comparison is one of extrapolations, and says so.
    beyond = "" if (within := within_support(moved)) else "; extrapolation: no row has support in training"
    moved = within or moved
    rows = [row for row in observed if region in row.regions and row.cells.get(column) is not None]
    step = 1.0
    if isinstance(value, int | float):
        exposure = np.array([_number(row.cells[column]) for row in rows], dtype=np.float64)
        steps = np.array([float(value) - _number(factual[row.source]) for row in moved])
        step = float(by_unit(steps, [row.unit for row in moved])[0].mean())
    else:
        exposure = np.array([row.cells[column] == value for row in rows], dtype=np.float64)
    design = np.column_stack([exposure, *_covariates(rows, adjust), np.ones(len(rows))])
    target = np.array([row.regions[region] for row in rows])
    # A patient counts once: images with the same cells as their mean, others with a part of the weight each.
    codes = np.unique([row.patient for row in rows], return_inverse=True)[1]
    _, first, alike = np.unique(np.column_stack([codes, design]), axis=0, return_index=True, return_inverse=True)
    target, _ = by_unit(target, alike.ravel())
    design, codes = design[first], codes[first]
    above = design[:, 0] > design[:, 0].mean() if rows else np.zeros(0, bool)
    sides = [len(set(codes[side].tolist())) for side in (above, ~above)]
    if min(sides) < FEWEST:
        return f"too few patients on one side ({sides[0]} and {sides[1]} observed, {FEWEST} are needed)"
    weights = 1 / np.sqrt(np.bincount(codes)[codes])

    def difference(chosen: NDArray[np.intp]) -> float:
        own = weights[chosen]
        return step * float(np.linalg.lstsq(design[chosen] * own[:, None], target[chosen] * own, rcond=None)[0][0])

    # No resample loses a side.
    real = bootstrap_interval(difference, codes, seed, keep=above.astype(int))
    shifts = by_unit(np.array([row.shift for row in moved]), [row.unit for row in moved])
    adjusted = f", adjusted for {', '.join(adjust)}" if adjust else ", not adjusted"
    return Metric.of(
        estimate_mean(*shifts, seed),
        name=OBSERVED,
        subset=f"{arm.name}{BETWEEN}{region}",
        reference=Reference.of(real, f"observed in {real.n} patients{adjusted}"),
        note=f"{effects.unit}; of the patients in whom it is a change; an association{beyond}",
        signed=True,
    )


def _covariates(rows: Sequence[Observed], adjust: Sequence[str]) -> list[Column]:
    """Numbers as they are, categories as one column for each but the first.

    Tables of patients are seldom complete. A missing number counts as the mean, with a column that marks it; a missing
    category is a category of its own.
    """
    columns: list[Column] = []
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


def _as_cell(value: object) -> Cell:
    """A cell of a manifest, as a number if it is one."""
    if value is None or value == "":
        return None
    try:
        return float(str(value))
    except ValueError:
        return str(value)


def _number(cell: Cell) -> float:
    if not isinstance(cell, float):
        raise UserError(f"{cell!r} is not a number, and the what-if sets its column to one.")
    return cell
