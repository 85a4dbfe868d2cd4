"""A metric with its interval, its sample size, and the reference that it is compared with."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.metrics.proportions import proportion_interval
from medloom.metrics.uncertainty import LEAST_UNITS, Interval, difference

LOWER, HIGHER, EQUAL = "lower", "higher", "equal"
WITHIN, WORSE, DIFFERS = "within the reference", ": worse", ": differs"
WITHOUT_MODEL, CONTROL_SET = "a set made without a model", "the control set"
CANNOT = "cannot tell"
OPPOSITE, CANNOT_TELL = "opposite sign", "the reference cannot tell: its interval includes zero"
HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"
EVERYTHING = "all"
FEWEST_PROMPTS = 30

Units = Sequence[object] | NDArray[np.generic]


@dataclass(frozen=True)
class Estimate:
    """A value over patients, and its 95 % interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval; None if there are too few patients for one.
        high: upper end.
        n: number of patients.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def lack(self) -> str:
        """Why there is no interval; empty if there is one."""
        return f"no interval: n is {self.n}, it needs {LEAST_UNITS} patients" if self.low is None else ""


@dataclass(frozen=True)
class Reference:
    """What a metric is compared with.

    Attributes:
        what: in words.
        value: of the reference.
        low: lower end of its interval or range; None if the reference is exact.
        high: upper end.
        n: number of images or patients; None if the reference is exact.
        by_chance: whether the range has 95 % of the values that occur where there is nothing to find. A value outside
            is then a finding by itself, whatever its own interval.
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    by_chance: bool = False

    @classmethod
    def of(cls, interval: Interval | Estimate, what: str, by_chance: bool = False) -> "Reference":
        """The reference whose value, ends and n are those of an interval."""
        return cls(what, interval.value, interval.low, interval.high, interval.n, by_chance)


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
        better: lower, higher, or equal to the reference; empty if nothing is better.
        extractor: name of the feature extractor; empty if no features were used.
        note: what a reader has to know.
        signed: whether value and reference are differences, whose signs are compared.
        beyond: the value less the reference with its own interval, which is narrower than those of the two; None if
            value and reference were measured apart.
        control: the metric of a set made without a model; None if it was not measured.
        control_set: the metric of images that the user knows to be bad; None if there are none.
        section: of the report; set when the metric is added to one.
        verdict: the answer of the verdict on this metric; set by the report. A metric has one judgement.
        exploratory: whether no plan names it as primary; set by the report.
        blind: why it says nothing on these data, whatever its value; empty if that is not known.
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
    signed: bool = False
    beyond: Interval | None = None
    control: float | None = None
    control_set: float | None = None
    section: str = ""
    verdict: str = ""
    exploratory: bool = True
    blind: str = ""

    @classmethod
    def of(
        cls,
        interval: Interval | Estimate,
        *,
        name: str,
        reference: Reference,
        subset: str = EVERYTHING,
        counted: str = "patients",
        better: str = "",
        extractor: str = "",
        note: str = "",
        signed: bool = False,
        beyond: Interval | None = None,
        control: float | None = None,
        blind: str = "",
    ) -> "Metric":
        """The metric whose value, ends and n are those of an interval; its note says why there is none."""
        ends = interval.value, interval.low, interval.high, interval.n
        lack = interval.lack if isinstance(interval, Estimate) else ""
        note = "; ".join(filter(None, (note, lack)))
        known = cls(name, subset, *ends, counted, reference, better, extractor, note, signed, beyond, control)
        return replace(known, blind=blind)

    @property
    def difference(self) -> Interval | None:
        """The value less the reference with its interval; None if there is none.

        Of values that were measured apart it is made from the two intervals.
        """
        if self.beyond is not None:
            return self.beyond
        if self.low is None or self.high is None:
            return None
        reference = self.reference
        low, high = (reference.value if end is None else end for end in (reference.low, reference.high))
        ours = Interval(self.value, self.low, self.high, self.n)
        return difference(ours, Interval(reference.value, low, high, reference.n or self.n))

    @property
    def position(self) -> Interval | None:
        """Where the value lies between its reference (0) and that of a set made without a model (1), with an interval.

        None if that set was not measured or is within the reference.
        """
        known = self.difference
        if known is None or self.control is None or self.blind or WITHOUT_MODEL in self.indistinct:
            return None
        gap = self.control - self.reference.value
        low, high = sorted((known.low / gap, known.high / gap))
        return Interval(known.value / gap, low, high, self.n)

    @property
    def controls(self) -> dict[str, float]:
        """The metric of each set that is known to be bad, by the set's name in a sentence."""
        known = {WITHOUT_MODEL: self.control, CONTROL_SET: self.control_set}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def indistinct(self) -> list[str]:
        """The names of the controls that the metric does not distinguish from real images.

        Where the reference is one number, such as 0, a control is compared with it as far as the metric is known.
        """
        reference, known = self.reference, self.difference
        low = reference.value if reference.low is None else reference.low
        high = reference.value if reference.high is None else reference.high
        if reference.low is None and known is not None:
            low, high = low - (known.value - known.low), high + (known.high - known.value)
        found = []
        for name, value in self.controls.items():
            too_low, too_high = value < low, value > high
            if not (too_high if self.better == LOWER else too_low if self.better == HIGHER else too_low or too_high):
                found.append(name)
        return found

    @property
    def reading(self) -> str:
        """Where the value lies relative to the range of its reference. This describes; it is not a test.

        A value outside the range is called worse only if its interval does not reach the range, if the range is that of
        chance, or if the interval of its difference from the reference excludes zero where there is one. A difference
        agrees with another one only if the other's interval excludes zero.
        """
        if self.verdict:
            return f"verdict: {self.verdict}"
        if self.blind:
            return f"{CANNOT}: {self.blind}"
        if self.indistinct:
            return f"{CANNOT}: {controls_in_words(self.indistinct, 'is', 'are')} within the reference too"
        if self.beyond is not None:
            return self._beyond_in_words(self.beyond)
        reference = self.reference
        low = reference.value if reference.low is None else reference.low
        high = reference.value if reference.high is None else reference.high
        spans_zero = reference.low is not None and low <= 0 <= high
        if self.signed and not spans_zero and self.value * reference.value < 0:
            certain = self.low is not None and self.high is not None and not self.low <= 0 <= self.high
            return OPPOSITE if certain else f"{OPPOSITE}, not certain: the interval includes zero or is missing"
        if low <= self.value <= high:
            return CANNOT_TELL if self.signed and spans_zero else WITHIN
        above = self.value > high
        side = "above" if above else "below"
        reached = self.low is not None and self.high is not None and self.low <= high and self.high >= low
        if reached and not reference.by_chance:
            return f"{side} the reference, which the interval reaches"
        return f"{side} the reference{self._judged(above)}"

    def _judged(self, above: bool) -> str:
        if self.better == EQUAL:
            return DIFFERS
        return WORSE if self.better == (LOWER if above else HIGHER) else ""

    def _beyond_in_words(self, beyond: Interval) -> str:
        if beyond.low <= 0 <= beyond.high:
            return WITHIN
        return f"{'above' if beyond.low > 0 else 'below'} the reference{self._judged(beyond.low > 0)}"

    @property
    def tone(self) -> str:
        """How the reading is coloured: worse, within, or empty."""
        if self.reading == OPPOSITE or self.reading.endswith((WORSE, DIFFERS)):
            return "worse"
        # Where nothing is better, being like the reference is no praise.
        return "within" if self.reading == WITHIN and (self.better or self.signed) else ""

    def __str__(self) -> str:
        """The metric and what it was measured on, in words."""
        return f"{self.name} of {self.subset}{f' by {self.extractor}' if self.extractor else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reading": self.reading}


def controls_in_words(names: Sequence[str], one: str, several: str) -> str:
    """Names of controls with the verb that fits their number."""
    return f"{' and '.join(names)} {one if len(names) == 1 else several}"


def judge(low: float | None, high: float | None, at_least: float | None, at_most: float | None) -> str:
    """Judge an interval against a range: the whole of it counts.

    Args:
        low: lower end of the interval; None if there is none.
        high: upper end.
        at_least: lower end of the range, which belongs to it; None if it is open.
        at_most: upper end.

    Returns:
        `holds` if the whole interval lies in the range, `fails` if all of it lies outside, else `inconclusive`.
    """
    if low is None or high is None:
        return INCONCLUSIVE
    # An open end is beyond all numbers.
    bottom, top = -math.inf if at_least is None else at_least, math.inf if at_most is None else at_most
    if bottom <= low and high <= top:
        return HOLDS
    return FAILS if high < bottom or low > top else INCONCLUSIVE


@dataclass(frozen=True)
class Verdict:
    """Whether a metric is within its bound.

    Attributes:
        attribute: whose effect, or what was measured.
        metric: name of the metric.
        subset: of the metric.
        value: of the metric.
        low: lower end of its interval, or None.
        high: upper end.
        bound: in words.
        at_least: the lowest value that is allowed, or None.
        at_most: the highest one.
    """

    attribute: str
    metric: str
    subset: str
    value: float
    low: float | None
    high: float | None
    bound: str
    at_least: float | None
    at_most: float | None

    @classmethod
    def of(
        cls,
        metric: Metric,
        at_least: float | None = None,
        at_most: float | None = None,
        bound: str = "",
        attribute: str = "",
    ) -> "Verdict":
        """The verdict on a metric.

        Args:
            metric: what is judged.
            at_least: the lowest value that is allowed, or None.
            at_most: the highest one.
            bound: in words; by default the numbers.
            attribute: by default the metric's subset.
        """
        if not bound and at_least is not None and at_most is not None:
            bound = f"{at_least:g} to {at_most:g}"
        elif not bound:
            bound = f"at most {at_most:g}" if at_least is None else f"at least {at_least:g}"
        ends = metric.value, metric.low, metric.high
        return cls(attribute or metric.subset, metric.name, metric.subset, *ends, bound, at_least, at_most)

    @property
    def answer(self) -> str:
        """See `judge`: holds, fails or inconclusive."""
        return judge(self.low, self.high, self.at_least, self.at_most)

    def __str__(self) -> str:
        """The answer, with value, interval and bound."""
        value = with_interval(self.value, self.low, self.high)
        lack = f" (no interval: it needs {LEAST_UNITS} patients)" if self.low is None else ""
        return f"{self.answer.upper()}: {self.attribute}, {self.metric} {value}{lack}, required: {self.bound}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "answer": self.answer}


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


@dataclass(frozen=True, eq=False)
class Sampled:
    """What intervals of synthetic images are over.

    Attributes:
        units: see `sampled_units`.
        counted: what they are.
        note: for the reader where they are images of a fixed list of prompts; else empty.
    """

    units: NDArray[np.generic]
    counted: str
    note: str = ""

    @classmethod
    def of(cls, units: Units, counted: str) -> "Sampled":
        """Of the units of synthetic images and what these are."""
        sampled, count = sampled_units(units), len(set(units))
        if counted == "images" or len(set(sampled)) == count:
            return cls(sampled, counted)
        return cls(sampled, "images", f"The interval is over images and holds for these {counted} ({count}).")


def proportion(hits: NDArray[np.generic], units: Units, weights: NDArray[np.floating] | None = None) -> Interval:
    """A proportion with a 95 % interval over units (patients, prompts); see `proportion_interval`.

    Args:
        hits: `(n,)` of 0 and 1, or booleans.
        units: the unit of each hit.
        weights: of each hit; by default all are equal.
    """
    return proportion_interval(np.asarray(hits, float), units, weights)
