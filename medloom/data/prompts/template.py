"""A template: columns in the order of their text, and their causal graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from medloom.core.cells import Cell, Code, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean, look_up
from medloom.data.prompts.bounds import Bound
from medloom.data.prompts.column import Column, Rule


@dataclass(frozen=True)
class Template:
    """The wording of a clinical table.

    Attributes:
        columns: by name, in the order of the text.
        join: between phrases.
        start: before the first phrase.
        end: after the last phrase.
        bounds: that a changed row has to keep.
    """

    columns: Mapping[str, Column]
    join: str = ", "
    start: str = ""
    end: str = ""
    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        causal_order(self.columns)

    def check_columns(self, columns: Iterable[str], where: str = "the table") -> None:
        """Refuse a table that lacks a column of the template.

        Raises:
            UserError: names the missing columns and those of the table.
        """
        present = list(columns)
        lacking = [name for name in self.columns if name not in present]
        if lacking:
            hint = did_you_mean(lacking[0], present) if len(lacking) == 1 else ""
            raise UserError(
                f"{where}: the template uses {', '.join(map(repr, lacking))}, which the table lacks"
                f"{hint or '; remove it in a copy of the template.'} Columns: {', '.join(present)}."
            )

    def row(self, cells: Mapping[str, object]) -> dict[str, Cell]:
        """The template's columns of a table's row; see `Column.read`.

        Raises:
            UserError: a missing column, or a value that its column does not allow.
        """
        self.check_columns(cells)
        return {name: column.read(cells[name]) for name, column in self.columns.items()}

    def render(self, row: Mapping[str, object]) -> str:
        """The text of a row; without any phrase, `start` alone.

        Raises:
            UserError: see `row`.
        """
        cells = self.row(row)
        phrases = [phrase for name, column in self.columns.items() if (phrase := column.phrase(cells[name]))]
        if not phrases:
            return self.start.strip()
        return f"{self.start}{self.join.join(phrases)}{self.end}".strip()

    def descendants(self, column: str) -> tuple[str, ...]:
        """The columns that a column causes, directly or indirectly, in the order of the template.

        Raises:
            UserError: an unknown column.
        """
        look_up(self.columns, column, "template column")
        found = _affected(self.columns, [column], [column])
        return tuple(name for name in self.columns if name in found)

    def choices(self, changes: Mapping[str, str]) -> dict[str, Cell]:
        """Column -> value from column -> text.

        Raises:
            UserError: an unknown column or value, or a value that means missing.
        """
        chosen: dict[str, Cell] = {}
        for name, text in changes.items():
            chosen[name] = look_up(self.columns, name, "template column").read(text)
            if chosen[name] is None:
                raise UserError(f"{name}={text}: {text!r} means missing; give a known value.")
        return chosen

    def changed(self, row: Mapping[str, object], changes: Mapping[str, str]) -> tuple[dict[str, Cell], tuple[str, ...]]:
        """A row after an intervention on some columns, propagated through the causal graph.

        Each descendant of a changed column takes the value of its first rule that holds, or else is held at its factual
        value. Causes of a column that was set no longer act on it.

        Args:
            row: the factual row.
            changes: column -> value.

        Returns:
            The new row, and the held descendants in the order of the template. Missing values do not count as held.

        Raises:
            UserError: see `choices` and `row`; or values that contradict each other by the rules.
        """
        before, chosen = self.row(row), self.choices(changes)
        chosen |= {name: Code(text) for name, text in changes.items() if isinstance(before[name], Code)}
        for name, value in chosen.items():
            if isinstance(before[name], float) and not isinstance(value, float):
                raise UserError(f"{name}={value}: the column holds numbers ({spelled(before[name])}); give a number.")
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
        # A set value must not contradict a rule.
        for name in chosen if moved else ():
            value = after[name]
            rule = _rule(self.columns[name], value, after)
            if rule is not None and rule.value != value:
                causes = ", ".join(f"{parent}={spelled(after[parent])}" for parent in rule.when)
                asked = f"{name} is {spelled(rule.value)} then" if rule.value is not None else "another value is needed"
                raise UserError(
                    f"{name}={spelled(value)} contradicts {causes} by the template's rules ({asked}); set both"
                    " consistently, or leave out the rows."
                )
        return after, tuple(name for name in self.columns if name in held)

    def broken(self, before: Mapping[str, Cell], after: Mapping[str, Cell]) -> list[Bound]:
        """The bounds that a change breaks: those that name a changed column and that the changed row does not keep.

        Raises:
            UserError: a cell that is not a number where a bound compares it.
        """
        changed = {name for name in self.columns if after[name] != before[name]}
        return [bound for bound in self.bounds if bound.columns & changed and bound.is_broken(after)]


def causal_order(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Names of columns, causes before their effects.

    Raises:
        UserError: the graph has a cycle; names it.
    """
    try:
        return tuple(TopologicalSorter({name: column.parents for name, column in columns.items()}).static_order())
    except CycleError as error:
        raise UserError(
            f"the template's parents form a cycle: {' -> '.join(error.args[1])}; a column cannot cause itself."
        ) from error


def _affected(columns: Mapping[str, Column], moved: Iterable[str], fixed: Iterable[str]) -> set[str]:
    """Descendants of the moved columns, along paths that do not pass through a fixed column."""
    stopped, reached = set(fixed), set(moved)
    for name in causal_order(columns):
        if name not in stopped and reached.intersection(columns[name].parents):
            reached.add(name)
    return reached - stopped


def _rule(column: Column, was: Cell, row: Mapping[str, Cell]) -> Rule | None:
    return next((rule for rule in column.follows if rule.holds(was, row)), None)
