"""The networks that read a condition, as every family has them: text encoder, condition encoder, mask channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.types import PARTS, Condition
from medloom.generators.tensors import ConditionTensors
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder

# A row of the empty text stands for a condition without text; a negative prompt takes its place.
EMPTY = ""


def prompt_of(condition: Condition, modality_as: str, parts: Sequence[str]) -> str:
    """The encoder's text of a condition: `modality: text` where the modality travels in the text.

    Args:
        condition: with the dropped parts already gone.
        modality_as: text, token or both.
        parts: the parts that the generator tells apart; where the modality is not one of its own, it is dropped with
            the text, since the empty prompt has to be really empty.
    """
    if modality_as == "token" or condition.modality is None:
        return condition.text or EMPTY
    if condition.text is None:
        return condition.modality if "modality" in parts else EMPTY
    return f"{condition.modality}: {condition.text}"


def known_parts(exportable: bool, mask: bool, table: bool, prior: bool = False) -> tuple[str, ...]:
    """The parts that a generator tells apart, in the order of guidance."""
    present = {"mask": mask, "prior": prior, "modality": not exportable, "table": table, "text": True}
    return tuple(part for part in PARTS if present[part])


def keep(condition: Condition, kept: frozenset[str], parts: Sequence[str]) -> Condition:
    """The condition with only the `kept` ones of a generator's `parts`."""
    return condition.without(frozenset(parts) - kept)


class ConditionalModel(nn.Module):
    """Reads a condition given as tensors; families add the network that makes the image.

    Attributes:
        text: the text encoder; in a run with a frozen one, embeddings are computed outside and given.
        condition: joins text, modality, view and table; None in Stable Diffusion's conventions, where text alone
            conditions.
        mask_classes: labels of a segmentation mask that the network sees, one channel each, and one that says whether
            there is a mask.
        prior_channels: channels of a prior image that the network sees; 0 for none. One more than the image or latent
            has says whether there is one; in Stable Diffusion's conventions nothing does.
    """

    def __init__(
        self,
        text: TextEncoder,
        condition: ConditionEncoder | None,
        mask_classes: Sequence[int] = (),
        prior_channels: int = 0,
    ) -> None:
        super().__init__()
        self.text = text
        self.condition = condition
        self.mask_classes = tuple(mask_classes)
        self.prior_channels = prior_channels

    def context(self, inputs: ConditionTensors) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Context tokens `(N, L, D)`, their mask bool `(N, L)`, and the pooled vector `(N, D)`.

        In Stable Diffusion's conventions the text's tokens alone, not masked.
        """
        mask = inputs.text_mask
        if inputs.text_ids is not None:
            tokens, pooled = self.text(inputs.text_ids, mask)
        else:
            tokens, pooled = inputs.text_embeddings, inputs.text_pooled
        if self.condition is None:
            return tokens, None, None
        context: tuple[Tensor, Tensor, Tensor] = self.condition(
            tokens, mask, pooled, inputs.modality, inputs.view, inputs.table
        )
        return context

    def spatial(self, labels: Tensor | None, x: Tensor, prior: Tensor | None = None) -> Tensor | None:
        """Channels of the mask, `classes + 1`, and then of the prior, on the grid of `x` `(N, C, *spatial)`.

        Args:
            labels: int64 `(N, *size)` with -1 where there is no mask.
            x: what the network is given.
            prior: `(N, C + 1, *spatial)`, the last channel 1 where there is a prior, and all of them 0 where there is
                none.
        """
        seen: list[Tensor] = []
        if self.mask_classes and labels is not None:
            channels = _one_hot(labels, self.mask_classes, x.dtype)
            channels[:, -1] = labels >= 0
            seen.append(_on_grid(channels, x))
        if self.prior_channels and prior is not None:
            seen.append(prior[:, : self.prior_channels].to(x.dtype))
        return torch.cat(seen, dim=1) if seen else None

    def regions(self, labels: Tensor, x: Tensor) -> Tensor:
        """The share of each place of `x` that lies in each class, and in none, `(N, classes + 1, *spatial)`."""
        channels = _one_hot(labels, self.mask_classes, x.dtype)
        channels[:, -1] *= labels >= 0
        return _on_grid(channels, x)


def _one_hot(labels: Tensor, classes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Channels `(N, classes + 1, *size)`, the last for any other label; one pass, however many classes there are."""
    rest = len(classes)
    table = torch.full((max(classes) + 3,), rest, device=labels.device)
    table[torch.tensor(classes, device=labels.device) + 1] = torch.arange(rest, device=labels.device)
    channel = table[(labels.long() + 1).clamp(0, len(table) - 1)]
    channels = torch.zeros((len(labels), rest + 1, *labels.shape[1:]), dtype=dtype, device=labels.device)
    return channels.scatter_(1, channel[:, None], 1.0)


def _on_grid(channels: Tensor, x: Tensor) -> Tensor:
    """Masks as shares on the grid of `x`: on a latent grid, of the pixels below each latent pixel."""
    return channels if channels.shape[2:] == x.shape[2:] else F.interpolate(channels, size=x.shape[2:], mode="area")
