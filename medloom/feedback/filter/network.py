"""The network of a filter: an image and its prompt to two ordinal items, realism and match, and an artefact."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.downstream.networks import NORM, ClassifierBlock
from medloom.networks import blocks
from medloom.networks.blocks import CONVOLUTION
from medloom.networks.weights import StoredNetwork

ITEMS = ("realism", "match")
LEVELS = 3
# Places along each axis over which features are averaged: sides and heights stay apart.
PLACES = 4
# Textures at each scale, and the energy below which there is none.
TEXTURES, QUIET = 12, 1e-4
# Of the comparison at the start.
SHARPNESS = 8.0


@dataclass(frozen=True)
class QualityConfig:
    """Shape of the network.

    Attributes:
        dims: 2 or 3.
        channels: of the images.
        text_width: of the prompts' vectors.
        widths: feature channels of each size.
        hidden: width of the features that know where they lie.
        joint: width of the space in which an image is compared with its prompt.
    """

    dims: int
    channels: int
    text_width: int
    widths: tuple[int, ...] = (32, 64, 96)
    hidden: int = 128
    joint: int = 64


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
    """Residual convolutions, features that know where they lie, and a comparison of the image with its prompt."""

    config: QualityConfig
    config_type = QualityConfig

    def __init__(self, config: QualityConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.dims, config.widths
        self.blocks = nn.Sequential(
            CONVOLUTION[dims](config.channels + dims, widths[0], 5, 2, 2, bias=False),
            NORM[dims](widths[0]),
            nn.ReLU(),
            *(ClassifierBlock(dims, before, after, 2) for before, after in pairwise(widths)),
        )
        places = widths[-1] * PLACES**dims
        self.hidden = nn.Sequential(nn.Linear(places, config.hidden), nn.LayerNorm(config.hidden), nn.SiLU())
        self.realism = nn.Linear(config.hidden, 1)
        self.of_image = nn.Linear(config.hidden, config.joint)
        self.of_prompt = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.joint))
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        # An artefact is one whatever was asked for, and wherever it lies.
        self.artefact = ArtefactHead(dims, config.channels)
        # Ordinal thresholds of each item: the first, and how far the second lies above it.
        self.first = nn.Parameter(torch.full((len(ITEMS),), -1.0))
        self.further = nn.Parameter(torch.zeros(len(ITEMS), LEVELS - 2))

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What images are compared with prompts by, unit vectors `(N, joint)`, and their realism `(N,)`.

        Args:
            images: `(N, C, *size)` in [-1, 1].
        """
        x = self.blocks(blocks.channels_last(torch.cat([images, _coordinates(images)], dim=1)))
        pool = F.adaptive_avg_pool3d if self.config.dims == 3 else F.adaptive_avg_pool2d
        hidden = self.hidden(pool(x, PLACES).flatten(1))
        return F.normalize(self.of_image(hidden).float(), dim=1), self.realism(hidden)[:, 0].float()

    def read(self, prompts: Tensor) -> Tensor:
        """Unit vectors `(N, joint)` of prompts `(N, text_width)`."""
        return F.normalize(self.of_prompt(prompts).float(), dim=1)

    def forward(self, images: Tensor, prompts: Tensor) -> Quality:
        """Judge images.

        Args:
            images: `(N, C, *size)` in [-1, 1].
            prompts: vectors of their prompts, `(N, text_width)`.
        """
        seen, realism = self.see(images)
        match = self.sharpness * (seen * self.read(prompts)).sum(1)
        return Quality(torch.stack([realism, match], dim=1), self.artefact(images))

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
    """From an image to the logit of a corruption, by how much of each texture there is at three scales."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        strides, widths = (1, 1, 2), (TEXTURES,) * 3
        inputs = [channels, *widths[:-1]]
        self.layers = nn.ModuleList(
            CONVOLUTION[dims](a, b, 3, stride, 1) for a, b, stride in zip(inputs, widths, strides, strict=True)
        )
        found = sum(widths)
        self.out = nn.Sequential(nn.BatchNorm1d(found), nn.Linear(found, 2 * found), nn.SiLU(), nn.Linear(2 * found, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 `(N,)` of images `(N, C, *size)` in [-1, 1]."""
        x, energies = blocks.channels_last(images), []
        for layer in self.layers:
            x = layer(x)
            # In the logarithm: twice the noise is as far from usual as half of it.
            energies.append((x.float().square().flatten(2).mean(2) + QUIET).log())
            x = F.silu(x)
        logits: Tensor = self.out(torch.cat(energies, dim=1))
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


def widths_for(size: Sequence[int]) -> tuple[int, ...]:
    """Feature channels for images of a size: halved until some 8 pixels are left along the shortest axis."""
    widths = [32, 64, 96, 128]
    halvings = max(1, min(len(widths), (min(size) // PLACES).bit_length() - 1))
    return tuple(widths[:halvings])
