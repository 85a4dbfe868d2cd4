"""Reporting guidelines as checklists: what a run and a report know is filled in, everything else is a gap by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medloom.core.files import explained_content, read_mapping
from medloom.evaluation.report.markdown import table
from medloom.generators.base import SETTINGS
from medloom.generators.run_folder import RUN, RunFolder

GAP = "**GAP: to be written by hand**"


@dataclass(frozen=True)
class Known:
    """What the items are filled from.

    Attributes:
        run: of a generator, or None.
        scores: scores.json of a report; empty without one.
    """

    run: RunFolder | None
    scores: dict[str, Any]

    @cached_property
    def description(self) -> dict[str, Any]:
        """run.json; empty without a run."""
        return {} if self.run is None else self.run.description()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run is made by."""
        return dict(self.description.get("identity", {}))

    @cached_property
    def options(self) -> dict[str, Any]:
        """Of the training."""
        return dict(self.identity.get("options", {}))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """generator.json of the model; empty without one."""
        if self.run is None or not (self.run.model / SETTINGS).is_file():
            return {}
        return read_mapping(self.run.model / SETTINGS)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Of the report."""
        return list(self.scores.get("metrics", ()))

    @property
    def primary(self) -> list[dict[str, Any]]:
        """The metrics that a plan names."""
        return [metric for metric in self.metrics if not metric.get("exploratory", True)]


@dataclass(frozen=True)
class Filled:
    """What an item says.

    Attributes:
        value: in words.
        source: where it comes from.
        add: what has to be added by hand; empty if the item is whole.
    """

    value: str
    source: str
    add: str = ""


Fill = Callable[[Known], Filled | None]


@dataclass(frozen=True)
class Item:
    """An item of a guideline.

    Attributes:
        number: in the guideline.
        section: of an article.
        topic: what it asks for, in own words.
        fills: what may fill it; all that know something do.
        gap: what has to be written by hand where nothing fills it; by default the topic says it.
    """

    number: str
    section: str
    topic: str
    fills: tuple[Fill, ...] = ()
    gap: str = ""


@dataclass(frozen=True)
class Guideline:
    """A reporting guideline.

    Attributes:
        title: its name.
        source: where it was published.
        items: in its order.
    """

    title: str
    source: str
    items: Sequence[Item]


def checklist(guideline: Guideline, known: Known) -> tuple[str, int, int]:
    """A guideline's items, filled as far as run and report know.

    Args:
        guideline: which one.
        known: the run and the report.

    Returns:
        The text in Markdown; the number of filled items; and of open ones.

    Raises:
        UserError: a run or a report that is damaged.
    """
    rows, whole, part = [], 0, 0
    for item in guideline.items:
        with explained_content(_file(known)):
            found = [filled for fill in item.fills if (filled := fill(known)) is not None]
        if not found:
            rows.append((item.number, item.section, item.topic, f"{GAP}{f' ({item.gap})' if item.gap else ''}", ""))
            continue
        add = "; ".join(filled.add for filled in found if filled.add)
        value = "; ".join(filled.value.rstrip(".") for filled in found)
        value += f". **To add by hand:** {add}" if add else ""
        rows.append((item.number, item.section, item.topic, value, "; ".join(dict.fromkeys(f.source for f in found))))
        whole, part = (whole, part + 1) if add else (whole + 1, part)
    count = whole + part
    left = len(rows) - count
    lines = [
        f"# {guideline.title}",
        "",
        f"Items in short words of medloom's own; the guideline's text counts: {guideline.source}.",
        "What no file knows is a gap. Nothing is guessed.",
        *_doubts(known),
        "",
        *table(("item", "section", "asks for", "answer", "from"), rows),
        "",
        f"{count} of {len(rows)} items are filled, {part} of them in part; {left} are open.",
    ]
    return "\n".join(lines) + "\n", count, left


def _doubts(known: Known) -> list[str]:
    """What is said where run and report do not belong together."""
    judged = known.scores.get("model")
    if known.run is None or not judged or judged == known.run.model_hash():
        return []
    return ["", "**The report is on another model than that of the run: the hashes of their weights differ.**"]


def _file(known: Known) -> Path:
    """The file that is damaged where filling fails."""
    return Path("scores.json") if known.run is None else known.run.path / RUN
