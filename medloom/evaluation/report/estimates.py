"""Estimates over patients: the patient is the unit, and few patients have no interval."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import MISSING, spelled
from medloom.evaluation.report.metrics import Estimate, Units, proportion
from medloom.metrics.areas import auroc_interval
from medloom.metrics.uncertainty import LEAST_UNITS, Interval, bootstrap_interval, bootstrap_mean, student_mean

Values = NDArray[np.generic]
Rows = NDArray[np.intp]


def unit_of(cells: Mapping[str, object]) -> str:
    """The unit that a row of generated images counts for: its patient, or the row where no patient is named."""
    patient = spelled(cells.get("patient"))
    return f"row {cells['source_id']}" if patient.casefold() in MISSING else patient


def estimate(statistic: Callable[[Rows], float], patients: Units, seed: int, keep: Values | None = None) -> Estimate:
    """A statistic of rows over patients.

    Args:
        statistic: maps row numbers, with repeats, to a finite number.
        patients: the patient of each row.
        seed: of the bootstrap.
        keep: see `bootstrap_interval`.
    """
    value = statistic(np.arange(len(patients)))
    return _where_enough(value, patients, lambda: bootstrap_interval(statistic, patients, seed, keep=keep))


def estimate_mean(values: Values, patients: Units, seed: int) -> Estimate:
    """The mean of one value per row, over patients.

    Args:
        values: `(n,)`.
        patients: the patient of each row.
        seed: of the bootstrap.
    """
    value = float(np.asarray(values, float).mean())
    return _where_enough(value, patients, lambda: bootstrap_mean(values, patients, seed))


def estimate_proportion(hits: Values, patients: Units) -> Estimate:
    """A proportion over patients; see `proportion`."""
    value = float(np.asarray(hits, float).mean())
    return _where_enough(value, patients, lambda: proportion(hits, patients))


def estimate_auroc(truth: Values, scores: Values, patients: Units) -> Estimate:
    """An area under the ROC curve, or the mean of several, over patients; see `auroc_interval`."""
    found = auroc_interval(truth, np.asarray(scores, float), patients)
    return _where_enough(found.value, patients, lambda: found)


def estimate_in_family(values: Values, patients: Units, level: float) -> Estimate:
    """The mean over patients, each of whom counts once, with an interval of a high level; see `student_mean`.

    Args:
        values: `(n,)`.
        patients: the patient of each row.
        level: of the interval.
    """
    means, units = by_unit(values, patients)
    return _where_enough(float(means.mean()), units, lambda: student_mean(means, units, level))


def by_unit(values: Values, patients: Units) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    """The mean of each patient's values, and the patients: each counts once, whatever the number of rows."""
    units, codes = np.unique(np.asarray(patients), return_inverse=True)
    return np.bincount(codes, np.asarray(values, float)) / np.bincount(codes), units


def _where_enough(value: float, patients: Units, interval: Callable[[], Interval]) -> Estimate:
    n = len(set(np.asarray(patients).tolist()))
    if n < LEAST_UNITS:
        return Estimate(value, None, None, n)
    found = interval()
    return Estimate(found.value, found.low, found.high, n)
