"""A plan of an evaluation: its primary metrics, with their bounds and the reasons, before anything is measured.

An entry is a rule of the gate with the reason for its bound, the planned n and how that was chosen. All planned metrics
have to hold, so that their number needs no correction; a single one that holds is no success of the plan.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import hash_text, time_stamp
from medloom.evaluation.report.gate import GateRule, Judgement, read_entries, read_rules_text
from medloom.evaluation.report.metrics import FAILS, HOLDS, INCONCLUSIVE, Metric

REASON, COUNT, POWER = "reason", "n", "power"
# Of an entry, besides its rules: what each of them says.
STATED: Mapping[str, str] = {
    REASON: "why the bound is where it is",
    POWER: "how n was chosen: a calculation of power, or all patients that there are",
}


@dataclass(frozen=True)
class Planned:
    """An entry of a plan.

    Attributes:
        rules: its bounds.
        reason: for them.
        n: the planned sample size.
        power: how it was chosen.
    """

    rules: tuple[GateRule, ...]
    reason: str
    n: int
    power: str


@dataclass(frozen=True)
class PlannedAnswer:
    """How a planned bound was answered.

    Attributes:
        metric: with features and subset, in words.
        bound: in words.
        reason: for the bound.
        power: how the planned n was chosen.
        planned: sample size.
        observed: sample size; None if the metric was not measured.
        counted: what the observed n counts.
        answer: holds, fails or inconclusive.
        line: the answer as a sentence without its full stop.
        measured: name, subset and extractor of the metric; empty if it was not measured.
    """

    metric: str
    bound: str
    reason: str
    power: str
    planned: int
    observed: int | None
    counted: str
    answer: str
    line: str
    measured: tuple[str, ...]

    @property
    def note(self) -> str:
        """What is said of a sample that is smaller than planned; empty if it is not."""
        if self.observed is None or self.observed >= self.planned:
            return ""
        return f"smaller than planned: {self.observed} {self.counted} instead of {self.planned}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "measured": list(self.measured), "note": self.note}


@dataclass(frozen=True)
class Plan:
    """A plan as it was read.

    Attributes:
        file: its name.
        hash: the first 16 digits of the SHA-256 of its bytes.
        hashed: when it was read and hashed, before anything else was read (UTC).
        text: of the file.
        metrics: its entries.
    """

    file: str
    hash: str
    hashed: str
    text: str
    metrics: tuple[Planned, ...]

    def judge(self, metrics: Sequence[Metric], unmeasured: Mapping[str, str]) -> list[PlannedAnswer]:
        """An answer for each bound and metric, in the order of the plan.

        Args:
            metrics: of the evaluation.
            unmeasured: name of a metric to why it was not measured.
        """
        return [
            _answered(entry, rule, judged)
            for entry in self.metrics
            for rule in entry.rules
            for judged in rule.judge(metrics, unmeasured)
        ]


def _answered(entry: Planned, rule: GateRule, judged: Judgement) -> PlannedAnswer:
    known = judged.measured
    planned = f"{rule.metric} of {rule.of}{f' by {rule.features}' if rule.features else ''}"
    return PlannedAnswer(
        metric=planned if known is None else str(known),
        bound=rule.required,
        reason=entry.reason,
        power=entry.power,
        planned=entry.n,
        observed=None if known is None else known.n,
        counted="" if known is None else known.counted,
        answer=judged.answer,
        line=judged.line,
        measured=() if known is None else (known.name, known.subset, known.extractor),
    )


def joint_answer(answers: Sequence[PlannedAnswer]) -> str:
    """The answer of a whole plan: it holds if all its bounds hold, and fails if one fails."""
    found = {answer.answer for answer in answers}
    return FAILS if FAILS in found else HOLDS if found == {HOLDS} else INCONCLUSIVE


def read_plan(path: Path | None, known: Iterable[str], signed: Collection[str] = ()) -> Plan | None:
    """Read and hash a plan; None without one. Call it before anything else of an evaluation is read.

    Args:
        path: YAML list of entries: those of a gate, each with `reason`, `n` and `power`.
        known: names of the metrics that the report may have.
        signed: metrics whose reference is not positive by construction, which no ratio can be taken to.

    Raises:
        UserError: the file is no such list.
    """
    if path is None:
        return None
    text = read_rules_text(path, "--plan")
    digest, hashed = hash_text(text), time_stamp()
    place = f"--plan {path}"
    metrics = []
    for number, (entry, rules) in enumerate(read_entries(text, place, known, signed, (COUNT, *STATED)), 1):
        where = f"{place}, rule {number}"
        for key, what in STATED.items():
            if not isinstance(entry.get(key), str) or not entry[key].strip():
                raise UserError(f"{where}: it has no {key}; give {key}: TEXT, {what}.")
        n = entry.get(COUNT)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UserError(f"{where}: n is {n!r}; give the planned sample size, a whole number from 1 on.")
        for rule in rules:
            if not math.isfinite(rule.limit):
                raise UserError(f"{where}: {rule.bound} is {rule.limit}; give a finite number.")
        metrics.append(Planned(tuple(rules), entry[REASON].strip(), n, entry[POWER].strip()))
    return Plan(path.name, digest, hashed, text, tuple(metrics))
