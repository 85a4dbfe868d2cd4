"""A release gate: bounds in a YAML file that the metrics of an evaluation have to meet."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from medloom.core.errors import GateError, UserError, first_line
from medloom.core.lookup import did_you_mean, look_up
from medloom.core.progress import say
from medloom.evaluation.report.metrics import EVERYTHING, Metric, number, with_interval

KEYS = ("metric", "features", "of")


@dataclass(frozen=True)
class Bound:
    """What a bound is on.

    Attributes:
        what: in words.
        value: gives it for a metric; None if the metric has none.
        most: whether the bound is an upper one.
    """

    what: str
    value: Callable[[Metric], float | None]
    most: bool


def _ratio(metric: Metric) -> float | None:
    return metric.value / metric.reference.value if metric.reference.value else None


BOUNDS: Mapping[str, Bound] = {
    "value_at_most": Bound("value", lambda metric: metric.value, True),
    "value_at_least": Bound("value", lambda metric: metric.value, False),
    "upper_at_most": Bound("upper end", lambda metric: metric.high, True),
    "lower_at_least": Bound("lower end", lambda metric: metric.low, False),
    "times_reference_at_most": Bound("value over reference", _ratio, True),
    "times_reference_at_least": Bound("value over reference", _ratio, False),
}


@dataclass(frozen=True)
class GateRule:
    """One bound of a gate.

    Attributes:
        metric: name of the metric.
        features: name of a feature extractor; None for every extractor.
        of: the subset.
        bound: a name in BOUNDS.
        limit: its number.
    """

    metric: str
    features: str | None
    of: str
    bound: str
    limit: float

    def failures(self, metrics: Sequence[Metric]) -> list[str]:
        """The metrics that do not meet the rule, a sentence each.

        Raises:
            UserError: the metric was not measured.
        """
        named = [metric for metric in metrics if metric.name == self.metric]
        if not named:
            known = sorted({metric.name for metric in metrics})
            raise UserError(
                f"gate: metric {self.metric!r} was not measured{did_you_mean(self.metric, known) or '.'} Measured:"
                f" {', '.join(known)}."
            )
        meant = [metric for metric in named if metric.subset == self.of and self.features in (None, metric.extractor)]
        if not meant:
            raise UserError(
                f"gate: {self.metric} was not measured of {self.of!r} by {self.features or 'any extractor'}. Measured:"
                f" {', '.join(sorted(str(metric) for metric in named))}."
            )
        bound, found = BOUNDS[self.bound], list[str]()
        for metric in meant:
            value = bound.value(metric)
            # A missing interval or a reference of 0 does not meet a bound.
            if value is None or (value > self.limit if bound.most else value < self.limit):
                found.append(
                    f"FAIL: {metric} {with_interval(metric.value, metric.low, metric.high)}, reference"
                    f" {number(metric.reference.value)}, required: {bound.what} at {'most' if bound.most else 'least'}"
                    f" {self.limit:g}"
                )
        return found


def read_gate(path: Path | None, known: Iterable[str]) -> list[GateRule]:
    """The rules of a YAML file: a list of entries, each with a metric and one or more bounds.

    Args:
        path: the file; None for no rules.
        known: names of the metrics that the report may have.

    Raises:
        UserError: the file is not such a list, or has an unknown metric or key, or a bound that is not a number.
    """
    if path is None:
        return []
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--gate {path} cannot be read: {first_line(error)}.") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"--gate {path}: give a list of rules, each with a metric and a bound.")
    names, rules = dict.fromkeys(known), list[GateRule]()
    for place, entry in enumerate(entries, 1):
        where = f"--gate {path}, rule {place}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("metric"), str):
            raise UserError(f"{where}: it names no metric; give metric: NAME and one of {', '.join(BOUNDS)}.")
        look_up(names, entry["metric"], f"{where}: metric")
        for key in entry:
            look_up(dict.fromkeys([*KEYS, *BOUNDS]), str(key), f"{where}: key")
        bounds = {name: limit for name, limit in entry.items() if name not in KEYS}
        if not bounds:
            raise UserError(f"{where}: it has no bound; give one of {', '.join(BOUNDS)}.")
        for bound, limit in bounds.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise UserError(f"{where}: {bound} is {limit!r}; give a number.")
            rules.append(
                GateRule(entry["metric"], entry.get("features"), str(entry.get("of", EVERYTHING)), bound, float(limit))
            )
    return rules


def failures(rules: Sequence[GateRule], metrics: Sequence[Metric]) -> list[str]:
    """What does not meet the rules, a sentence each.

    Raises:
        UserError: a rule is on a metric that was not measured.
    """
    return [line for rule in rules for line in rule.failures(metrics)]


def enforce(path: Path | None, rules: Sequence[GateRule], metrics: Sequence[Metric]) -> None:
    """Say that a gate is passed, or end the command.

    Raises:
        GateError: names every metric that does not meet a rule.
        UserError: a rule is on a metric that was not measured.
    """
    if failed := failures(rules, metrics):
        raise GateError(f"{path}: {len(failed)} of {len(rules)} bounds are not met. {'. '.join(failed)}.")
    if rules:
        say(f"PASS: all {len(rules)} bounds of {path} are met.")
