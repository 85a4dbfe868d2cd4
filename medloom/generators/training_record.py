"""What a generator met in training: which parts every training image had, and so which ones a condition needs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.report_text.progression import NO_CHANGE

# Part of a condition -> its name in messages.
COUNTED: Mapping[str, str] = {"text": "text", "view": "view", "mask": "mask", "prior": "prior image"}


@dataclass(frozen=True)
class TrainingRecord:
    """Training images, counted by what their conditions had.

    Attributes:
        images: how many there were.
        parts: part of COUNTED -> images that had one.
        columns: column of the table that conditions the model -> images that had a value of it.
        guided: whether the network met the empty condition, which guidance compares with.
        unchanged: images whose text is the instruction for no change.
    """

    images: int
    parts: Mapping[str, int]
    columns: Mapping[str, int]
    guided: bool
    unchanged: int = 0

    @classmethod
    def of(cls, conditions: Sequence[Condition], columns: Sequence[TableColumn], guided: bool) -> "TrainingRecord":
        """The record of some training conditions."""
        parts = {part: sum(has_part(condition, part) for condition in conditions) for part in COUNTED}
        values = {
            column.name: sum(column.read(condition.table[column.name]) is not None for condition in conditions)
            for column in columns
        }
        unchanged = sum(condition.text == NO_CHANGE for condition in conditions)
        return cls(len(conditions), parts, values, guided, unchanged)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingRecord":
        """From the values of `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def with_stage(self, first: "TrainingRecord") -> "TrainingRecord":
        """The record of two stages, each of which needs what all of its own images had."""
        parts = {**self.parts, **dict.fromkeys(first.complete, self.images)}
        columns = {name: self.images if name in first.complete_columns else own for name, own in self.columns.items()}
        return replace(self, parts=parts, columns=columns, guided=self.guided and first.guided)

    def after(self, earlier: "TrainingRecord") -> "TrainingRecord":
        """The record of a run that continues another one.

        A column that only this run has counts as a value of all images if each of its own has one: the earlier network
        had no input for it, and so learnt nothing of images without it.
        """
        images = self.images + earlier.images
        columns = Counter(self.columns) + Counter(earlier.columns)
        columns |= {name: images for name in self.complete_columns if name not in earlier.columns}
        return TrainingRecord(
            images,
            dict(Counter(self.parts) + Counter(earlier.parts)),
            dict(columns),
            self.guided or earlier.guided,
            self.unchanged + earlier.unchanged,
        )

    def with_all(self, part: str) -> "TrainingRecord":
        """With a part in every image, for a family that trains with nothing else."""
        return replace(self, parts={**self.parts, part: self.images})

    @property
    def complete(self) -> tuple[str, ...]:
        """The parts that every training image had."""
        return tuple(part for part in COUNTED if self.parts.get(part) == self.images)

    @property
    def absent(self) -> tuple[str, ...]:
        """The parts that no training image had."""
        return tuple(part for part in COUNTED if not self.parts.get(part))

    @property
    def complete_columns(self) -> tuple[str, ...]:
        """The columns of which every training image had a value."""
        return tuple(name for name, images in self.columns.items() if images == self.images)


def has_part(condition: Condition, part: str) -> bool:
    """Whether a condition has a part; an empty text is none."""
    value = getattr(condition, part)
    return value is not None and not (isinstance(value, str) and not value.strip())
