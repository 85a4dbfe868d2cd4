"""A measured value of a report on raters or readers, with its interval and why there is none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medloom.evaluation.report.metrics import EVERYTHING, Metric, Reference, number, with_interval
from medloom.metrics.uncertainty import LEAST_UNITS, Interval

Units = Sequence[object]


@dataclass(frozen=True)
class Measured:
    """One value.

    Attributes:
        name: of what was measured.
        of: the rows that it is of: a rater, a round, a modality; `all` for all.
        value: the value; None if it is undefined.
        low: lower end of the 95 % interval; None without one.
        high: upper end.
        n: sample size.
        counted: what n counts.
        note: why there is no value or no interval, or what a reader has to know.
        item: the question that was asked, such as realism; empty if it is of none.
        facts: further numbers, such as a p value.
    """

    name: str
    of: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    counted: str = "items"
    note: str = ""
    item: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_interval(
        cls,
        name: str,
        interval: Interval,
        *,
        of: str = EVERYTHING,
        item: str = "",
        counted: str = "items",
        undefined: str = "",
        **facts: Any,
    ) -> "Measured":
        """From an interval whose value or ends may be nan; few units have no interval.

        Args:
            name: of what was measured.
            interval: with the number of units.
            of: the rows.
            item: the question.
            counted: what n counts.
            undefined: why the value is undefined, if it is.
            facts: further numbers.
        """
        value = None if math.isnan(interval.value) else interval.value
        low, high = interval.low, interval.high
        note = ""
        if value is None:
            note = undefined or "undefined on these ratings"
        elif interval.n < LEAST_UNITS:
            low, note = math.nan, f"no interval: n is {interval.n}, it needs {LEAST_UNITS}"
        elif math.isnan(low):
            note = "no interval: undefined in too many resamples"
        if value is None or math.isnan(low):
            return cls(name, of, value, None, None, interval.n, counted, note, item, facts)
        return cls(name, of, value, low, high, interval.n, counted, note, item, facts)

    @property
    def shown(self) -> str:
        """The value with its interval, for a page."""
        return number(self.value) if self.value is None else with_interval(self.value, self.low, self.high)

    def metric(self, reference: Reference) -> Metric:
        """As a metric of the house's plots, which compare it with a reference."""
        value = math.nan if self.value is None else self.value
        return Metric(self.name, self.of, value, self.low, self.high, self.n, self.counted, reference)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: value for name, value in asdict(self).items() if value not in ("", {})}


def over_units(of: Callable[[], Interval], value: float, units: Units) -> Interval:
    """An interval where there are enough units for one; the value alone otherwise."""
    count = len(set(units))
    return of() if count >= LEAST_UNITS else Interval(value, math.nan, math.nan, count)
