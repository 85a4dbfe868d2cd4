"""What the networks of every family are given of a batch of conditions, and the prior images that edits keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medloom.core.mask_spec import NO_MASK
from medloom.core.types import Condition
from medloom.data.padding import Extent, frame_position
from medloom.generators.base_model import keep, prompt_of
from medloom.generators.conditioned_generator import ConditionedGenerator, Model
from medloom.generators.sampling import Edit, Sampling
from medloom.generators.tensors import ConditionTensors
from medloom.networks.text import embed_texts


@dataclass(frozen=True, eq=False)
class Priors:
    """The prior images of a batch of conditions.

    Attributes:
        images: `(N, C, *size)` in [-1, 1], 0 where there is none.
        present: bool `(N,)`, whether there is one.
        regions: float32 `(N, 1, *size)` in [0, 1], where images may differ from them, or None for everywhere.
    """

    images: Tensor
    present: Tensor
    regions: Tensor | None = None

    def within(self, regions: Tensor) -> "Priors":
        """With other regions `(N, 1, *size)`; without a prior image the whole image may differ."""
        regions = regions.to(self.images)
        present = self.present.view(-1, *[1] * (regions.ndim - 1))
        return replace(self, regions=torch.where(present, regions, torch.ones_like(regions)))

    def outside(self, images: Tensor) -> Tensor:
        """Images `(N, C, *size)` that are the prior ones outside of the regions."""
        return images if self.regions is None else torch.lerp(self.images, images, self.regions.to(images))


class ConditionInputs(ConditionedGenerator[Model, Sampling]):
    """A generator as its networks see conditions: tensors."""

    def inputs(
        self,
        conditions: Sequence[Condition],
        kept: frozenset[str],
        negative: str | None = None,
        labels: Tensor | None = None,
        priors: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> ConditionTensors:
        """The tensors of conditions with only the `kept` parts, as the networks take them.

        Args:
            conditions: of a batch.
            kept: parts that are left.
            negative: text that replaces the empty one.
            labels: of `mask_labels`.
            priors: the prior images as the networks take them, for a model that takes any.
            positions: of `frame_positions`.
        """
        tensors = replace(self.context_inputs(conditions, kept, negative), patch_position=positions)
        if priors is not None:
            tensors = replace(tensors, prior=priors if "prior" in kept else torch.zeros_like(priors))
        if labels is not None:
            seen = labels if "mask" in kept else torch.full_like(labels, NO_MASK)
            tensors = replace(tensors, mask_labels=seen)
        return tensors

    def context_inputs(
        self, conditions: Sequence[Condition], kept: frozenset[str], negative: str | None = None
    ) -> ConditionTensors:
        """As `inputs`, text, modality, view and table alone."""
        reduced = [keep(condition, kept, self.parts) for condition in conditions]
        if negative is not None and "text" not in kept:
            reduced = [replace(condition, text=negative) for condition in reduced]
        texts = [prompt_of(condition, self.modality_as, self.parts) for condition in reduced]
        tensors = self._embed(texts)
        encoder = self.model.condition
        if encoder is None:
            return tensors
        names = [None if self.modality_as == "text" else condition.modality for condition in reduced]
        modality, view = encoder.indices(names, [condition.view for condition in reduced])
        tensors = replace(tensors, modality=modality.to(self.device), view=view.to(self.device))
        if not self.columns:
            return tensors
        return replace(tensors, table=encoder.cells([condition.table for condition in reduced]).to(self.device))

    def mask_labels(self, conditions: Sequence[Condition]) -> Tensor | None:
        """The label maps of conditions, int64 `(N, *size)`, -1 where there is none; None for a model without masks."""
        if not self.model.mask_classes:
            return None
        labels = torch.full((len(conditions), *self.spec.size), NO_MASK, dtype=torch.long)
        for row, condition in enumerate(conditions):
            if condition.mask is not None:
                labels[row] = torch.from_numpy(self.reader.labels(condition)).long()
        return labels.to(self.device)

    def frame_extents(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Extent] | None:
        """What images fill of the model's frame along each axis; the rest of them is padding.

        As much as the condition's mask, else its prior image; without either as much as a training image of its
        modality, a function of the seed. None for a model that is not given where padding is.
        """
        known = self.extents
        if known is None or not self.takes_positions:
            return None
        return [
            self.reader.extent(condition) or known.draw(self.reader.modality(condition), seed)
            for condition, seed in zip(conditions, seeds, strict=True)
        ]

    def frame_positions(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> Tensor | None:
        """Where the frames of images lie in their content, float32 `(N, axes, 2)`; None where `frame_extents` is."""
        extents = self.frame_extents(conditions, seeds)
        if extents is None:
            return None
        found = [frame_position(extent, self.spec.size) for extent in extents]
        return torch.from_numpy(np.stack(found)).to(self.device)

    def priors(self, conditions: Sequence[Condition], edit: Edit) -> Priors | None:
        """The prior images of conditions, and where they may be changed; None for a model that takes none."""
        if not self.model.prior_channels:
            return None
        images = torch.zeros(len(conditions), *self.spec.shape)
        for row, condition in enumerate(conditions):
            if condition.prior is not None:
                images[row] = torch.from_numpy(self.reader.prior(condition))
        present = torch.tensor([condition.prior is not None for condition in conditions])
        regions = None
        if edit.label_map is not None:
            region = torch.from_numpy(self.reader.region(edit.label_map))
            regions = region.expand(len(conditions), *region.shape).clone()
        return Priors(images.to(self.device), present.to(self.device), regions)

    def prior_inputs(self, stored: Tensor) -> Tensor:
        """What the networks take of prior images as training data store them, `(N, C + 1, *spatial)`.

        The last channel says where there is one, and is left as it is.
        """
        return stored

    def _embed(self, texts: Sequence[str]) -> ConditionTensors:
        """Embeddings of texts, each embedded alone, so that it does not depend on the batch."""
        distinct = list(dict.fromkeys(texts))
        embedded = dict(zip(distinct, embed_texts(self.model.text, distinct, self.device), strict=True))
        tokens = [embedded[text][0] for text in texts]
        mask = torch.zeros(len(texts), max(map(len, tokens)), dtype=torch.bool)
        for row, entry in enumerate(tokens):
            mask[row, : len(entry)] = True
        padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        pooled = torch.stack([embedded[text][1] for text in texts])
        device = self.device
        return ConditionTensors(
            text_embeddings=padded.to(device), text_pooled=pooled.to(device), text_mask=mask.to(device)
        )
