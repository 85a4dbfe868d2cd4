"""A release gate: thresholds in a file that an evaluation has to keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean, look_up
from medloom.evaluation.report.metrics import EVERYTHING, Figure

NAMES = ("metric", "features", "of")
# Bound -> what is compared with it, and whether it is a most or a least.
BOUNDS: dict[str, tuple[str, bool]] = {
    "value_at_most": ("value", True),
    "value_at_least": ("value", False),
    "upper_at_most": ("high", True),
    "lower_at_least": ("low", False),
    "times_reference_at_most": ("share", True),
    "times_reference_at_least": ("share", False),
}


@dataclass(frozen=True)
class Rule:
    """One threshold.

    Attributes:
        metric: name of the metric.
        features: extractor of the features, or None for every one that it was measured by.
        of: the subset.
        bound: a name in BOUNDS.
        limit: the threshold.
    """

    metric: str
    features: str | None
    of: str
    bound: str
    limit: float

    def failures(self, figures: Sequence[Figure]) -> list[str]:
        """What does not keep it, in words.

        Raises:
            UserError: it was not measured.
        """
        what, most = BOUNDS[self.bound]
        found = []
        for figure in self._meant(figures):
            value = _value(figure, what)
            # What cannot be told does not keep a threshold: an interval that is missing, a reference of 0.
            kept = value is not None and (value <= self.limit if most else value >= self.limit)
            if not kept:
                told = "not known" if value is None else f"{value:.4g}"
                by = f" by {figure.extractor}" if figure.extractor else ""
                name = self.bound.rsplit("_at_", 1)[0].replace("_", " ")
                found.append(
                    f"{self.metric} of {self.of}{by}: {name} {told}, allowed {'at most' if most else 'at least'}"
                    f" {self.limit:g}"
                )
        return found

    def _meant(self, figures: Sequence[Figure]) -> list[Figure]:
        named = [figure for figure in figures if figure.metric == self.metric]
        if not named:
            known = sorted({figure.metric for figure in figures})
            raise UserError(
                f"gate: metric {self.metric!r} was not measured{did_you_mean(self.metric, known) or '.'} Measured:"
                f" {', '.join(known)}."
            )
        meant = [f for f in named if f.subset == self.of and self.features in (None, f.extractor)]
        if not meant:
            have = sorted({f"of {f.subset} by {f.extractor}" if f.extractor else f"of {f.subset}" for f in named})
            raise UserError(
                f"gate: {self.metric} was not measured of {self.of!r} by {self.features or 'anything'}; it was"
                f" {', '.join(have)}."
            )
        return meant


def read_gate(path: Path, known: Sequence[str]) -> list[Rule]:
    """The thresholds of a YAML file: a list of a metric with one or more bounds each.

    Args:
        path: the file.
        known: names of all metrics.

    Raises:
        UserError: not such a list, an unknown metric or key, or a bound that is no number; says where.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--gate {path} cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"--gate {path}: give a list of thresholds, each with a metric and a bound.")
    return [
        rule
        for number, entry in enumerate(entries, 1)
        for rule in _rules(entry, f"--gate {path}, rule {number}", known)
    ]


def _rules(entry: Any, where: str, known: Sequence[str]) -> list[Rule]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("metric"), str):
        raise UserError(f"{where}: it names no metric; give metric: NAME and one of {', '.join(BOUNDS)}.")
    look_up(dict.fromkeys(known), entry["metric"], f"{where}: metric")
    for name in entry:
        look_up(dict.fromkeys([*NAMES, *BOUNDS]), str(name), f"{where}: key")
    rules = []
    for bound, limit in entry.items():
        if bound in NAMES:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise UserError(f"{where}: {bound} is {limit!r}; give a number.")
        rules.append(
            Rule(entry["metric"], entry.get("features"), str(entry.get("of", EVERYTHING)), str(bound), float(limit))
        )
    if not rules:
        raise UserError(f"{where}: it has no bound; give one of {', '.join(BOUNDS)}.")
    return rules


def failures(rules: Sequence[Rule], figures: Sequence[Figure]) -> list[str]:
    """What does not keep the thresholds, in words; none where all are kept.

    Raises:
        UserError: a threshold of what was not measured.
    """
    return [line for rule in rules for line in rule.failures(figures)]


def _value(figure: Figure, what: str) -> float | None:
    if what != "share":
        return getattr(figure, what)
    return figure.value / figure.reference.value if figure.reference.value else None
