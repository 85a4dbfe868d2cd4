"""What a rule of a gate may bound: the value of a metric, its interval, and both in relation to its references."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medloom.evaluation.report.metrics import Metric

# The half width of a normal interval of 99 % over that of one of 95 %.
WIDER = 1.314


@dataclass(frozen=True)
class Bound:
    """What a bound is on.

    Attributes:
        what: in words.
        of: the interval that is judged, whose ends are None if there is none; None if the metric has no such value.
        most: whether the bound is an upper one.
    """

    what: str
    of: Callable[[Metric], tuple[float, float | None, float | None] | None]
    most: bool


def _value(metric: Metric) -> tuple[float, float, float]:
    return metric.value, metric.value, metric.value


def _interval(metric: Metric) -> tuple[float, float | None, float | None]:
    return metric.value, metric.low, metric.high


def _lower(metric: Metric) -> tuple[float, float | None, float | None]:
    return metric.value, metric.low, metric.low


def _upper(metric: Metric) -> tuple[float, float | None, float | None]:
    return metric.value, metric.high, metric.high


def _lower_99(metric: Metric) -> tuple[float, float | None, float | None]:
    low = None if metric.low is None else metric.value - WIDER * (metric.value - metric.low)
    return metric.value, low, low


def _ratio(metric: Metric) -> tuple[float, float, float] | None:
    reference = metric.reference
    # A reference that may be 0 or below has no ratio.
    if min(reference.value, reference.value if reference.low is None else reference.low) <= 0:
        return None
    ratio = metric.value / reference.value
    return ratio, ratio, ratio


def _beyond(metric: Metric) -> tuple[float, float, float] | None:
    known = metric.difference
    return None if known is None else (known.value, known.low, known.high)


def _position(metric: Metric) -> tuple[float, float, float] | None:
    known = metric.position
    return None if known is None else (known.value, known.low, known.high)


BOUNDS: Mapping[str, Bound] = {
    "value_at_most": Bound("value", _value, True),
    "value_at_least": Bound("value", _value, False),
    "upper_at_most": Bound("upper end", _interval, True),
    "lower_at_least": Bound("lower end", _interval, False),
    "lower_at_most": Bound("lower end", _lower, True),
    "lower_99_at_most": Bound("lower end of the 99 % interval", _lower_99, True),
    "upper_at_least": Bound("upper end", _upper, False),
    "beyond_reference_at_most": Bound("value minus reference, upper end", _beyond, True),
    "beyond_reference_at_least": Bound("value minus reference, lower end", _beyond, False),
    "position_at_most": Bound("position between real images (0) and a set made without a model (1)", _position, True),
    "times_reference_at_most": Bound("value over reference", _ratio, True),
    "times_reference_at_least": Bound("value over reference", _ratio, False),
}
POSITION = "position_at_most"
RATIOS = ("times_reference_at_most", "times_reference_at_least")
