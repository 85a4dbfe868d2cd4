"""A condition as tensors: what every network of a generator is given, by name and with its shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from medloom.core.errors import UserError


@dataclass(frozen=True, eq=False)
class ConditionTensors:
    """The conditions of a batch of N images, less the parts that were dropped; None where a network takes no such part.

    Attributes:
        text_ids: token ids int64 `(N, L)`, for a text encoder that is trained with the generator.
        text_embeddings: `(N, L, T)` of a frozen text encoder; `text_ids` are then None.
        text_pooled: one vector a text, `(N, T)`, with the embeddings.
        text_mask: bool `(N, L)`, False for padding.
        modality: number of each modality, int64 `(N,)`.
        view: number of each view, int64 `(N,)`.
        table: standardised cells of the clinical table, float32 `(N, K)`, NaN where missing.
        mask_labels: label maps int64 `(N, *size)`, -1 where there is no mask.
        prior: prior images as the network takes them, `(N, C + 1, *spatial)`; the last channel is 1 where there is one.
        patch_position: where patches lie in their images, float32 `(N, axes, 2)`, -1 to 1; the frame of a padded image
            is a patch that reaches beyond it.
        coarse_tokens: tokens of the first of two stages, int64 `(N, *coarse grid)`.
    """

    text_ids: Tensor | None = None
    text_embeddings: Tensor | None = None
    text_pooled: Tensor | None = None
    text_mask: Tensor | None = None
    modality: Tensor | None = None
    view: Tensor | None = None
    table: Tensor | None = None
    mask_labels: Tensor | None = None
    prior: Tensor | None = None
    patch_position: Tensor | None = None
    coarse_tokens: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "ConditionTensors":
        """The same with each tensor changed."""
        named = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(self, **{name: change(value) for name, value in named.items() if value is not None})

    def to(self, device: torch.device) -> "ConditionTensors":
        """On another device, without waiting for the copy."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def repeated(self, count: int) -> "ConditionTensors":
        """The tensors of one condition for so many patches of its image."""
        return self.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def of_patches(self, labels: Tensor, positions: Tensor, masked: bool = True) -> "ConditionTensors":
        """The conditions for patches with these label maps, dropped where `masked` is false, and positions."""
        seen = labels if masked else torch.full_like(labels, -1)
        device = self.text_mask.device if self.text_mask is not None else labels.device
        return replace(self, mask_labels=seen.to(device), patch_position=positions.to(device))

    def padded(self, length: int) -> "ConditionTensors":
        """Texts padded to `length` tokens."""
        if self.text_mask is None or self.text_mask.shape[1] >= length:
            return self
        missing = length - self.text_mask.shape[1]
        embeddings = self.text_embeddings
        return replace(
            self,
            text_mask=pad(self.text_mask, (0, missing)),
            text_embeddings=None if embeddings is None else pad(embeddings, (0, 0, 0, missing)),
        )


def joined(conditions: Sequence[ConditionTensors]) -> ConditionTensors:
    """Several batches of conditions one after another, texts padded to one length.

    Raises:
        UserError: one batch has a tensor that another lacks.
    """
    longest = max(each.text_mask.shape[1] for each in conditions if each.text_mask is not None)
    conditions = [each.padded(longest) for each in conditions]
    tensors: dict[str, Tensor] = {}
    for name in (entry.name for entry in fields(ConditionTensors)):
        values = [value for each in conditions if (value := getattr(each, name)) is not None]
        if values and len(values) < len(conditions):
            raise UserError(f"condition {name!r} is absent in some guidance subsets; give the empty value there.")
        if values:
            tensors[name] = torch.cat(values)
    return ConditionTensors(**tensors)
