"""What a model can be asked, in plain values: all that a form needs, from the one condition that families share."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.table_column import TableColumn
from medloom.core.types import DAYS
from medloom.generators.registry import FAMILIES
from medloom.generators.run_folder import RunFolder, open_run

if TYPE_CHECKING:
    from medloom.generators.base import AnyGenerator


@dataclass(frozen=True)
class ColumnFacts:
    """A column of the table that conditions a model.

    Attributes:
        name: of the column.
        categories: its values in training; empty for a number.
        low: smallest number in training.
        high: largest number in training.
        needed: whether every training image had a value.
    """

    name: str
    categories: tuple[str, ...]
    low: float
    high: float
    needed: bool


@dataclass(frozen=True)
class ModelFacts:
    """What a model can be asked.

    Attributes:
        family: of the model.
        dims: axes of its images, 2 or 3.
        size: pixels of each axis.
        colour: whether its images are in colour.
        units: modality -> unit of the generated values.
        windows: modality -> lowest and highest value that is distinguished; relative values are 0 to 1.
        views: the views that it knows.
        only_view: the view of all training images, or None.
        parts: of a condition that change its images: text, view, mask, prior.
        needs: those that every training image had.
        columns: of the table that condition it.
        worded: columns of a template that its training texts worded.
        mask_classes: label of a mask -> its name.
        hidden: labels that the model is not given.
        steps: of its sampler; None for a GAN.
        guidance: its usual scale; None for a GAN.
        can_guide: whether other scales than 1 can be asked for.
        days: whether the days between two images condition it.
        finds_regions: whether it can find where an edit may change an image.
        patches: whether it was trained on patches, and generates images of their mask's size.
        hash: of its weights.
    """

    family: str
    dims: int
    size: tuple[int, ...]
    colour: bool
    units: dict[str, str]
    windows: dict[str, tuple[float, float]]
    views: tuple[str, ...]
    only_view: str | None
    parts: tuple[str, ...]
    needs: tuple[str, ...]
    columns: tuple[ColumnFacts, ...]
    worded: tuple[ColumnFacts, ...]
    mask_classes: dict[str, str]
    hidden: tuple[str, ...]
    steps: int | None
    guidance: float | None
    can_guide: bool
    days: bool
    finds_regions: bool
    patches: bool
    hash: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelFacts":
        """From JSON values, which have lists instead of tuples."""
        plain = {entry.name: _tuples(values[entry.name]) for entry in fields(cls)}
        columns = {
            kind: tuple(ColumnFacts(**{name: _tuples(value) for name, value in own.items()}) for own in values[kind])
            for kind in ("columns", "worded")
        }
        return cls(**{**plain, **columns})

    @property
    def reads_text(self) -> bool:
        """Whether a text changes its images."""
        return "text" in self.parts

    @property
    def edits(self) -> bool:
        """Whether it edits prior images."""
        return "prior" in self.parts

    @property
    def table(self) -> tuple[ColumnFacts, ...]:
        """The columns without the days between two images."""
        return tuple(column for column in self.columns if column.name != DAYS)

    @property
    def attributes(self) -> tuple[ColumnFacts, ...]:
        """What a what-if can change: columns of the table, and those that texts word."""
        known = {column.name: column for column in (*self.worded, *self.table)}
        return tuple(known.values())


def facts_of(generator: "AnyGenerator", run: RunFolder) -> ModelFacts:
    """What a loaded model can be asked.

    Args:
        generator: the model.
        run: its folder.
    """
    rules, spec, sampling = generator.rules, generator.spec, generator.sampling
    complete = () if rules.record is None else rules.record.complete_columns

    def described(columns: Iterable[TableColumn]) -> tuple[ColumnFacts, ...]:
        return tuple(
            ColumnFacts(column.name, column.categories, column.low, column.high, column.name in complete)
            for column in columns
        )

    masks = generator.masks
    relative = {name for name, entry in spec.intensity.items() if entry.kind == "percentile"}
    return ModelFacts(
        family=generator.family,
        dims=spec.spatial_dims,
        size=tuple(spec.size),
        colour=spec.channels == 3,
        units={name: entry.output_unit for name, entry in sorted(spec.intensity.items())},
        windows={
            name: (0.0, 1.0) if name in relative else (entry.low, entry.high)
            for name, entry in sorted(spec.intensity.items())
        },
        views=tuple(rules.views),
        only_view=rules.only_view,
        parts=tuple(part for part in rules.reads if rules.record is None or part not in rules.record.absent),
        needs=rules.needs,
        columns=described(generator.columns),
        worded=described(run.worded_columns()) if generator.reads_text else (),
        mask_classes={str(label): name for label, name in masks.names.items()},
        hidden=tuple(str(label) for label in masks.hidden),
        steps=sampling.steps,
        guidance=sampling.guidance,
        can_guide=generator.can_guide and sampling.guidance is not None,
        days=any(column.name == DAYS for column in generator.columns),
        finds_regions=generator.learnt_no_change and "prior" in generator.parts,
        patches=spec.patch,
        hash=generator.model_hash,
    )


def stamp_of(path: Path) -> str:
    """What changes when a run's model is written again.

    Raises:
        UserError: the folder is gone, or is no run of a generator.
    """
    return open_run(path, tuple(FAMILIES)).model_stamp()


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
