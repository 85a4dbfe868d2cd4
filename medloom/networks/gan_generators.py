"""One-step generators: from noise, a mask and a condition to an image, in two or three dimensions."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.choices import FUSIONS
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.networks import blocks
from medloom.networks.denoiser import Level, UNet, UNetConfig
from medloom.networks.regions import RegionStyles
from medloom.networks.weights import StoredNetwork, load_network


@dataclass(frozen=True)
class ImageNetworkConfig:
    """Shape of a generator.

    Attributes:
        kind: resnet or unet.
        dims: 2 or 3.
        inputs: channels of the input (noise).
        outputs: channels of the output (image).
        widths: feature channels per resolution; each further resolution halves the size.
        blocks: residual blocks at the smallest resolution of a resnet.
        depth: residual blocks per resolution of a unet.
        attention: for each resolution, whether attention follows its blocks; a resnet uses the last entry only.
        head_width: channels of an attention head.
        patch: pixels per axis that are folded into channels first.
        fusion: how context reaches the network: cross-attention (with the pooled vector), affine, or none.
        context_width: channels of context tokens (0: none).
        pooled_width: channels of the pooled vector (0: none).
        style_width: length of the noise vector that is joined to the pooled vector (0: none).
        spatial_channels: channels of the mask (0: none).
        spatial_fusion: join the mask to the channels of the input, or modulate every block by SPADE.
        region_styles: channels that the modulation vector fills in each region of the mask; 0 for none.
        coordinates: add the coordinates of each position as channels.
        padding: add the part of each position that lies in the image, not in padding, as a channel.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    kind: str = "resnet"
    dims: int = 2
    inputs: int = 1
    outputs: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 6
    depth: int = 1
    attention: tuple[bool, ...] = (False, False, True)
    head_width: int = 64
    patch: int = 1
    fusion: str = "affine"
    context_width: int = 0
    pooled_width: int = 0
    style_width: int = 0
    spatial_channels: int = 0
    spatial_fusion: str = "channels"
    region_styles: int = 0
    coordinates: bool = False
    padding: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS or self.fusion not in FUSIONS:
            raise UserError(
                f"network {self.kind!r} with fusion {self.fusion!r}: allowed are {', '.join(NETWORKS)};"
                f" {', '.join(FUSIONS)}."
            )

    @property
    def modulation_width(self) -> int:
        """Width of the vector that scales and shifts features: the pooled vector, if fused, and the noise vector."""
        return (self.pooled_width if self.fusion != "none" else 0) + self.style_width

    @property
    def divisor(self) -> int:
        """Each spatial axis must be a multiple of this."""
        return int(self.patch * 2 ** (len(self.widths) - 1))

    def as_unet(self) -> UNetConfig:
        """The U-Net of this shape; its pooled vector is the modulation vector, which includes the noise vector."""
        modulated = self.modulation_width > 0
        return UNetConfig(
            dims=self.dims,
            channels=self.outputs,
            widths=self.widths,
            depth=self.depth,
            attention=self.attention,
            head_width=self.head_width,
            patch=self.patch,
            fusion="affine" if self.fusion == "none" and modulated else self.fusion,
            context_width=self.context_width,
            pooled_width=self.modulation_width,
            spatial_channels=self.spatial_channels,
            spatial_fusion=self.spatial_fusion,
            region_styles=self.region_styles if self.spatial_channels and modulated else 0,
            gradient_checkpointing=self.gradient_checkpointing,
            coordinates=self.coordinates,
            padding=self.padding,
        )


class ImageNetwork(StoredNetwork, ABC):
    """The interface of the networks in `NETWORKS`: from noise, style, context, pooled vector and mask to an image.

    Attributes:
        config: its shape.
    """

    config: ImageNetworkConfig
    config_type = ImageNetworkConfig

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        style: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """Generate values of any range.

        Args:
            x: `(N, inputs, *spatial)`, noise (or an image, for a network that reads one).
            style: `(N, style_width)`, noise for the image as a whole.
            context: `(N, L, D)` tokens (text, modality, table), for cross-attention.
            context_mask: bool `(N, L)`, true for valid tokens.
            pooled: `(N, P)`, for affine scale and shift.
            spatial: `(N, S, *spatial)`, the mask's channels.
            position: `(N, axes, 2)`, the positions of patches in their images; see `blocks.coordinates`.

        Returns:
            `(N, outputs, *spatial)`.
        """

    def modulation(self, style: Tensor | None, pooled: Tensor | None) -> Tensor | None:
        """Pooled vector and noise vector joined, `(N, modulation_width)`; None without either."""
        known = pooled if self.config.fusion != "none" and self.config.pooled_width else None
        vectors = [vector for vector in (known, style) if vector is not None and vector.shape[1]]
        return torch.cat(vectors, dim=1) if vectors else None


class UNetGenerator(ImageNetwork):
    """The denoisers' U-Net at a constant time, with skip connections for mask and noise at every resolution."""

    def __init__(self, config: ImageNetworkConfig) -> None:
        super().__init__()
        if config.inputs != config.outputs:
            raise ValueError("a U-Net has as many channels in as out")
        self.config = config
        self.unet = UNet(config.as_unet())

    def forward(
        self,
        x: Tensor,
        style: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """See ImageNetwork."""
        x = self.unet(x, x.new_zeros(len(x)), context, context_mask, self.modulation(style, pooled), spatial, position)
        return x


class ResNetGenerator(ImageNetwork):
    """Downsampling, residual blocks at the smallest size, and upsampling (Johnson et al. 2016; as in CycleGAN).

    There are no skip connections: everything passes through the smallest size. The pooled vector and the noise vector
    scale and shift every block (the affine units of DF-GAN, Tao et al. 2022), and so does the mask with SPADE.
    """

    def __init__(self, config: ImageNetworkConfig) -> None:
        super().__init__()
        self.config = config
        # The blocks are those of the U-Net; its skip connections and times are not used.
        shape = config.as_unet()
        folds = config.patch**config.dims
        widths, embedding = config.widths, 4 * config.widths[0]
        # The embedding without a modulation vector.
        self.start = nn.Parameter(torch.zeros(embedding))
        vector = config.modulation_width
        self.embed = nn.Linear(vector, embedding) if vector else None
        styles = shape.region_styles
        self.styles = RegionStyles(config.spatial_channels, vector, styles) if styles else None
        joined = shape.map_channels if config.spatial_fusion == "channels" else 0
        given = (config.inputs + joined) * folds + shape.position_channels
        self.input = blocks.convolution(config.dims, given, widths[0])
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(Level(shape, wide, deep, embedding, False) for wide, deep in steps)
        self.bottom = nn.ModuleList(
            Level(shape, widths[-1], widths[-1], embedding, config.attention[-1]) for _ in range(config.blocks)
        )
        self.up = nn.ModuleList(Level(shape, deep, wide, embedding, False) for wide, deep in reversed(steps))
        self.norm = blocks.group_norm(widths[0])
        self.output = blocks.convolution(config.dims, widths[0], config.outputs * folds, zero=True)

    def forward(
        self,
        x: Tensor,
        style: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """See ImageNetwork."""
        config, vector = self.config, self.modulation(style, pooled)
        embedding = self.start.expand(len(x), -1)
        if self.embed is not None and vector is not None:
            embedding = embedding + self.embed(vector)
        if self.styles is not None and spatial is not None and vector is not None:
            spatial = torch.cat([spatial, self.styles(spatial, vector)], dim=1)
        joined = blocks.joined(x, spatial if config.spatial_fusion == "channels" else None)
        folded = blocks.space_to_channels(joined, config.patch)
        coordinates = blocks.coordinates(folded, position) if config.coordinates else None
        contained = blocks.contained(folded, position) if config.padding else None
        features = self.input(blocks.channels_last(blocks.joined(folded, coordinates, contained)))
        known = (embedding, context, context_mask, spatial)
        checkpointed = config.gradient_checkpointing and self.training
        for level in self.down:
            features = blocks.run_layer(level, checkpointed, blocks.downsample(features), *known)
        for level in self.bottom:
            features = blocks.run_layer(level, checkpointed, features, *known)
        for level in self.up:
            features = blocks.run_layer(level, checkpointed, blocks.upsample(features), *known)
        return blocks.channels_to_space(self.output(F.silu(self.norm(features))), config.patch)


NETWORKS: dict[str, Callable[[ImageNetworkConfig], ImageNetwork]] = {"resnet": ResNetGenerator, "unet": UNetGenerator}


def make_network(config: ImageNetworkConfig) -> ImageNetwork:
    """Create a network with fresh weights.

    Raises:
        UserError: an unknown kind.
    """
    return look_up(NETWORKS, config.kind, "network")(config)


def load_image_network(folder: Path) -> ImageNetwork:
    """Read what `save_pretrained` wrote."""
    return load_network(folder, ImageNetworkConfig, make_network)
