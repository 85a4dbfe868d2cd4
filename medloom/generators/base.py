"""What every family of generators shares: conditions that are checked, reduced to the parts told, and made tensors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.mask_spec import NO_MASK, MaskSpec, numbered
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.base_model import ConditionedModel
from medloom.generators.prompt import keep, known_parts, prompt_of
from medloom.generators.volumes import WholeMask
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.text import embed_texts
from medloom.networks.tokenizer import Tokeniser

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Reads the label map of a condition's mask in the model's geometry: int64 `(*size)`.
ReadMask = Callable[[Condition], "NDArray[Any]"]
# Reads the earlier image of a condition in the model's space: float32 `(C, *size)`.
ReadPrior = Callable[[Condition], "NDArray[Any]"]


class ConditionedGenerator(ABC):
    """An image generator: image = generator(condition, seed).

    Attributes:
        family: name of the family.
        spec: the model's image space.
        model: networks, in evaluation mode for sampling.
        autoencoder: between pixels and latents, or None.
        tokeniser: between pixels and tokens, or None.
        modality_as: how the modality conditions the model: text, token or both.
        train_text: whether the text encoder belongs to the trained weights.
        reads_text: whether a text can change the image; where not, a prompt is refused.
        masks: the classes of masks, by name, and which of them the model is not told.
    """

    family: str
    reads_text: bool = True
    autoencoder: KLAutoencoder | None = None
    tokeniser: Tokeniser | None = None

    def __init__(self, spec: ImageSpec, model: ConditionedModel, modality_as: str, train_text: bool) -> None:
        self.spec = spec
        self.model = model
        self.modality_as = modality_as
        self.train_text = train_text
        self.masks = MaskSpec(numbered(model.mask_classes)) if model.mask_classes else MaskSpec()

    @property
    @abstractmethod
    def takes_text(self) -> bool:
        """Whether text and table condition it."""

    @abstractmethod
    def check_sampling(self, options: Any) -> None:
        """Refuse sampling options that do not fit the model."""

    @abstractmethod
    def generate(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: Any = None,
        read_mask: ReadMask | None = None,
    ) -> Tensor:
        """Generate one image a condition, float32 `(N, C, *size)` in [-1, 1], on the CPU."""

    def generate_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        places: Tensor,
        options: Any = None,
    ) -> Tensor:
        """Generate one patch a condition, for a model that was trained on patches.

        Args:
            conditions: what the patches should show.
            seeds: one integer a patch; all of its noise is drawn from it, on the CPU.
            labels: the label maps of the patches, int64 `(N, *size)`.
            places: where they lie in their images, float32 `(N, axes, 2)`; see `data.patches.place_of`.
            options: how images are sampled.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: the family makes whole images only.
        """
        raise UserError(f"a {self.family} makes whole images of {self.spec.size} pixels, not patches.")

    def generate_whole(self, condition: Condition, seed: int, mask: WholeMask, options: Any = None) -> Tensor:
        """Generate one whole image of its mask's size, for a model that was trained on patches.

        Args:
            condition: what the image should show.
            seed: all of the image's noise is drawn from it, on the CPU.
            mask: the label map at the model's spacing, of any size, and the windows that see it.
            options: how images are sampled.

        Returns:
            float32 `(C, *size of the mask)` in [-1, 1], on the CPU.

        Raises:
            UserError: the family makes images of one size only.
        """
        raise UserError(f"a {self.family} makes images of {self.spec.size} pixels, not of a mask's size.")

    @abstractmethod
    def to(self, device: torch.device | str) -> "ConditionedGenerator":
        """Move all networks to a device."""

    @property
    def exportable(self) -> bool:
        """Whether it follows Stable Diffusion's conventions and opens in diffusers."""
        return self.model.condition is None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a condition that it tells apart, in the order of guidance."""
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

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that the model cannot follow.

        Raises:
            UserError: a modality, view or category of the table never trained on, or a text for a number.
        """
        for condition in conditions:
            if condition.modality is None and len(self.spec.intensity) > 1:
                raise UserError(f"name a modality; known: {', '.join(sorted(self.spec.intensity))}.")
            if condition.modality is not None:
                self.spec.of(condition.modality)
        if self.model.condition is not None:
            self.model.condition.indices([None] * len(conditions), [condition.view for condition in conditions])
            self.model.condition.cells([condition.table for condition in conditions])

    def table_refusal(self, condition: Condition) -> str | None:
        """Why a condition's table cannot be told to the model, or None."""
        for column in self.columns:
            if column.name not in condition.table:
                return f"no column {column.name!r}, which the model is told; add it, with empty cells where unknown."
            try:
                column.encode(condition.table[column.name])
            except UserError as error:
                return str(error)
        return None

    def completed(self, condition: Condition) -> Condition:
        """The condition as the model was told it in training.

        With the modality named, where it knows one only and was always told it; without a text, where there was none.
        """
        known = condition if self.reads_text else replace(condition, text=None)
        if known.modality is not None or len(self.spec.intensity) > 1:
            return known
        return replace(known, modality=next(iter(self.spec.intensity)))

    def inputs(
        self,
        conditions: Sequence[Condition],
        kept: frozenset[str],
        negative: str | None = None,
        read_mask: ReadMask | None = None,
        prior: Tensor | None = None,
    ) -> dict[str, Tensor | None]:
        """The tensors of conditions of which only the `kept` parts are told; see DiffusionModel.forward."""
        tensors = self.told(conditions, kept, negative)
        if prior is not None:
            tensors["prior"] = prior if "prior" in kept else torch.zeros_like(prior)
        if self.model.mask_classes:
            reduced = [keep(condition, kept, self.parts) for condition in conditions]
            tensors["labels"] = self._labels(reduced, read_mask)
        return tensors

    def told(
        self, conditions: Sequence[Condition], kept: frozenset[str], negative: str | None = None
    ) -> dict[str, Tensor | None]:
        """As `inputs`, less the label maps of masks."""
        reduced = [keep(condition, kept, self.parts) for condition in conditions]
        texts = [prompt_of(condition, self.modality_as, self.parts) for condition in reduced]
        if negative is not None and "text" not in kept:
            texts = [negative] * len(texts)
        tensors: dict[str, Tensor | None] = dict(self._embed(texts))
        if self.model.condition is not None:
            names = [None if self.modality_as == "text" else condition.modality for condition in reduced]
            modality, view = self.model.condition.indices(names, [condition.view for condition in reduced])
            tensors |= {"modality": modality.to(self.device), "view": view.to(self.device)}
        if self.columns and self.model.condition is not None:
            tensors["table"] = self.model.condition.cells([condition.table for condition in reduced]).to(self.device)
        return tensors

    def prior_images(self, conditions: Sequence[Condition], read_prior: ReadPrior | None) -> Tensor:
        """The earlier images of conditions, float32 `(N, C, *size)` in [-1, 1]; zeros where there is none."""
        images = torch.zeros(len(conditions), *self.spec.shape)
        for row, condition in enumerate(conditions):
            if condition.prior is not None:
                if read_prior is None:
                    raise ValueError("a condition has an earlier image and no way to read it was given")
                images[row] = torch.from_numpy(read_prior(condition))
        return images.to(self.device)

    def prior_of(self, kept: Tensor) -> Tensor:
        """What the networks see of earlier images as training data keep them, `(N, C + 1, *spatial)`.

        The last channel says where there is one, and is left as it is.
        """
        return kept

    def _embed(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Embeddings of texts, each embedded alone, so that it does not depend on the batch."""
        distinct = list(dict.fromkeys(texts))
        embedded = dict(zip(distinct, embed_texts(self.model.text, distinct, self.device), strict=True))
        tokens = [embedded[text][0] for text in texts]
        mask = torch.zeros(len(texts), max(map(len, tokens)), dtype=torch.bool)
        for row, entry in enumerate(tokens):
            mask[row, : len(entry)] = True
        padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        pooled = torch.stack([embedded[text][1] for text in texts])
        return {"tokens": padded.to(self.device), "pooled": pooled.to(self.device), "mask": mask.to(self.device)}

    def _labels(self, conditions: Sequence[Condition], read_mask: ReadMask | None) -> Tensor:
        labels = torch.full((len(conditions), *self.spec.size), NO_MASK, dtype=torch.long)
        for row, condition in enumerate(conditions):
            if condition.mask is not None:
                if read_mask is None:
                    raise ValueError("a condition has a mask and no way to read it was given")
                labels[row] = torch.from_numpy(read_mask(condition)).long()
        return labels.to(self.device)
