"""What a model can be asked: nothing that no training image had, and all that every training image had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.table_column import TableColumn
from medloom.core.types import DAYS, Condition
from medloom.generators.training_record import COUNTED, TrainingRecord, has_part

# Parts that may be needed -> how they are given. Without its view an image is one of unknown view, which is said.
WAYS: Mapping[str, str] = {
    "text": "give one with --prompt (--text of an edit), or in a column Text",
    "mask": "name one with --mask, or in a column mask",
    "prior": "name one with --image of `medloom edit`, or in a column prior",
}
DAYS_WAY = (
    "give the days between the two images with --days of `medloom edit` (from Python, days=...), or in a column days"
)
OUTSIDE = "give another value, or allow it with --allow-unseen (from Python, allow_unseen=True)"


class Lack(NamedTuple):
    """A part, or a value of a column, that some conditions lack.

    Attributes:
        name: in messages.
        rows: conditions without it.
        way: how it is given, where every training image had it; else empty.
    """

    name: str
    rows: int
    way: str


@dataclass(frozen=True)
class ConditionRules:
    """What conditions have to have, may lack and cannot have, by what a model was trained on.

    Attributes:
        reads: the parts other than modality and table that change the model's images.
        columns: the columns of the table that condition it.
        views: the views that it knows.
        record: what its training images had; None where that is not known, and nothing is needed.
    """

    reads: tuple[str, ...]
    columns: tuple[TableColumn, ...]
    views: tuple[str, ...]
    record: TrainingRecord | None

    @property
    def needs(self) -> tuple[str, ...]:
        """The parts that a condition has to have: those that every training image had."""
        complete = () if self.record is None else self.record.complete
        return tuple(part for part in self.reads if part in complete and part in WAYS)

    @property
    def only_view(self) -> str | None:
        """The view of all training images, where they have one in common."""
        common = self.record is not None and "view" in self.record.complete and len(self.views) == 1
        return self.views[0] if common else None

    def lacking(self, condition: Condition) -> str | None:
        """What a condition lacks although every training image had it, or None."""
        needed = (lack for lack in self._lacks([condition]) if lack.way)
        return next((f"no {lack.name}, which every training image had" for lack in needed), None)

    def unseen(self, condition: Condition) -> str | None:
        """A value of the table that no training image had, although the model can read it; or None."""
        for column in self.columns:
            value = column.read(condition.table.get(column.name))
            if value is not None and not column.has(value):
                return f"training has not seen {column.name}={spelled(value)}; seen: {column.seen}"
        return None

    def check(self, conditions: Sequence[Condition], allow_unseen: bool, without: frozenset[str]) -> None:
        """Refuse conditions that the model has not learnt to answer.

        Args:
            conditions: of the images.
            allow_unseen: allow values of the table that no training image had.
            without: parts that are left out on purpose.

        Raises:
            UserError: a part or value lacks that every training image had, or is there although none had it.
        """
        for lack in self._lacks(conditions, without):
            if lack.way:
                whose = _whose(lack.rows, len(conditions), "conditions")
                raise UserError(f"{whose} no {lack.name}, which every training image had; {lack.way}.")
        for part in self.reads:
            never = self.record is not None and part in self.record.absent
            if never and any(has_part(condition, part) for condition in conditions):
                raise UserError(f"no training image had a {COUNTED[part]}: the model cannot follow one; leave it out.")
        if not allow_unseen and (unseen := next(filter(None, map(self.unseen, conditions)), None)):
            raise UserError(f"{unseen}; {OUTSIDE}.")

    def remarks(self, conditions: Sequence[Condition], what: str = "conditions") -> list[str]:
        """What is unknown in conditions that pass `check`, and what lies outside training.

        Args:
            conditions: of the images.
            what: they are called: conditions or rows.
        """
        total = len(conditions)
        found = [
            f"{_whose(lack.rows, total, what)} no {lack.name}: drawn as unknown." for lack in self._lacks(conditions)
        ]
        beyond = [unseen for condition in conditions if (unseen := self.unseen(condition))]
        if beyond:
            whose = "the condition is" if total == 1 else f"{len(beyond)} of {total} {what} are"
            found.append(f"{whose} outside what training has seen ({beyond[0]}): an extrapolation.")
        return found

    def _lacks(self, conditions: Sequence[Condition], without: frozenset[str] = frozenset()) -> list[Lack]:
        """What some of the conditions lack of all that training images had, in the order of the parts."""
        if self.record is None:
            return []
        found: list[Lack] = []
        for part in self.reads:
            known = part not in self.record.absent and part not in without
            if known and not (part == "view" and self.only_view):
                rows = sum(not has_part(condition, part) for condition in conditions)
                found.append(Lack(COUNTED[part], rows, WAYS[part] if part in self.needs else ""))
        for column in self.columns:
            rows = sum(column.read(condition.table.get(column.name)) is None for condition in conditions)
            needed = column.name in self.record.complete_columns
            way = (
                DAYS_WAY
                if column.name == DAYS
                else f"give one with --table {column.name}=..., or in the column {column.name}"
            )
            found.append(Lack(f"value of {column.name}", rows, way if needed else ""))
        return [lack for lack in found if lack.rows]


def _whose(count: int, total: int, what: str) -> str:
    return "the condition has" if total == 1 else f"{count} of {total} {what} have"
