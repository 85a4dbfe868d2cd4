"""A figure: a value with its interval, how many units it rests on, and the reference that it is to be read beside."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from medloom.metrics.uncertainty import Interval, bootstrap_mean

LOWER, HIGHER = "lower", "higher"
EVERYTHING = "all"


@dataclass(frozen=True)
class Reference:
    """What a figure is read beside.

    Attributes:
        what: in words.
        value: the reference value.
        low: lower end of its interval or span, or None where it is exact.
        high: upper end.
        n: images or patients that it rests on, or None where it is exact.
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def of(cls, interval: Interval, what: str) -> "Reference":
        """From an interval."""
        return cls(what, interval.value, interval.low, interval.high, interval.n)


@dataclass(frozen=True)
class Figure:
    """One figure of an evaluation.

    Attributes:
        section: fidelity, alignment or privacy.
        metric: name of the metric.
        subset: the rows that it is of: all, a modality or a class.
        value: the figure.
        low: lower end of the 95 % interval, or None where there is none (`note` says why).
        high: upper end.
        n: how many units it rests on.
        counted: what n counts: images, patients or prompts.
        reference: what it is read beside.
        better: lower or higher; empty where neither is.
        extractor: whose features it was computed on, or empty.
        note: what a reader has to know.
    """

    section: str
    metric: str
    subset: str
    value: float
    low: float | None
    high: float | None
    n: int
    counted: str
    reference: Reference
    better: str = ""
    extractor: str = ""
    note: str = ""

    @property
    def reading(self) -> str:
        """Where the value stands to the reference's span, in words: a description, not a test."""
        low = self.reference.value if self.reference.low is None else self.reference.low
        high = self.reference.value if self.reference.high is None else self.reference.high
        if low <= self.value <= high:
            return "within the reference"
        if not self.better:
            return "outside the reference"
        return "worse than the reference" if (self.value > high) == (self.better == LOWER) else "better than it"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reading": self.reading}


def rate(hits: NDArray[Any], units: Sequence[object] | NDArray[Any], seed: int) -> Interval:
    """A share with a 95 % interval over units (patients, prompts).

    The interval is the cluster bootstrap's. Where all hits are equal the bootstrap has no width: then it is Wilson's,
    with the number of units as sample size.

    Args:
        hits: `(n,)` of 0 and 1 (or booleans).
        units: the unit of each hit; where all are of one unit, each hit stands for itself.
        seed: of the bootstrap.
    """
    values = np.asarray(hits, float)
    names: Sequence[object] | NDArray[Any] = units if len(set(units)) > 1 else np.arange(len(values))
    count = len(set(names))
    if values.min() == values.max():
        ends = binomtest(round(values[0] * count), count).proportion_ci(method="wilson")
        return Interval(float(values[0]), float(ends.low), float(ends.high), count)
    return bootstrap_mean(values, names, seed)


def units_counted(units: Sequence[object] | NDArray[Any], what: str) -> str:
    """What `rate` counts: `what`, or images where all are of one unit."""
    return what if len(set(units)) > 1 else "images"
