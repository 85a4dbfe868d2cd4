"""What a generator was trained on, and so what it can be asked: its parts, columns and rules, without any image."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

import torch

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.core.types import DAYS, Condition
from medloom.data.condition_reader import ConditionReader
from medloom.data.padding import TrainingExtents
from medloom.generators.base_model import ConditionalModel, known_parts, prompt_of
from medloom.generators.condition_rules import ConditionRules
from medloom.generators.sampling import AUTO, EVERYWHERE, Edit, Sampling
from medloom.generators.training_record import TrainingRecord
from medloom.processes.guidance import guidance_coefficients
from medloom.report_text.progression import NO_CHANGE

Model = TypeVar("Model", bound=ConditionalModel)


class ConditionedGenerator(ABC, Generic[Model, Sampling]):
    """A generator as its conditions see it; `ImageGenerator` says what its attributes are."""

    family: ClassVar[str]
    sampling: Sampling
    reads_text: bool = True
    unit: str | None = None
    trained_on: TrainingRecord | None = None
    extents: TrainingExtents | None = None

    def __init__(self, spec: ImageSpec, model: Model, modality_as: str, train_text: bool) -> None:
        self.spec = spec
        self.model = model
        self.modality_as = modality_as
        self.train_text = train_text
        self.masks = MaskSpec(numbered(model.mask_classes)) if model.mask_classes else MaskSpec()

    @property
    @abstractmethod
    def takes_text(self) -> bool:
        """Whether text, view and table reach the network."""

    @property
    def takes_positions(self) -> bool:
        """Whether the network is built to be given where an image's content lies in the model's frame."""
        return False

    @property
    def reader(self) -> ConditionReader:
        """Reads masks, prior images and regions in the model's space."""
        return ConditionReader(self.spec, self.masks, self.unit)

    @property
    def exportable(self) -> bool:
        """Whether it follows Stable Diffusion's conventions and opens in diffusers."""
        return self.model.condition is None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a condition that it was trained with, in the order of guidance."""
        model = self.model
        return known_parts(self.exportable, bool(model.mask_classes), bool(self.columns), bool(model.prior_channels))

    @property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns of a clinical table that condition it."""
        return () if self.model.condition is None else self.model.condition.config.columns

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.model.parameters()).device

    @property
    def reads(self) -> tuple[str, ...]:
        """The parts that change its images, other than modality and table."""
        views = self.takes_text and self.model.condition is not None and self.model.condition.config.views
        masks, priors = bool(self.model.mask_classes), bool(self.model.prior_channels)
        present = {"text": self.reads_text, "view": bool(views), "mask": masks, "prior": priors}
        return tuple(part for part, there in present.items() if there)

    @property
    def rules(self) -> ConditionRules:
        """What a condition has to have, may lack and cannot have."""
        views = () if self.model.condition is None else self.model.condition.config.views
        return ConditionRules(self.reads, self.columns, views, self.trained_on)

    @property
    def can_guide(self) -> bool:
        """Whether the network met the empty condition in training, as far as that is known."""
        return self.trained_on is None or self.trained_on.guided

    @property
    def learnt_no_change(self) -> bool:
        """Whether training images had the instruction for no change."""
        return self.reads_text and self.trained_on is not None and self.trained_on.unchanged > 0

    def learn_padding(self) -> None:
        """Let the network take it from now on; new weights start at zero. Nothing changes in a family without such."""

    @property
    def knows_padding(self) -> bool:
        """Whether the network is given it: where a training image was padded, and the network takes it."""
        return self.extents is not None and self.takes_positions

    def remember(self, record: TrainingRecord | None) -> None:
        """Keep what the training images had; without an empty condition among them, nothing is guided by default."""
        self.trained_on = record
        if not self.can_guide and self.sampling.guidance is not None:
            self.sampling = replace(self.sampling, guidance=1.0)

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse values that the model does not know.

        Raises:
            UserError: a modality, view or category of the table that it was not trained on, or a text for a number.
        """
        for condition in conditions:
            if condition.modality is None and len(self.spec.intensity) > 1:
                raise UserError(f"name a modality; known: {', '.join(sorted(self.spec.intensity))}.")
            if condition.modality is not None:
                self.spec.of(condition.modality)
        if self.model.condition is not None:
            self.model.condition.indices([None] * len(conditions), [condition.view for condition in conditions])
            self.model.condition.cells([condition.table for condition in conditions])

    def check_days(self, given: str) -> None:
        """Refuse days between two images where they do not condition the model.

        Args:
            given: what was asked for, in messages.

        Raises:
            UserError: says how such an editor is trained.
        """
        if DAYS not in [column.name for column in self.columns]:
            raise UserError(
                f"{given}: the model was trained without the days between two images; leave them out, or train an"
                f" editor on triples with a column {DAYS}."
            )

    def check_guidance(self, scales: Mapping[str, float], negative: str | None) -> None:
        """Refuse guidance that the model cannot follow.

        Args:
            scales: by part of the condition.
            negative: text that replaces the empty text, or None.

        Raises:
            UserError: a scale out of range or of no part, any scale where the empty condition was never trained, or a
                negative text that no scale looks at.
        """
        evaluated = guidance_coefficients(self.parts, scales)
        if not self.can_guide and (asked := sorted({scale for scale in scales.values() if scale != 1})):
            raise UserError(
                f"--guidance {' '.join(f'{scale:g}' for scale in asked)}: the model was trained with --text.dropout 0"
                " and knows no empty condition, which guidance compares with; leave it out, or train with a larger"
                " dropout."
            )
        if negative is not None and all("text" in kept for kept, _ in evaluated):
            raise UserError(
                "--negative replaces the empty text, which a guidance scale of 1 of the text does not look at; leave it"
                " out, or give another --guidance."
            )

    def table_refusal(self, condition: Condition) -> str | None:
        """Why the model cannot read a condition's table, or None."""
        for column in self.columns:
            if column.name not in condition.table:
                return f"no column {column.name!r}, which conditions the model; add it, with empty cells where unknown."
            try:
                column.encode(condition.table[column.name])
            except UserError as error:
                return str(error)
        return None

    def row_condition(self, condition: Condition, where: str) -> Condition:
        """The parts of a row's condition that the model takes, the table's cells as it reads them.

        Args:
            condition: with all columns of its table.
            where: the file and line, or the option, for errors.

        Raises:
            UserError: the table lacks a column, or has a value, that the model needs or does not know.
        """
        if refusal := self.table_refusal(condition):
            raise UserError(f"{where}: {refusal}")
        parts = self.parts
        return replace(
            condition,
            text=condition.text if self.reads_text else None,
            table={column.name: column.read(condition.table[column.name]) for column in self.columns},
            mask=condition.mask if "mask" in parts else None,
            prior=condition.prior if "prior" in parts else None,
        )

    def completed(self, condition: Condition) -> Condition:
        """With the modality and the view named, where the model knows one only and always saw it in training."""
        if condition.modality is None and len(self.spec.intensity) == 1:
            condition = replace(condition, modality=next(iter(self.spec.intensity)))
        return condition if condition.view else replace(condition, view=self.rules.only_view)

    def cut_texts(self, conditions: Sequence[Condition], sampling: Sampling) -> list[str]:
        """A remark on texts that are longer than the model reads."""
        encoder = self.model.text
        read = [*conditions] if self.reads_text else []
        if sampling.negative is not None:
            read += [replace(condition, text=sampling.negative) for condition in read]
        texts = {prompt_of(condition, self.modality_as, self.parts) for condition in read}
        counts = encoder.count_tokens(sorted(texts)) if texts else []
        over = [count - encoder.max_tokens for count in counts if count > encoder.max_tokens]
        if not over:
            return []
        return [
            f"{len(over)} of {len(texts)} texts are longer than the {encoder.max_tokens} tokens that the model reads;"
            f" up to {max(over)} tokens are cut."
        ]

    def read_tokens(self, condition: Condition) -> tuple[int, ...]:
        """The tokens that the text encoder reads of a condition; none where the model reads no text."""
        if not self.reads_text:
            return ()
        ids, mask = self.model.text.tokenize([prompt_of(condition, self.modality_as, self.parts)])
        return tuple(ids[mask].tolist())

    def with_region(self, edit: Edit) -> Edit:
        """An edit that says where the image may change: `auto` if the model learnt an instruction for no change."""
        usual = AUTO if self.learnt_no_change and "prior" in self.parts else EVERYWHERE
        return replace(edit, region=usual) if edit.region is None else edit

    def unchanged(self, conditions: Sequence[Condition], sampling: Sampling) -> list[Condition]:
        """Conditions that ask for no change, with which an edit of region `auto` is compared.

        An instruction that says so in other capitals, or without the full stop, is compared with itself.
        """
        reference = sampling.negative or NO_CHANGE
        return [
            condition if _plain(condition.text or "") == _plain(reference) else replace(condition, text=reference)
            for condition in conditions
        ]


def _plain(text: str) -> str:
    """A text without capitals, full stop and outer spaces."""
    return text.casefold().strip(" .")
