"""What the reports share: scores.json for programs, and one self-contained report.html for people."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medloom.core.files import write_json, write_text
from medloom.core.output_folder import output_folder
from medloom.core.progress import say
from medloom.evaluation.report.metrics import Metric, Verdict, number

SCORES, HTML = "scores.json", "report.html"
SCHEMA = 1


@dataclass
class Report:
    """What an evaluation found.

    Attributes:
        metrics: in the order of the report.
        verdicts: metrics compared with a bound.
        notes: what a reader has to know.
        facts: further entries of scores.json, JSON values.
    """

    metrics: list[Metric] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def add(
        self,
        section: str,
        metrics: Sequence[Metric],
        notes: Sequence[str] = (),
        verdicts: Sequence[Verdict] = (),
    ) -> None:
        """Append what a section of the evaluation found; a metric with a verdict has no other judgement."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]
        self.verdicts += verdicts
        judged = {(verdict.metric, verdict.subset): verdict.answer for verdict in self.verdicts}
        self.metrics = [
            replace(metric, verdict=judged.get((metric.name, metric.subset), ""))
            for metric in [*self.metrics, *(replace(metric, section=section) for metric in metrics)]
        ]

    def write(self, out: Path, html: str) -> None:
        """Write report.html and scores.json, and say where they are and what holds."""
        write_text(out / HTML, html)
        scores = {
            "schema": SCHEMA,
            "finished": True,
            "metrics": [metric.to_dict() for metric in self.metrics],
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "notes": self.notes,
        }
        write_json(out / SCORES, {**scores, **self.facts})
        for verdict in self.verdicts:
            say(f"{verdict}.")
        say(f"evaluated: {out / HTML} for people, {out / SCORES} for programs.")

    def meanings(self, known: Mapping[str, str]) -> dict[str, str]:
        """The meanings of the metrics that were measured."""
        return {name: meaning for name, meaning in known.items() if any(m.name == name for m in self.metrics)}


@contextmanager
def report_folder(out: Path) -> Iterator[Path]:
    """A folder for a report within the block; an interrupted evaluation can be run again in the same place.

    Raises:
        UserError: the folder holds something else, or another process is writing it.
    """
    with output_folder(out, SCORES):
        if not (out / SCORES).exists():
            write_json(out / SCORES, {"schema": SCHEMA, "finished": False})
        yield out


def page(template: str, **values: object) -> str:
    """A page from a template in the folder `pages`, with every value escaped; it needs no script and no network."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medloom.evaluation.report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template(template).render(**values)


def embedded(picture: bytes) -> str:
    """A PNG as the source of an image element."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
