"""A release gate: rules in a YAML file, or those of `release`, that the metrics of an evaluation have to meet.

Each rule has one of three answers. A rule fails where its metric is beyond the bound. It is not shown where the
interval reaches over the bound, where the metric was not measured, and where a set that is known to be bad (one made
without a model, or the control set of the user) would meet it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medloom.core.errors import GateError, UserError, first_line
from medloom.core.lookup import look_up
from medloom.core.progress import say
from medloom.evaluation.report.bounds import BOUNDS, POSITION, RATIOS
from medloom.evaluation.report.metrics import (
    EVERYTHING,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    WITHOUT_MODEL,
    Metric,
    Verdict,
    controls_in_words,
    judge,
    number,
    with_interval,
)
from medloom.metrics.uncertainty import Interval

KEYS = ("metric", "features", "of")
RELEASE, VERDICT = Path("release"), "verdict"
STARTS = {HOLDS: "PASS", FAILS: "FAIL", INCONCLUSIVE: "NOT SHOWN"}


@dataclass(frozen=True)
class Judgement:
    """How a rule was answered.

    Attributes:
        answer: holds, fails or inconclusive.
        metric: name of the metric.
        line: a sentence without its full stop.
        measured: the metric that decided; None if it was not measured.
        limit: what was required, in words.
        lack: why it was not measured; empty if it was.
    """

    answer: str
    metric: str
    line: str
    measured: Metric | None = None
    limit: str = ""
    lack: str = ""


@dataclass(frozen=True)
class GateRule:
    """One bound of a gate.

    Attributes:
        metric: name of the metric.
        features: name of a feature extractor; None for every extractor.
        of: the subset.
        bound: a name in BOUNDS, or VERDICT: the metric's verdict has to hold.
        limit: its number.
        optional: whether a metric that was not measured meets the rule.
        any_power: whether extractors by which a control would meet it are ignored if there are others.
        together: all bounds of its entry, and their numbers: what a control has to miss one of.
        proof: whether it shows that others can be answered on these data: if it is not met, nothing is shown.
    """

    metric: str
    features: str | None
    of: str
    bound: str
    limit: float
    optional: bool = False
    any_power: bool = False
    together: tuple[tuple[str, float], ...] = ()
    proof: bool = False

    @property
    def required(self) -> str:
        """The bound in words."""
        if self.bound == VERDICT:
            return "its verdict holds"
        bound = BOUNDS[self.bound]
        return f"{bound.what} at {'most' if bound.most else 'least'} {self.limit:g}"

    def judge(self, metrics: Sequence[Metric], unmeasured: Mapping[str, str]) -> list[Judgement]:
        """An answer for each metric that the rule is on.

        Args:
            metrics: of the evaluation.
            unmeasured: name of a metric to why it was not measured, where that is known.
        """
        named = [metric for metric in metrics if metric.name == self.metric]
        if not named:
            if self.optional:
                return []
            why = unmeasured.get(self.metric, "these images do not allow it")
            line = f"{STARTS[INCONCLUSIVE]}: {self.metric} was not measured: {why}"
            return [Judgement(INCONCLUSIVE, self.metric, line, lack=why)]
        meant = [metric for metric in named if metric.subset == self.of and self.features in (None, metric.extractor)]
        if not meant:
            why = f"it was measured only as {', '.join(sorted(str(metric) for metric in named))}"
            by = f" by {self.features}" if self.features else ""
            line = f"{STARTS[INCONCLUSIVE]}: {self.metric} was not measured of {self.of!r}{by}: {why}"
            return [Judgement(INCONCLUSIVE, self.metric, line, lack=why)]
        judged = [self._of(metric) for metric in meant]
        able = [own for own, metric in zip(judged, meant, strict=True) if not self._met_by(metric)]
        return able if self.any_power and able else judged

    def _of(self, metric: Metric) -> Judgement:
        if self.bound == VERDICT:
            answer = metric.verdict or INCONCLUSIVE
            known = None if metric.verdict else "it has no verdict"
        else:
            bound = BOUNDS[self.bound]
            ends = bound.of(metric)
            low, high = (None, None) if ends is None else ends[1:]
            at_least, at_most = (None, self.limit) if bound.most else (self.limit, None)
            answer, known = judge(low, high, at_least, at_most), None
            if ends is None and self.bound in RATIOS:
                known = "its reference may be 0, and a ratio to it says nothing"
            elif ends is None and self.bound == POSITION:
                known = f"{WITHOUT_MODEL} is not distinguished from real images"
            elif low is None or high is None:
                known = "it has no interval"
            elif answer == INCONCLUSIVE and ends is not None:
                known = self._needed(metric, ends[0], low, high)
        bad = self._met_by(metric)
        if answer != FAILS and bad:
            values = ", ".join(number(value) for value in bad.values())
            answer, known = INCONCLUSIVE, f"{controls_in_words(list(bad), 'meets', 'meet')} it too ({values})"
        if metric.blind:
            answer, known = INCONCLUSIVE, metric.blind
        if self.proof and answer == FAILS:
            answer, known = INCONCLUSIVE, "what is looked for would not be found on these data"
        line = (
            f"{STARTS[answer]}: {metric} {with_interval(metric.value, metric.low, metric.high)}, reference"
            f" {number(metric.reference.value)}, required: {self.required}{f'; {known}' if known else ''}"
        )
        return Judgement(answer, self.metric, line, metric, self.required)

    def _needed(self, metric: Metric, value: float, low: float, high: float) -> str:
        """What would decide an interval that reaches over the limit: a larger n, where the value is within it."""
        upper = BOUNDS[self.bound].most
        slack = self.limit - value if upper else value - self.limit
        half = high - value if upper else value - low
        if slack <= 0:
            return f"the value is beyond the limit, n is {metric.n}"
        return f"it needs n >= {int(metric.n * (half / slack) ** 2) + 1}, n is {metric.n} {metric.counted}"

    def _met_by(self, metric: Metric) -> dict[str, float]:
        """The controls that would meet the rule, each with its value."""
        if self.bound == VERDICT:
            return {}
        return {name: value for name, value in metric.controls.items() if self._is_met(metric, value)}

    def _is_met(self, metric: Metric, control: float) -> bool:
        away = control - metric.reference.value
        beyond = Interval(away, away, away, metric.n)
        bad = replace(metric, value=control, low=control, high=control, beyond=beyond)
        for name, limit in self.together or ((self.bound, self.limit),):
            ends = BOUNDS[name].of(bad)
            if ends is None or (ends[0] > limit if BOUNDS[name].most else ends[0] < limit):
                return False
        return True


def read_gate(
    path: Path | None, known: Iterable[str], release: Sequence[GateRule] = (), signed: Collection[str] = ()
) -> list[GateRule]:
    """The rules of a YAML file: a list of entries, each with a metric and one or more bounds.

    Args:
        path: the file; `release` for the built-in rules; None for no rules.
        known: names of the metrics that the report may have.
        release: the built-in rules of this evaluation.
        signed: metrics whose reference is not positive by construction, which no ratio can be taken to.

    Raises:
        UserError: the file is not such a list, or has an unknown metric or key, or a bound that is not a number or not
            sensible for its metric.
    """
    if path is None:
        return []
    if path == RELEASE:
        return list(release)
    text = read_rules_text(path, "--gate")
    return [rule for _, rules in read_entries(text, f"--gate {path}", known, signed) for rule in rules]


def read_rules_text(path: Path, option: str) -> str:
    """The text of a file of rules.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        built_in = ", or --gate release for the built-in rules" if option == "--gate" else ""
        raise UserError(f"{option} {path}: no such file; give a YAML file of rules{built_in}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} cannot be read: {first_line(error)}.") from error


def read_entries(
    text: str, place: str, known: Iterable[str], signed: Collection[str] = (), further: Sequence[str] = ()
) -> list[tuple[Mapping[str, Any], list[GateRule]]]:
    """The entries of a YAML list, each with its rules.

    Args:
        text: of the file.
        place: option and file, for errors.
        known: names of the metrics that the report may have.
        signed: metrics whose reference is not positive by construction, which no ratio can be taken to.
        further: keys of an entry that are no part of its rules.

    Raises:
        UserError: see `read_gate`.
    """
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{place} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(entries, list) or not entries:
        release = ", or --gate release" if place.startswith("--gate") else ""
        raise UserError(f"{place}: give a list of rules, each with a metric and a bound{release}.")
    names, found = dict.fromkeys(known), list[tuple[Mapping[str, Any], list[GateRule]]]()
    for number_of_rule, entry in enumerate(entries, 1):
        where, rules = f"{place}, rule {number_of_rule}", list[GateRule]()
        if not isinstance(entry, Mapping) or not isinstance(entry.get("metric"), str):
            raise UserError(f"{where}: it names no metric; give metric: NAME and one of {', '.join(BOUNDS)}.")
        metric = entry["metric"]
        look_up(names, metric, f"{where}: metric")
        for key in entry:
            look_up(dict.fromkeys([*KEYS, *further, *BOUNDS, VERDICT]), str(key), f"{where}: key")
        bounds = {name: limit for name, limit in entry.items() if name not in (*KEYS, *further)}
        if not bounds:
            raise UserError(f"{where}: it has no bound; give one of {', '.join(BOUNDS)}.")
        given = entry.get("features"), str(entry.get("of", EVERYTHING))
        verdict = bounds.pop(VERDICT, None)
        if verdict is not None:
            if verdict != HOLDS:
                raise UserError(f"{where}: verdict is {verdict!r}; the only rule on a verdict is that it {HOLDS}.")
            rules.append(GateRule(metric, *given, VERDICT, 0.0))
        for bound, limit in bounds.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise UserError(f"{where}: {bound} is {limit!r}; give a number.")
            if bound in RATIOS and metric in signed:
                raise UserError(
                    f"{where}: the reference of {metric} is 0 or on either side of it, so a ratio to it says nothing;"
                    " use beyond_reference_at_most, or upper_at_most."
                )
        numbers = tuple((name, float(limit)) for name, limit in bounds.items())
        rules += [GateRule(metric, *given, name, limit, together=numbers) for name, limit in numbers]
        found.append((entry, rules))
    return found


def judgements(
    rules: Sequence[GateRule], metrics: Sequence[Metric], unmeasured: Mapping[str, str] | None = None
) -> list[Judgement]:
    """The answers of all rules."""
    return [found for rule in rules for found in rule.judge(metrics, unmeasured or {})]


def of_verdicts(verdicts: Sequence[Verdict], lack: str) -> list[Judgement]:
    """The answers of `--gate release` where an evaluation has verdicts: each of them has to hold.

    Args:
        verdicts: of the evaluation.
        lack: what would give verdicts, for an evaluation without any.
    """
    if not verdicts:
        return [Judgement(INCONCLUSIVE, "", f"{STARTS[INCONCLUSIVE]}: there is no verdict: {lack}", lack=lack)]
    return [
        Judgement(
            verdict.answer,
            verdict.metric,
            f"{STARTS[verdict.answer]}: {verdict.attribute}, {verdict.metric}"
            f" {with_interval(verdict.value, verdict.low, verdict.high)}, required: {verdict.bound}",
        )
        for verdict in verdicts
    ]


def check_allowed(allowed: Sequence[str], known: Iterable[str], path: Path | None) -> None:
    """Refuse names in --allow-inconclusive that are no metrics, and the option without a gate.

    Raises:
        UserError: the first of them.
    """
    if allowed and path is None:
        raise UserError("--allow-inconclusive is for a gate; give --gate, a file or release.")
    names = dict.fromkeys(known)
    for name in allowed:
        look_up(names, name, "metric in --allow-inconclusive")


def enforce(path: Path | None, found: Sequence[Judgement], allowed: Collection[str] = ()) -> None:
    """Say that a gate is passed, or end the command.

    Args:
        path: of the gate; None for no gate.
        found: the answers of its rules.
        allowed: metrics that may be inconclusive or unmeasured.

    Raises:
        GateError: names every rule that fails or is not shown.
    """
    if path is None:
        return
    open_rules = [own for own in found if own.answer == INCONCLUSIVE and own.metric not in allowed]
    unmet = [own for own in found if own.answer == FAILS] + open_rules
    if unmet:
        lines = "".join(dict.fromkeys(f"\n{own.line}." for own in unmet))
        raise GateError(f"--gate {path}: {len(unmet)} of {len(found)} rules are not met.{lines}")
    accepted = sum(own.answer == INCONCLUSIVE for own in found)
    left = f"; {accepted} are not shown and were allowed" if accepted else ""
    say(f"PASS: {len(found) - accepted} of {len(found)} rules of --gate {path} are met{left}.")
