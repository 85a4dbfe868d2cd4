"""What a what-if asks of which rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medloom.core.types import Sample
from medloom.data.prompts import Cell, Template
from medloom.data.prompts.arms import Arm, ArmRow

if TYPE_CHECKING:
    from medloom.generation.requests import Source


@dataclass(frozen=True)
class PatientRow:
    """One row of the manifest: its sample, its template's columns, and cells that are carried along."""

    sample: Sample
    origin: "Source"
    cells: Mapping[str, Cell]
    kept: tuple[object, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be generated.

    Attributes:
        template: turns cells into text.
        rows: to generate images for.
        arms: the factual one first.
        changed: arm -> each of the rows in it; one that breaks a bound of the template is left out.
        kept: names of the columns that are carried along.
        takes_masks: whether the model takes masks.
        unrelated: whether no template says what follows from a change.
    """

    template: Template
    rows: Sequence[PatientRow]
    arms: Sequence[Arm]
    changed: Mapping[str, Sequence[ArmRow]]
    kept: Sequence[str]
    takes_masks: bool = True
    unrelated: bool = False

    def arms_of(self, index: int) -> list[Arm]:
        """The arms that a row is asked in."""
        return [arm for arm in self.arms if not self.changed[arm.name][index].broken]

    def rows_in(self, arm: Arm) -> list[ArmRow]:
        """The rows that an arm asks."""
        return [row for row in self.changed[arm.name] if not row.broken]

    @property
    def masked(self) -> bool:
        """Whether any row has a mask that is held."""
        return self.takes_masks and any(row.sample.condition.mask for row in self.rows)

    @property
    def words(self) -> bool:
        """Whether the template words the rows; else their own texts are held."""
        return words(self.template)


def words(template: Template) -> bool:
    """Whether a template words anything."""
    return bool(template.start or any(column.say for column in template.columns.values()))


def title_notes(plan: Plan, unseen: Mapping[str, str]) -> dict[str, str]:
    """Changed arm -> what is added to its title in pictures: whether it is an association, and whether it was learnt.

    Args:
        plan: with the arms.
        unseen: arms of which training has not seen something.
    """
    found = {}
    for arm in plan.arms[1:]:
        known = {"association": bool(arm.outcomes(plan.template)), "not seen in training": arm.name in unseen}
        said = ", ".join(words for words, holds in known.items() if holds)
        found[arm.name] = f" ({said})" if said else ""
    return found
