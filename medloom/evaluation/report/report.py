"""What the reports share: scores.json for programs, and one self-contained report.html for people."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medloom.core.files import write_json, write_text
from medloom.core.output_folder import output_folder
from medloom.core.progress import say
from medloom.evaluation.report.metrics import EVERYTHING, Metric, Verdict, number, with_interval
from medloom.evaluation.report.openings import Openings
from medloom.evaluation.report.plan import Plan, PlannedAnswer, joint_answer
from medloom.evaluation.report.questions import GREY, Answer, Question, answered, release

SCORES, HTML = "scores.json", "report.html"
SCHEMA = 1


@dataclass
class Report:
    """What an evaluation found.

    Attributes:
        metrics: in the order of the report.
        verdicts: metrics compared with a bound.
        notes: what a reader has to know.
        answers: to the questions that stand at the top.
        plan: of the evaluation, or None.
        planned: the answers of its bounds.
        openings: how often the held-out images were opened; None if there are none.
        facts: further entries of scores.json, JSON values.
    """

    metrics: list[Metric] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    plan: Plan | None = None
    planned: list[PlannedAnswer] = field(default_factory=list)
    openings: Openings | None = None
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

    def answer(self, questions: Sequence[Question], unmeasured: Mapping[str, str]) -> None:
        """Answer the questions of the top of the report.

        Args:
            questions: in the order of the report.
            unmeasured: name of a metric to why it was not measured.
        """
        self.answers = [answered(question, self.metrics, self.verdicts, unmeasured) for question in questions]

    def follow(self, plan: Plan | None, openings: Openings | None, unmeasured: Mapping[str, str]) -> None:
        """Answer a plan; its metrics are primary, and all others exploratory.

        Args:
            plan: read before the evaluation, or None.
            openings: of the held-out images, or None.
            unmeasured: name of a metric to why it was not measured.
        """
        self.openings = openings
        if plan is None:
            return
        # The same evaluation resumed has the plan of its first start.
        self.plan = replace(plan, hashed=openings.hashed) if openings is not None and openings.hashed else plan
        self.planned = plan.judge(self.metrics, unmeasured)
        primary = {answer.measured for answer in self.planned}
        self.metrics = [
            replace(metric, exploratory=(metric.name, metric.subset, metric.extractor) not in primary)
            for metric in self.metrics
        ]

    @property
    def plan_answer(self) -> str:
        """The answer of the whole plan: holds, fails or inconclusive."""
        return joint_answer(self.planned)

    def write(self, out: Path, html: str, printed: bool = False) -> None:
        """Write report.html and scores.json, which is `printed` too if that is wanted, and say what holds."""
        write_text(out / HTML, html)
        scores = {
            "schema": SCHEMA,
            "finished": True,
            "release": release(self.answers)[1] if self.answers else "",
            "answers": [answer.to_dict() for answer in self.answers],
            "metrics": [metric.to_dict() for metric in self.metrics],
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "notes": self.notes,
            "plan": self._plan_as_values(),
            "openings": None if self.openings is None else self.openings.to_dict(),
        }
        write_json(out / SCORES, {**scores, **self.facts})
        if printed:
            print((out / SCORES).read_text(encoding="utf-8"))
        for verdict in self.verdicts:
            say(f"{verdict}.")
        for answer in self.answers:
            say(f"{answer.question} {answer.word.upper()}. {answer.figure or answer.sentence}")
        if self.answers and all(answer.light == GREY for answer in self.answers):
            # Sections that answer none of the questions were asked for.
            for metric in (own for own in self.metrics if own.subset == EVERYTHING):
                value, reference = with_interval(metric.value, metric.low, metric.high), metric.reference
                stands = f"reference {number(reference.value)} ({reference.what})"
                say(f"{metric}: {value}, {stands}{f': {metric.reading}' if metric.reading else ''}.")
        if self.answers:
            say(release(self.answers)[1])
        for planned in self.planned:
            say(f"plan: {planned.line}{f'; {planned.note}' if planned.note else ''}.")
        if self.openings is not None:
            say(self.openings.sentence)
        say(f"evaluated: {out / HTML} for people, {out / SCORES} for programs.")

    def _plan_as_values(self) -> dict[str, object] | None:
        if self.plan is None:
            return None
        stated = {name: getattr(self.plan, name) for name in ("file", "hash", "hashed", "text")}
        return {**stated, "answer": self.plan_answer, "metrics": [answer.to_dict() for answer in self.planned]}

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
    environment.filters["by_name"] = _by_name
    environment.filters["release"] = release
    return environment.get_template(template).render(**values)


def _by_name(metrics: Sequence[Metric]) -> list[tuple[str, list[Metric]]]:
    """The metrics of each name, in the order in which the names occur first."""
    return [(name, [m for m in metrics if m.name == name]) for name in dict.fromkeys(m.name for m in metrics)]


def embedded(picture: bytes) -> str:
    """A PNG as the source of an image element."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
