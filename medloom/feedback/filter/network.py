"""The network of a filter: an image, seen in the light of its prompt, to two ordinal items and an artefact."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.networks import blocks
from medloom.networks.weights import StoredNetwork

ITEMS = ("realism", "match")
LEVELS = 3
# Places along each axis over which features are averaged: sides and heights stay apart.
PLACES = 4


@dataclass(frozen=True)
class QualityConfig:
    """Shape of the network.

    Attributes:
        dims: 2 or 3.
        channels: of the images.
        text_width: of the prompts' vectors.
        widths: feature channels of each size.
        hidden: width of the last layer.
    """

    dims: int
    channels: int
    text_width: int
    widths: tuple[int, ...] = (32, 64, 96)
    hidden: int = 128


@dataclass(frozen=True, eq=False)
class Quality:
    """What the network says of a batch of images.

    Attributes:
        items: one number an item, float32 `(N, 2)`: the higher, the better; see `reaches`.
        artefact: logit of a corrupted image, float32 `(N,)`.
    """

    items: Tensor
    artefact: Tensor


class QualityNetwork(StoredNetwork):
    """Convolutions that a prompt scales and shifts, and a head that knows where features lie."""

    config: QualityConfig
    config_type = QualityConfig

    def __init__(self, config: QualityConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.dims, config.widths
        inputs = [config.channels + dims, *widths[:-1]]
        self.enter = nn.ModuleList(blocks.convolution(dims, a, b) for a, b in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(blocks.group_norm(width) for width in widths)
        self.prompt = nn.ModuleList(nn.Linear(config.text_width, 2 * width) for width in widths)
        self.stay = nn.ModuleList(blocks.convolution(dims, width, width) for width in widths)
        self.hidden = nn.Linear(widths[-1] * PLACES**dims + config.text_width, config.hidden)
        self.items = nn.Linear(config.hidden, len(ITEMS))
        # An artefact is one whatever was asked for, so that no prompt has a say in it.
        self.artefact = ArtefactHead(dims, config.channels, widths[:2])
        # Ordinal thresholds of each item: the first, and how far the second lies above it.
        self.first = nn.Parameter(torch.full((len(ITEMS),), -1.0))
        self.further = nn.Parameter(torch.zeros(len(ITEMS), LEVELS - 2))

    def forward(self, images: Tensor, prompts: Tensor) -> Quality:
        """Judge images.

        Args:
            images: `(N, C, *size)` in [-1, 1].
            prompts: vectors of their prompts, `(N, text_width)`.
        """
        x = blocks.channels_last(torch.cat([images, _coordinates(images)], dim=1))
        for enter, norm, prompt, stay in zip(self.enter, self.norms, self.prompt, self.stay, strict=True):
            # Not linear before the image is halved: the mean of a checkerboard is no checkerboard.
            x = blocks.downsample(F.silu(enter(x)))
            scale, shift = _spread(prompt(prompts), x).chunk(2, dim=1)
            x = x + stay(F.silu(norm(x) * (1 + scale) + shift))
        pool = F.adaptive_avg_pool3d if self.config.dims == 3 else F.adaptive_avg_pool2d
        found = torch.cat([pool(x, PLACES).flatten(1), prompts], dim=1)
        return Quality(self.items(F.silu(self.hidden(found))).float(), self.artefact(images).float())

    def thresholds(self) -> Tensor:
        """Rising thresholds float32 `(items, levels - 1)`."""
        steps = torch.cat([self.first[:, None], F.softplus(self.further)], dim=1)
        return steps.cumsum(1)

    def log_levels(self, items: Tensor) -> Tensor:
        """Log-probabilities of the levels of each item, `(N, items, levels)`, by cumulative logits (McCullagh 1980).

        Args:
            items: of `Quality`, shifted by what a rater's strictness takes off.
        """
        reaches = torch.sigmoid(items[..., None] - self.thresholds())
        ends = reaches.new_ones(*reaches.shape[:-1], 1)
        cumulative = torch.cat([ends, reaches, torch.zeros_like(ends)], dim=-1)
        return (cumulative[..., :-1] - cumulative[..., 1:]).clamp(min=1e-6).log()


class ArtefactHead(nn.Module):
    """From an image to the logit of a corruption: two convolutions at the image's own size, one at half of it."""

    def __init__(self, dims: int, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.fine = nn.ModuleList([blocks.convolution(dims, channels, first), blocks.convolution(dims, first, first)])
        self.coarse = blocks.convolution(dims, first, last)
        self.out = nn.Sequential(nn.Linear(first + last, last), nn.SiLU(), nn.Linear(last, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N,)` of images `(N, C, *size)` in [-1, 1]."""
        x = blocks.channels_last(images)
        for layer in self.fine:
            x = F.silu(layer(x))
        halved = F.silu(self.coarse(blocks.downsample(x)))
        logits: Tensor = self.out(torch.cat([x.flatten(2).mean(2), halved.flatten(2).mean(2)], dim=1))
        return logits[:, 0]


def rubric(log_levels: Tensor) -> Tensor:
    """Log-probabilities of the three-level rubric `(N, 3)` from those of realism and match `(N, 2, 3)`.

    1 is unacceptable, 2 acceptable but not what was asked for, 3 acceptable and a match.
    """
    probabilities = log_levels.exp()
    unacceptable = probabilities[:, 0, 0]
    matches = probabilities[:, 1, LEVELS - 1]
    acceptable = 1 - unacceptable
    levels = torch.stack([unacceptable, acceptable * (1 - matches), acceptable * matches], dim=1)
    return levels.clamp(min=1e-6).log()


def _coordinates(images: Tensor) -> Tensor:
    """The place of each pixel along each axis, -1 to 1: `(N, dims, *size)`."""
    size = images.shape[2:]
    axes = [torch.linspace(-1, 1, length, device=images.device, dtype=images.dtype) for length in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(images), len(size), *size)


def _spread(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(*vector.shape, *[1] * (like.ndim - 2))


def widths_for(size: Sequence[int]) -> tuple[int, ...]:
    """Feature channels for images of a size: halved until some 8 pixels are left along the shortest axis."""
    widths = [32, 64, 96, 128]
    halvings = max(1, min(len(widths), (min(size) // PLACES).bit_length() - 1))
    return tuple(widths[:halvings])
