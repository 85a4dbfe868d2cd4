"""A metric with its interval, its sample size, and the reference that it is compared with."""

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
FEWEST_PROMPTS = 30

Units = Sequence[object] | NDArray[np.generic]


@dataclass(frozen=True)
class Reference:
    """What a metric is compared with.

    Attributes:
        what: in words.
        value: of the reference.
        low: lower end of its interval or range; None if the reference is exact.
        high: upper end.
        n: number of images or patients; None if the reference is exact.
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def of(cls, interval: Interval, what: str) -> "Reference":
        """The reference whose value, ends and n are those of an interval."""
        return cls(what, interval.value, interval.low, interval.high, interval.n)


@dataclass(frozen=True)
class Metric:
    """One measured metric.

    Attributes:
        name: of the metric.
        subset: the rows that were measured: all, a modality, a class, or an arm.
        value: the metric.
        low: lower end of the 95 % interval; None if there is no interval (`note` says why).
        high: upper end.
        n: sample size.
        counted: what n counts: images, patients or prompts.
        reference: what the value is compared with.
        better: lower or higher; empty if neither is better.
        extractor: name of the feature extractor; empty if no features were used.
        note: what a reader has to know.
        section: of the report; set when the metric is added to one.
    """

    name: str
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
    section: str = ""

    @classmethod
    def of(
        cls,
        interval: Interval,
        *,
        name: str,
        reference: Reference,
        subset: str = EVERYTHING,
        counted: str = "patients",
        better: str = "",
        extractor: str = "",
        note: str = "",
    ) -> "Metric":
        """The metric whose value, ends and n are those of an interval."""
        ends = interval.value, interval.low, interval.high, interval.n
        return cls(name, subset, *ends, counted, reference, better, extractor, note)

    @property
    def reading(self) -> str:
        """Where the value lies relative to the range of its reference. This describes; it is not a test.

        A value outside the range is called worse only if its interval does not reach the range.
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

    def __str__(self) -> str:
        """The metric and what it was measured on, in words."""
        return f"{self.name} of {self.subset}{f' by {self.extractor}' if self.extractor else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reading": self.reading}


@dataclass(frozen=True)
class Verdict:
    """Whether a metric is within its bound.

    Attributes:
        attribute: whose effect, or what was measured.
        metric: name of the metric.
        value: of the metric.
        low: lower end of its interval, or None.
        high: upper end.
        bound: in words.
        passed: whether the metric is within it.
    """

    attribute: str
    metric: str
    value: float
    low: float | None
    high: float | None
    bound: str
    passed: bool

    @classmethod
    def of(cls, metric: Metric, bound: str, passed: bool) -> "Verdict":
        """The verdict on a metric."""
        return cls(metric.subset, metric.name, metric.value, metric.low, metric.high, bound, passed)

    def __str__(self) -> str:
        """PASS or FAIL, with value, interval and bound."""
        value = with_interval(self.value, self.low, self.high)
        return f"{'PASS' if self.passed else 'FAIL'}: {self.attribute}, {self.metric} {value}, required: {self.bound}"


def number(value: float | None) -> str:
    """A number with three digits; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """A value and its interval, such as `0.9 [0.8, 1]`."""
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def sampled_units(units: Units) -> NDArray[np.generic]:
    """The units that intervals of synthetic images are over: prompts, or single images if there are fewer than 30.

    So few prompts are a fixed list, not a sample of prompts: a resample of them would measure something else.
    """
    return np.arange(len(units)) if len(set(units)) < FEWEST_PROMPTS else np.asarray(units)


def proportion(hits: NDArray[np.generic], units: Units, seed: int) -> Interval:
    """A proportion with a 95 % interval over units (patients, prompts).

    The interval comes from the cluster bootstrap. If all hits are equal the bootstrap has no width; then it is
    Wilson's, with the number of units as sample size.

    Args:
        hits: `(n,)` of 0 and 1, or booleans.
        units: the unit of each hit.
        seed: of the bootstrap.

    Raises:
        UserError: the hits differ and are all of one unit.
    """
    values, count = np.asarray(hits, float), len(set(units))
    if values.min() == values.max():
        ends = binomtest(round(values[0] * count), count).proportion_ci(method="wilson")
        return Interval(float(values[0]), float(ends.low), float(ends.high), count)
    return bootstrap_mean(values, units, seed)
