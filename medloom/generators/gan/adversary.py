"""What judges a GAN's images, and, unpaired, its masks; and what it is shown."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from medloom.networks.discriminators import ConditionalDiscriminator


@dataclass(frozen=True)
class Shown:
    """Images to judge, with what belongs to them.

    Attributes:
        images: `(N, C, *size)` in [-1, 1].
        spatial: channels of the images' masks `(N, S, *size)`, or None where masks are not seen with images.
        pooled: pooled conditions `(N, P)`, or None.
        masks: channels of masks that are judged by themselves `(N, S, *size)`, or None.
    """

    images: Tensor
    spatial: Tensor | None = None
    pooled: Tensor | None = None
    masks: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Shown":
        """The same with each tensor changed."""
        present = {name: change(value) for name, value in self.tensors().items()}
        return replace(self, **present)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        named = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def joined(self, other: "Shown") -> "Shown":
        """These and then the other ones, as one batch."""
        theirs = other.tensors()
        return Shown(**{name: torch.cat([value, theirs[name]]) for name, value in self.tensors().items()})


class Adversary(nn.Module):
    """The discriminators as one module.

    Attributes:
        images: judges images.
        masks: judges masks, where a network makes those as well.
    """

    def __init__(self, images: ConditionalDiscriminator, masks: ConditionalDiscriminator | None = None) -> None:
        super().__init__()
        self.images = images
        self.masks = masks

    def forward(
        self,
        images: Tensor,
        spatial: Tensor | None = None,
        pooled: Tensor | None = None,
        masks: Tensor | None = None,
        precise: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of images and of masks at each scale; see Shown.

        Args:
            images: see Shown.
            spatial: see Shown.
            pooled: see Shown.
            masks: see Shown.
            precise: whether to compute in single precision whatever the rest does, for slopes.
        """
        with torch.autocast(images.device.type, enabled=False) if precise else nullcontext():
            judged = self.images(images, spatial, pooled)
            return judged, self.masks(masks, None, None) if self.masks is not None and masks is not None else []


def compressed(channels: Tensor) -> Tensor:
    """A mask's channels, 0 or 1, as one number a place, int16 `(N, *size)`: outside, no class, the classes in turn."""
    weights = torch.arange(1, channels.shape[1], device=channels.device, dtype=channels.dtype)
    numbers = torch.einsum("ns...,s->n...", channels[:, :-1], weights) + channels[:, -1]
    return numbers.round().to(torch.int16)


def expanded(numbers: Tensor, count: int) -> Tensor:
    """The inverse of `compressed`, float32 `(N, count, *size)`."""
    classes = [numbers == number + 1 for number in range(1, count)]
    return torch.stack([*classes, numbers > 0], dim=1).float()
