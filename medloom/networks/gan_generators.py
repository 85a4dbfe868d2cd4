"""Networks that make an image in one step from noise, a mask and what is known about it, in two or three dimensions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from medloom.core.choices import FUSIONS
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.networks import blocks
from medloom.networks.denoiser import Level, UNet, UNetConfig
from medloom.networks.weights import load_network, save_network


@dataclass(frozen=True)
class ImageNetworkConfig:
    """Shape of a network.

    Attributes:
        kind: resnet or unet.
        dims: 2 or 3.
        inputs: channels of the input (noise).
        outputs: channels of the output (image).
        widths: feature channels of each resolution; each further one is half the size.
        blocks: residual blocks at the smallest resolution of a resnet.
        depth: residual blocks a resolution of a unet.
        attention: for each resolution, whether its blocks are followed by attention; a resnet has it at its last only.
        head_width: channels of an attention head.
        patch: pixels of each axis folded into channels first.
        fusion: how context reaches the network: cross-attention (the pooled vector as well), affine, or none.
        context_width: channels of context tokens (0: none).
        pooled_width: channels of the pooled vector (0: none).
        style_width: values of the noise vector that is joined to the pooled vector (0: none).
        spatial_channels: channels of the mask (0: none).
        spatial_fusion: join the mask on the channels of the input, or by SPADE in every block.
        region_styles: channels that pooled vector and noise vector fill, region by region of the mask; 0 for none.
        coordinates: tell each place where it lies in the image.
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
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS or self.fusion not in FUSIONS:
            raise UserError(
                f"network {self.kind!r} with fusion {self.fusion!r}: allowed are {', '.join(NETWORKS)};"
                f" {', '.join(FUSIONS)}."
            )

    @property
    def told_width(self) -> int:
        """Width of what scales and shifts features: pooled vector, where text is fused, and noise vector."""
        return (self.pooled_width if self.fusion != "none" else 0) + self.style_width

    @property
    def divisor(self) -> int:
        """Each spatial axis has to be a multiple of this."""
        return self.patch * 2 ** (len(self.widths) - 1)

    def as_unet(self) -> UNetConfig:
        """The U-Net of this shape.

        Its pooled vector is joined with the noise vector, which therefore scales and shifts where text does not.
        """
        fusion = self.fusion
        if fusion == "none" and self.told_width:
            fusion = "affine"
        return UNetConfig(
            dims=self.dims,
            channels=self.outputs,
            widths=self.widths,
            depth=self.depth,
            attention=self.attention,
            head_width=self.head_width,
            patch=self.patch,
            fusion=fusion,
            context_width=self.context_width,
            pooled_width=self.told_width,
            spatial_channels=self.spatial_channels,
            spatial_fusion=self.spatial_fusion,
            region_styles=self.region_styles if self.spatial_channels and self.told_width else 0,
            gradient_checkpointing=self.gradient_checkpointing,
            coordinates=self.coordinates,
        )


class ImageNetwork(nn.Module, ABC):
    """What the networks of `NETWORKS` have in common: noise, style, context, pooled vector and mask in, values out.

    Attributes:
        config: its shape.
    """

    config: ImageNetworkConfig

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        style: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        place: Tensor | None = None,
    ) -> Tensor:
        """Make values of any range.

        Args:
            x: `(N, inputs, *spatial)`, noise (or an image, for a network that reads one).
            style: `(N, style_width)`, noise of the image as a whole.
            context: `(N, L, D)` tokens (text, modality, table), for cross-attention.
            context_mask: bool `(N, L)`, true where a token counts.
            pooled: `(N, P)`, for affine scale and shift.
            spatial: `(N, S, *spatial)`, the mask's channels.
            place: `(N, axes, 2)`, where patches lie in their images; see `blocks.coordinates`.

        Returns:
            `(N, outputs, *spatial)`.
        """

    def told(self, style: Tensor | None, pooled: Tensor | None) -> Tensor | None:
        """Pooled vector and noise vector joined, `(N, told_width)`; None where there is neither."""
        known = pooled if self.config.fusion != "none" and self.config.pooled_width else None
        vectors = [vector for vector in (known, style) if vector is not None and vector.shape[1]]
        return torch.cat(vectors, dim=1) if vectors else None

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)


class UNetGenerator(ImageNetwork):
    """The denoisers' U-Net at a constant time: mask and noise have skip connections at every resolution."""

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
        place: Tensor | None = None,
    ) -> Tensor:
        """See ImageNetwork."""
        return self.unet(x, x.new_zeros(len(x)), context, context_mask, self.told(style, pooled), spatial, place)


class ResNetGenerator(ImageNetwork):
    """Halve the image, residual blocks at the smallest size, double it again (Johnson et al. 2016; CycleGAN's).

    Without skip connections: everything passes through the smallest size. Every block is scaled and shifted by pooled
    vector and noise (the affine units of DF-GAN, Tao et al. 2022), and by the mask where it comes by SPADE.
    """

    def __init__(self, config: ImageNetworkConfig) -> None:
        super().__init__()
        self.config = config
        # The blocks are the U-Net's own; what its config says of skips and times is not used.
        shape = config.as_unet()
        folds = config.patch**config.dims
        widths, embedding = config.widths, 4 * config.widths[0]
        # What every block hears where neither text nor noise is told.
        self.start = nn.Parameter(torch.zeros(embedding))
        self.embed = nn.Linear(config.told_width, embedding) if config.told_width else None
        self.styles = None
        if shape.region_styles:
            self.styles = blocks.RegionStyles(config.spatial_channels, config.told_width, shape.region_styles)
        joined = shape.map_channels if config.spatial_fusion == "channels" else 0
        places = config.dims if config.coordinates else 0
        self.input = blocks.convolution(config.dims, (config.inputs + joined) * folds + places, widths[0])
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(Level(shape, wide, deep, embedding, False) for wide, deep in steps)
        attends = config.attention[-1]
        self.bottom = nn.ModuleList(
            Level(shape, widths[-1], widths[-1], embedding, attends) for _ in range(config.blocks)
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
        place: Tensor | None = None,
    ) -> Tensor:
        """See ImageNetwork."""
        told = self.told(style, pooled)
        embedding = self.start.expand(len(x), -1)
        if self.embed is not None and told is not None:
            embedding = embedding + self.embed(told)
        if self.styles is not None and spatial is not None and told is not None:
            spatial = torch.cat([spatial, self.styles(spatial, told)], dim=1)
        features = self.input(self._folded(x, spatial, place))
        known = (embedding, context, context_mask, spatial)
        for level in _layers(self.down):
            features = self._call(level, blocks.downsample(features), *known)
        for level in _layers(self.bottom):
            features = self._call(level, features, *known)
        for level in _layers(self.up):
            features = self._call(level, blocks.upsample(features), *known)
        return blocks.channels_to_space(self.output(F.silu(self.norm(features))), self.config.patch)

    def _folded(self, x: Tensor, spatial: Tensor | None, place: Tensor | None) -> Tensor:
        config = self.config
        if spatial is not None and config.spatial_fusion == "channels":
            x = torch.cat([x, spatial], dim=1)
        folded = blocks.space_to_channels(x, config.patch)
        if config.coordinates:
            folded = torch.cat([folded, blocks.coordinates(folded, place)], dim=1)
        like = torch.channels_last if config.dims == 2 else torch.channels_last_3d
        return folded.contiguous(memory_format=like)

    def _call(self, level: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.config.gradient_checkpointing and self.training:
            return checkpoint(level, *inputs, use_reentrant=False)
        return level(*inputs)


NETWORKS: dict[str, Callable[[ImageNetworkConfig], ImageNetwork]] = {"resnet": ResNetGenerator, "unet": UNetGenerator}


def make_network(config: ImageNetworkConfig) -> ImageNetwork:
    """A network with fresh weights.

    Raises:
        UserError: an unknown kind.
    """
    return look_up(NETWORKS, config.kind, "network")(config)


def load_image_network(folder: Path) -> ImageNetwork:
    """Read what `save_pretrained` wrote."""
    return load_network(folder, ImageNetworkConfig, make_network)


def _layers(layers: nn.Module) -> Sequence[nn.Module]:
    return list(layers.children())
