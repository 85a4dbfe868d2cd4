"""Options that every evaluation has: a plan, a gate, and how the result is printed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What an evaluation is judged by.

    Attributes:
        plan: YAML file of the primary metrics with their bounds, reasons and planned n, which is read and hashed before
            anything else. All other metrics are exploratory.
        gate: release, the built-in rules, or a YAML file of bounds on metrics. If one is not met or not shown, the
            command says which and ends with status 3.
        allow_inconclusive: metrics that may be inconclusive or unmeasured at the gate.
        json: print scores.json, or of several sets ranking.json, on standard output as well.
    """

    plan: Path | None = None
    gate: Path | None = None
    allow_inconclusive: tuple[str, ...] = ()
    json: bool = False
