"""The denoiser contract, and the N-D U-Net with every fusion for training from scratch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medloom.core.choices import FUSIONS, SPATIAL_FUSIONS
from medloom.core.errors import UserError
from medloom.networks import blocks
from medloom.networks.pixel_head import PixelHead
from medloom.networks.weights import load_network, save_network


class Denoiser(Protocol):
    """Predicts noise, velocity or flow from a noisy image, its time and what is known about it."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        place: Tensor | None = None,
    ) -> Tensor:
        """Predict for a batch.

        Args:
            x: `(N, C, *spatial)`, noisy image or latent.
            t: float `(N,)`, time in 0..1000.
            context: `(N, L, D)` tokens (text, modality, table), for cross-attention.
            context_mask: bool `(N, L)`, true where a token counts.
            pooled: `(N, P)`, for affine scale and shift.
            spatial: `(N, S, *spatial)` (mask, then prior), for channels or SPADE.
            place: `(N, axes, 2)`, where patches lie in their images; see `blocks.coordinates`.

        Returns:
            `(N, C, *spatial)`.
        """
        ...


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the U-Net.

    Attributes:
        dims: 2 or 3.
        channels: of the image or latent, in and out.
        widths: feature channels of each resolution; each further one is half the size.
        depth: residual blocks a resolution.
        attention: for each resolution, whether its blocks are followed by attention.
        head_width: channels of an attention head; 64 keeps the product of queries and keys efficient on a CPU.
        patch: pixels of each axis folded into channels first, so that small images in pixel space are affordable.
        fusion: how context reaches the network.
        context_width: channels of context tokens (0: none).
        pooled_width: channels of the pooled vector (0: none).
        spatial_channels: channels of a mask in the spatial condition (0: none).
        spatial_fusion: join these on the channels of the input, or by SPADE in every block.
        prior_channels: channels of an earlier image in the spatial condition, after those of the mask (0: none); they
            are joined on the channels of the input.
        region_styles: channels that the pooled vector fills, region by region of the spatial condition; 0 for none.
        region_slopes: whether these styles also grow along each axis, by which a side that is told finds its place.
        spatial_width: channels that the spatial condition and its styles are brought to, place by place, before all
            else, so that a mask of 100 classes is affordable; 0 leaves them as they are.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
        coordinates: tell each place where it lies in the image (Liu et al. 2018, CoordConv), so that left and right are
            learnt at once and not from the border inwards.
        pixel_width: hidden channels of a head at the image's own resolution, by which thin regions of the spatial
            condition reach the prediction unfolded; 0 for none.
    """

    dims: int = 2
    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 192)
    depth: int = 1
    attention: tuple[bool, ...] = (False, True, True)
    head_width: int = 64
    patch: int = 2
    fusion: str = "cross-attention"
    context_width: int = 0
    pooled_width: int = 0
    spatial_channels: int = 0
    spatial_fusion: str = "channels"
    prior_channels: int = 0
    region_styles: int = 0
    region_slopes: bool = False
    spatial_width: int = 0
    gradient_checkpointing: bool = False
    coordinates: bool = False
    pixel_width: int = 0

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS or self.spatial_fusion not in SPATIAL_FUSIONS:
            raise UserError(
                f"fusion {self.fusion!r} with spatial fusion {self.spatial_fusion!r} is not known; allowed:"
                f" {', '.join(FUSIONS)}; spatial: {', '.join(SPATIAL_FUSIONS)}."
            )
        if len(self.widths) != len(self.attention) or self.dims not in blocks.CONVOLUTION:
            raise UserError(
                f"U-Net with widths {self.widths}, attention {self.attention}, {self.dims} dimensions:"
                " give as many attention entries as widths, and 2 or 3 dimensions."
            )
        if self.region_styles and (self.fusion == "none" or not (self.spatial_channels and self.pooled_width)):
            raise UserError("styles of regions need a spatial condition, and a pooled vector that is fused.")
        if self.region_slopes and not self.region_styles:
            raise UserError("--network.region-slopes needs a mask, a fusion, and --network.region-styles above 0.")
        if self.spatial_width and not self.spatial_channels:
            raise UserError("a width of the spatial condition needs one.")
        attended = [width for width, attends in zip(self.widths, self.attention, strict=True) if attends]
        if uneven := [width for width in attended if width % max(1, width // self.head_width)]:
            raise UserError(
                f"--network.widths {uneven[0]} cannot be shared between heads of --network.head-width"
                f" {self.head_width}; give widths with attention that are multiples of it."
            )

    @property
    def map_channels(self) -> int:
        """Channels of the spatial condition and of the styles of its regions, as blocks see them."""
        return self.spatial_width if self.spatial_width else self.spatial_channels + self.region_styles

    @property
    def divisor(self) -> int:
        """Each spatial axis has to be a multiple of this."""
        return self.patch * 2 ** (len(self.widths) - 1)


class Level(nn.Module):
    """A residual block and, where asked, attention."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int, embedding: int, attention: bool) -> None:
        super().__init__()
        spade = config.map_channels if config.spatial_fusion == "spade" else 0
        context = config.context_width if config.fusion == "cross-attention" else 0
        self.block = blocks.ResidualBlock(config.dims, inputs, outputs, embedding, spade)
        self.attention = blocks.TransformerBlock(outputs, context, config.head_width) if attention else None

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor | None, mask: Tensor | None, spatial: Tensor | None
    ) -> Tensor:
        """`x` `(N, C, *size)` to `(N, C', *size)`."""
        x = self.block(x, embedding, spatial)
        return x if self.attention is None else self.attention(x, context, mask)


class UNet(nn.Module):
    """N-D U-Net (Ronneberger et al. 2015; Dhariwal and Nichol 2021) behind the Denoiser contract."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.dims, config.widths
        embedding = 4 * widths[0]
        folded = config.channels * config.patch**dims
        joined = config.prior_channels + (config.map_channels if config.spatial_fusion == "channels" else 0)
        self.time = nn.Sequential(nn.Linear(widths[0], embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        # With no fusion only time conditions the network; with the two others the pooled vector does as well.
        pooled = config.pooled_width if config.fusion != "none" else 0
        self.pooled = nn.Linear(pooled, embedding) if pooled else None
        styles, slopes = config.region_styles, dims if config.region_slopes else 0
        self.styles = blocks.RegionStyles(config.spatial_channels, pooled, styles, slopes) if styles else None
        given = config.spatial_channels + styles
        self.classes = blocks.convolution(dims, given, config.spatial_width, 1) if config.spatial_width else None
        places = dims if config.coordinates else 0
        self.input = blocks.convolution(dims, folded + joined * config.patch**dims + places, widths[0])
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        stack = self._build_down(embedding)
        top = widths[-1]
        self.middle = nn.ModuleList([Level(config, top, top, embedding, config.attention[-1])])
        self._build_up(stack, embedding)
        self.norm = blocks.group_norm(widths[0])
        self.output = blocks.convolution(dims, widths[0], folded, zero=True)
        self.head = self._build_head(embedding) if config.pixel_width else None

    def _build_head(self, embedding: int) -> PixelHead:
        config = self.config
        given = config.channels + config.map_channels + config.prior_channels
        given += config.dims if config.coordinates else 0
        hidden = config.pixel_width
        return PixelHead(config.dims, config.widths[0], config.patch, given, embedding, hidden, config.channels)

    def _build_down(self, embedding: int) -> list[int]:
        config = self.config
        current, stack = config.widths[0], [config.widths[0]]
        for width, attention in zip(config.widths, config.attention, strict=True):
            levels = nn.ModuleList()
            for _ in range(config.depth):
                levels.append(Level(config, current, width, embedding, attention))
                current = width
                stack.append(width)
            self.down.append(levels)
        return stack

    def _build_up(self, stack: list[int], embedding: int) -> None:
        config = self.config
        current = config.widths[-1]
        last = len(config.widths) - 1
        for index in range(last, -1, -1):
            levels = nn.ModuleList()
            # The first resolution also takes back what the input convolution gave.
            for _ in range(config.depth + (index == 0)):
                width = config.widths[index]
                levels.append(Level(config, current + stack.pop(), width, embedding, config.attention[index]))
                current = width
            self.up.append(levels)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        place: Tensor | None = None,
    ) -> Tensor:
        """See Denoiser."""
        config = self.config
        embedding = self.time(blocks.time_features(t, config.widths[0]).to(x.dtype))
        if self.pooled is not None and pooled is not None:
            embedding = embedding + self.pooled(pooled)
        spatial, prior = self._split(spatial)
        spatial = self._styled(spatial, pooled, place)
        given = blocks.joined(x, spatial if config.spatial_fusion == "channels" else None, prior)
        features = self.input(self._fold(given, place))
        features = self._run(features, embedding, context, context_mask, spatial)
        features = nn.functional.silu(self.norm(features))
        output = blocks.channels_to_space(self.output(features), config.patch)
        if self.head is None:
            return output
        return output + self.head(features, self._placed(blocks.joined(x, spatial, prior), place), embedding)

    def _split(self, spatial: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The mask's channels and the prior's."""
        if not self.config.prior_channels:
            return spatial, None
        if spatial is None:
            raise ValueError("this network was built with a prior image and got none")
        masked = self.config.spatial_channels
        return (spatial[:, :masked] if masked else None), spatial[:, masked:]

    def _styled(self, spatial: Tensor | None, pooled: Tensor | None, place: Tensor | None) -> Tensor | None:
        """The spatial condition with the styles of its regions beside it."""
        if not self.config.spatial_channels:
            return None
        if spatial is None:
            raise ValueError("this network was built with a spatial condition and got none")
        if self.styles is not None and pooled is not None:
            spatial = torch.cat([spatial, self.styles(spatial, pooled, place)], dim=1)
        return spatial if self.classes is None else self.classes(spatial)

    def _fold(self, x: Tensor, place: Tensor | None) -> Tensor:
        return blocks.channels_last(self._placed(blocks.space_to_channels(x, self.config.patch), place))

    def _placed(self, x: Tensor, place: Tensor | None) -> Tensor:
        """With the place of each element beside it, where the network is told."""
        return torch.cat([x, blocks.coordinates(x, place)], dim=1) if self.config.coordinates else x

    def _run(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        spatial: Tensor | None,
    ) -> Tensor:
        stack = [x]
        for index, levels in enumerate(self.down):
            x = blocks.downsample(x) if index else x
            for level in _levels(levels):
                x = self._call(level, x, embedding, context, mask, spatial)
                stack.append(x)
        for level in _levels(self.middle):
            x = self._call(level, x, embedding, context, mask, spatial)
        for index, levels in enumerate(self.up):
            x = blocks.upsample(x) if index else x
            for level in _levels(levels):
                x = self._call(level, torch.cat([x, stack.pop()], dim=1), embedding, context, mask, spatial)
        return x

    def _call(self, level: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.config.gradient_checkpointing and self.training:
            return checkpoint(level, *inputs, use_reentrant=False)
        return level(*inputs)

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "UNet":
        """Read what `save_pretrained` wrote."""
        return load_network(folder, UNetConfig, cls)


def _levels(levels: nn.Module) -> Sequence[nn.Module]:
    return list(levels.children())
