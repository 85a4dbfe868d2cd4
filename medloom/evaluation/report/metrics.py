"""A figure: a value with its interval, how many units it rests on, and the reference that it is to be read beside."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from medloom.metrics.uncertainty import Interval, bootstrap_mean

LOWER, HIGHER = "lower", "higher"
WITHIN, WORSE = "within the reference", ": worse"
EVERYTHING = "all"
PROMPTS_THAT_ARE_A_SAMPLE = 30


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

    @classmethod
    def of(cls, interval: Interval, **told: Any) -> "Figure":
        """A figure whose value, ends and n are an interval's; `told` are the other fields."""
        return cls(value=interval.value, low=interval.low, high=interval.high, n=interval.n, **told)

    @property
    def reading(self) -> str:
        """Where the value stands to the span of its reference, in words: a description, not a test.

        Outside of the span it is called worse only where its interval does not reach the span.
        """
        reference = self.reference
        low = reference.value if reference.low is None else reference.low
        high = reference.value if reference.high is None else reference.high
        if low <= self.value <= high:
            return WITHIN
        above = self.value > high
        side = "above" if above else "below"
        if self.low is not None and self.high is not None and self.low <= high and self.high >= low:
            return f"{side} the reference, which the interval reaches"
        return f"{side} the reference{WORSE if self.better == (LOWER if above else HIGHER) else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reading": self.reading}


def sampled_units(units: Sequence[object] | NDArray[Any]) -> NDArray[Any]:
    """The units that intervals of synthetic images are over: prompts, or single images where there are fewer than 30.

    So few prompts are a fixed list and no sample of prompts: leaving some out would change what is measured.
    """
    few = len(set(units)) < PROMPTS_THAT_ARE_A_SAMPLE
    return np.arange(len(units)) if few else np.asarray(units)


def rate(hits: NDArray[Any], units: Sequence[object] | NDArray[Any], seed: int) -> Interval:
    """A share with a 95 % interval over units (patients, prompts).

    The interval is the cluster bootstrap's. Where all hits are equal the bootstrap has no width: then it is Wilson's,
    with the number of units as sample size.

    Args:
        hits: `(n,)` of 0 and 1 (or booleans).
        units: the unit of each hit.
        seed: of the bootstrap.

    Raises:
        UserError: hits that differ, of a single unit.
    """
    values, count = np.asarray(hits, float), len(set(units))
    if values.min() == values.max():
        ends = binomtest(round(values[0] * count), count).proportion_ci(method="wilson")
        return Interval(float(values[0]), float(ends.low), float(ends.high), count)
    return bootstrap_mean(values, units, seed)
