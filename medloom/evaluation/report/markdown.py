"""Tables in Markdown, whose cells may hold anything."""

from collections.abc import Iterable, Sequence

from medloom.evaluation.report.questions import Answer


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def answers_table(answers: Sequence[Answer]) -> list[str]:
    """The questions at the top of a report with their answers."""
    rows = [
        (each.question, f"**{each.word.upper()}**", " ".join(filter(None, (each.sentence, each.figure))))
        for each in answers
    ]
    return table(("question", "answer", "because"), rows)
