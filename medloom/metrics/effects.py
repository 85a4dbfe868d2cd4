"""Recovery of known effects: slopes over dose levels, agreement of signs, correlation and location of difference maps.

The effects of a change are compared with those of a causal model that knows them. Effects differ between patients, and
a generator can only know the part that its condition determines. Slopes are therefore fitted through the means of
groups that share condition and dose, in which the unknown part averages out (Wald 1940). A fit through single patients
would be flattened by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.metrics.uncertainty import Groups, Interval, bootstrap_interval

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FLAT = 1e-6
# Patients of a dose level that takes part in a line. A resample loses 2 % of such levels, and is then drawn again.
LEAST_IN_LEVEL = 4


@dataclass(frozen=True)
class Line:
    """A line through dose levels: estimated = intercept + slope x true.

    Attributes:
        slope: 1 if the effect is fully recovered, 0 if not at all.
        intercept: in the unit of the effect; 0 if nothing is added.

    Examples:
        >>> true, doses, patients = np.tile([10, 20], 4), np.tile([1, 2], 4), np.repeat([0, 1, 2, 3], 2)
        >>> line = medloom.metrics.dose_line(true, true / 2, doses, patients, seed=0)
        >>> round(line.slope.low, 2), round(line.slope.high, 2)
        (0.5, 0.5)
    """

    slope: Interval
    intercept: Interval


def dose_line(
    true: Array, estimated: Array, doses: Sequence[object], patients: Groups, seed: int, level: float = 0.95
) -> Line:
    """Slope and intercept over the means of dose levels, weighted by their size, with intervals over patients.

    Levels of fewer than 4 patients are left out. Every resample of patients holds all the others.

    Args:
        true: true effects `(k,)`.
        estimated: effects of the generator `(k,)`.
        doses: group of each effect: what was changed, from what to what.
        patients: patient of each effect; patients are resampled as a whole.
        seed: of the resamples.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: fewer than two groups of 4 patients, or groups with equal true effects.

    Examples:
        >>> true, estimated = np.tile([10, 20], 4), np.array([4, 9, 6, 11, 4, 9, 6, 11])
        >>> doses, patients = np.tile([1, 2], 4), np.repeat([0, 1, 2, 3], 2)
        >>> line = medloom.metrics.dose_line(true, estimated, doses, patients, seed=0)
        >>> round(line.slope.value, 2), round(line.intercept.value, 2)
        (0.5, 0.0)
    """
    levels = dose_levels(doses, patients)
    rows = np.flatnonzero(levels >= 0)
    true, estimated, levels, units = true[rows], estimated[rows], levels[rows], np.asarray(patients)[rows]
    if len(set(levels.tolist())) < 2 or np.ptp(_means(true, levels)) < FLAT:
        raise UserError(
            f"a slope needs two dose levels of {LEAST_IN_LEVEL} or more patients with different true effects; give more"
            " rows or arms."
        )

    def fitted(rows: NDArray[np.intp]) -> tuple[float, float]:
        return fit_line(true[rows], estimated[rows], levels[rows])

    slope = bootstrap_interval(lambda rows: fitted(rows)[0], units, seed, level=level, keep=levels)
    return Line(slope, bootstrap_interval(lambda rows: fitted(rows)[1], units, seed, level=level, keep=levels))


def dose_levels(doses: Sequence[object], patients: Groups) -> NDArray[np.intp]:
    """The dose level of each row as an integer; -1 for the levels of fewer than LEAST_IN_LEVEL patients."""
    codes = np.unique(np.asarray([str(dose) for dose in doses]), return_inverse=True)[1]
    units = np.asarray(patients)
    small = [code for code in range(codes.max() + 1) if len(set(units[codes == code].tolist())) < LEAST_IN_LEVEL]
    return np.where(np.isin(codes, small), -1, codes)


def fit_line(true: Array, estimated: Array, levels: NDArray[np.intp]) -> tuple[float, float]:
    """Slope and intercept of the line through the means of dose levels, weighted by their size."""
    x, y = _means(true, levels), _means(estimated, levels)
    centred = x - x.mean()
    # Without any spread in x there is no line.
    slope = float(centred @ y / (centred @ centred)) if centred.any() else math.nan
    return slope, float(y.mean() - slope * x.mean())


def recovered_fraction(true: Array, estimated: Array, patients: Groups, seed: int, level: float = 0.95) -> Interval:
    """The mean estimated effect in the direction of the true one, as a fraction of the mean true magnitude.

    Exclude rows without a true effect (a change to the factual value) beforehand.

    Args:
        true: true effects `(k,)`.
        estimated: effects of the generator `(k,)`.
        patients: patient of each effect; patients are resampled as a whole.
        seed: of the resamples.
        level: nominal coverage, in (0, 1).

    Raises:
        UserError: no true effect at all.

    Examples:
        >>> true, estimated = np.array([10.0, -10.0, 20.0]), np.array([5.0, -5.0, 10.0])
        >>> medloom.metrics.recovered_fraction(true, estimated, [0, 1, 2], seed=0).value
        0.5
    """
    effects = np.abs(true) > FLAT
    if not effects.any():
        raise UserError("no true effect: the recovered fraction is undefined.")
    # Every resample has a true effect.
    keep = np.where(effects, 0, -1)
    return bootstrap_interval(
        lambda rows: fraction_of(true[rows], estimated[rows]), patients, seed, level=level, keep=keep
    )


def fraction_of(true: Array, estimated: Array) -> float:
    """See `recovered_fraction`."""
    return float((estimated * np.sign(true)).sum() / np.abs(true).sum())


def right_signs(true: Array, estimated: Array, noise: float) -> NDArray[np.float64]:
    """For each row whose true effect exceeds `noise`: 1 if the estimated effect has the same sign, else 0."""
    clear = np.abs(true) > noise
    return np.asarray(np.sign(true[clear]) == np.sign(estimated[clear]), np.float64)


def map_correlation(true: NDArray[np.floating], estimated: NDArray[np.floating], within: Mask) -> float:
    """Pearson's correlation of two difference maps over the voxels `within`; 0 if the estimated map is flat.

    Args:
        true: true differences, any shape.
        estimated: differences of the same shape.
        within: bool of the same shape.

    Raises:
        ValueError: the true map is flat, so that the correlation is undefined.

    Examples:
        >>> true, within = np.array([[0, 1], [2, 3]]), np.ones((2, 2), bool)
        >>> round(medloom.metrics.map_correlation(true, 2 * true + 1, within), 2)
        1.0
    """
    x, y = true[within].astype(np.float64), estimated[within].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    if np.linalg.norm(x) < FLAT:
        raise ValueError("the true difference is the same everywhere.")
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))) if np.linalg.norm(y) > FLAT else 0.0


def off_target(
    estimated: NDArray[np.floating], true: NDArray[np.floating], within: Mask, nothing: float = 0.0
) -> tuple[float, float]:
    """Mean absolute estimated difference where the truth changes nothing, and where it does, in the map's unit.

    What the truth changes a little lies in neither: of an attribute that moves bone by 60 HU and lungs by 10, lungs
    are not off target.

    Args:
        estimated: the estimated map.
        true: the true map, of the same shape.
        within: where to look.
        nothing: the largest true difference that counts as none.

    Returns:
        Outside, NaN where the truth changes every voxel, and inside of `affected_region`.

    Raises:
        ValueError: the truth changes nothing.
    """
    inside, outside = affected_region(true) & within, (np.abs(true) <= nothing) & within
    if not inside.any():
        raise ValueError("the affected region is empty.")
    size = np.abs(estimated)
    return float(size[outside].mean()) if outside.any() else float("nan"), float(size[inside].mean())


def affected_region(true: NDArray[np.floating], fraction: float = 0.1) -> Mask:
    """The voxels that a change affects: their true difference is at least `fraction` of the largest."""
    size = np.abs(true)
    return np.asarray((size >= fraction * size.max()) & (size > 0))


def _means(values: Array, codes: NDArray[np.intp]) -> Array:
    """Replace each row's value by its group's mean: a fit over rows is then a fit over groups, weighted by size."""
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    return np.asarray(sums[codes] / counts[codes])
