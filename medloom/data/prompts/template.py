"""A template: columns in the order in which they are said, and the graph of who causes whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from medloom.core.cells import Cell, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean, look_up
from medloom.data.prompts.column import Column, Rule


@dataclass(frozen=True)
class Template:
    """How the rows of a clinical table are said.

    Attributes:
        columns: by name, in the order in which they are said.
        join: between phrases.
        start: before the first phrase.
        end: after the last phrase.
    """

    columns: Mapping[str, Column]
    join: str = ", "
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        causal_order(self.columns)

    def check_columns(self, columns: Iterable[str], where: str = "the table") -> None:
        """Refuse a table that lacks a column of the template.

        Raises:
            UserError: names the columns that are lacking and those of the table.
        """
        present = list(columns)
        lacking = [name for name in self.columns if name not in present]
        if lacking:
            hint = did_you_mean(lacking[0], present) if len(lacking) == 1 else ""
            raise UserError(
                f"{where}: the template tells {', '.join(map(repr, lacking))}, which the table lacks"
                f"{hint or '; leave it out of a copy of the template.'} Columns: {', '.join(present)}."
            )

    def row(self, cells: Mapping[str, Any]) -> dict[str, Cell]:
        """The template's columns of a table's row, each as `Column.read` understands it.

        Raises:
            UserError: a column is lacking, or holds what it cannot.
        """
        self.check_columns(cells)
        return {name: column.read(cells[name]) for name, column in self.columns.items()}

    def render(self, row: Mapping[str, Any]) -> str:
        """The text of a row; empty where nothing is said and there is no `start`.

        Raises:
            UserError: as `row`.
        """
        cells = self.row(row)
        phrases = [phrase for name, column in self.columns.items() if (phrase := column.phrase(cells[name]))]
        if not phrases:
            return self.start.strip()
        return f"{self.start}{self.join.join(phrases)}{self.end}".strip()

    def descendants(self, column: str) -> tuple[str, ...]:
        """The columns that a column causes, directly or not, in the order of the template.

        Raises:
            UserError: no such column.
        """
        look_up(self.columns, column, "template column")
        found = _affected(self.columns, [column], [column])
        return tuple(name for name in self.columns if name in found)

    def choices(self, changes: Mapping[str, str]) -> dict[str, Cell]:
        """Values to set, checked and read.

        Raises:
            UserError: an unknown column or value, or one that stands for a missing value.
        """
        chosen: dict[str, Cell] = {}
        for name, text in changes.items():
            chosen[name] = look_up(self.columns, name, "template column").read(text)
            if chosen[name] is None:
                raise UserError(f"{name}={text}: {text!r} stands for a missing value; give a value that is known.")
        return chosen

    def changed(self, row: Mapping[str, Any], changes: Mapping[str, str]) -> tuple[dict[str, Cell], tuple[str, ...]]:
        """A row after some columns are set and the change has passed through the graph.

        A descendant of what really changes takes what the first of its rules that holds says; where none does, it is
        held at its value. Causes act on a column that is set no more.

        Args:
            row: the factual row.
            changes: column -> value.

        Returns:
            The new row, and the descendants that are held, in the order of the template. One whose value is missing is
            not held: nothing is told of it.

        Raises:
            UserError: as `choices` and `row`, or values that contradict each other by the rules.
        """
        before, chosen = self.row(row), self.choices(changes)
        _require_kinds(before, chosen)
        after = {**before, **chosen}
        moved = [name for name in chosen if after[name] != before[name]]
        affected = _affected(self.columns, moved, chosen)
        held: set[str] = set()
        for name in causal_order(self.columns):
            if name not in affected:
                continue
            if rule := _rule(self.columns[name], before[name], after):
                after[name] = rule.value
            elif before[name] is not None:
                held.add(name)
        for name in chosen:
            if moved:
                _refuse_contradiction(self.columns[name], after)
        return after, tuple(name for name in self.columns if name in held)


def causal_order(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Names of columns, causes before their effects.

    Raises:
        UserError: the graph has a cycle, which is shown.
    """
    try:
        return tuple(TopologicalSorter({name: column.parents for name, column in columns.items()}).static_order())
    except CycleError as error:
        raise UserError(
            f"the template's parents go in a circle: {' -> '.join(error.args[1])}; a column cannot cause itself."
        ) from error


def _affected(columns: Mapping[str, Column], moved: Iterable[str], fixed: Iterable[str]) -> set[str]:
    """The columns that those which moved reach without passing through a fixed one."""
    stopped, reached = set(fixed), set(moved)
    for name in causal_order(columns):
        if name not in stopped and reached.intersection(columns[name].parents):
            reached.add(name)
    return reached - stopped


def _rule(column: Column, was: Cell, row: Mapping[str, Cell]) -> Rule | None:
    return next((rule for rule in column.follows if rule.holds(was, row)), None)


def _require_kinds(before: Mapping[str, Cell], chosen: Mapping[str, Cell]) -> None:
    for name, value in chosen.items():
        if isinstance(before[name], float) and not isinstance(value, float):
            raise UserError(f"{name}={value}: the column holds numbers ({spelled(before[name])}); give a number.")


def _refuse_contradiction(column: Column, after: Mapping[str, Cell]) -> None:
    """Refuse a value that was set and that a rule rules out."""
    value = after[column.name]
    rule = _rule(column, value, after)
    if rule is not None and rule.value != value:
        causes = ", ".join(f"{parent}={spelled(after[parent])}" for parent in rule.when)
        asked = f"{column.name} is {spelled(rule.value)} there" if rule.value is not None else "another value is needed"
        raise UserError(
            f"{column.name}={spelled(value)} contradicts {causes} by the template's rules ({asked}); set both so that"
            " they agree, or leave out the rows."
        )
