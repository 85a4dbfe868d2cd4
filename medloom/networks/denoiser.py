"""The denoiser contract, and the N-D U-Net with every fusion for training from scratch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.choices import FUSIONS, SPATIAL_FUSIONS
from medloom.core.errors import UserError
from medloom.networks import blocks
from medloom.networks.regions import RegionStyles, by_region
from medloom.networks.weights import StoredNetwork

# Channels per pixel that the network passes to its pixel head.
DETAIL = 4


class Denoiser(Protocol):
    """Predicts noise, velocity or flow from a noisy image, its time and its condition."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """Predict for a batch.

        Args:
            x: `(N, C, *spatial)`, noisy image or latent.
            t: float `(N,)`, time in 0..1000.
            context: `(N, L, D)` tokens (text, modality, table), for cross-attention.
            context_mask: bool `(N, L)`, true for valid tokens.
            pooled: `(N, P)`, for affine scale and shift.
            spatial: `(N, S, *spatial)` (mask, then prior image), for channels or SPADE.
            position: `(N, axes, 2)`, the positions of patches in their images; see `blocks.coordinates`.

        Returns:
            `(N, C, *spatial)`.
        """


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the U-Net.

    Attributes:
        dims: 2 or 3.
        channels: of the image or latent, in and out.
        widths: feature channels per resolution; each further resolution halves the size.
        depth: residual blocks per resolution.
        attention: for each resolution, whether attention follows its blocks.
        head_width: channels of an attention head; 64 keeps the product of queries and keys efficient on a CPU.
        patch: pixels per axis that are folded into channels first, which makes small images in pixel space affordable.
        fusion: how context reaches the network.
        context_width: channels of context tokens (0: none).
        pooled_width: channels of the pooled vector (0: none).
        spatial_channels: channels of the mask in the spatial condition (0: none).
        spatial_fusion: join the mask to the channels of the input, or modulate every block by SPADE.
        prior_channels: channels of the prior image in the spatial condition, after those of the mask (0: none); they
            are joined to the channels of the input.
        region_styles: channels that the pooled vector fills in each region of the spatial condition; 0 for none.
        region_outputs: whether the last layers have weights of their own for each region of the mask.
        styles_only: whether the pooled vector reaches the image through these styles alone, and not every block;
            layers are then normalised place by place, because statistics over the image would carry styles everywhere.
        region_slopes: whether these styles also vary along each axis, so that a side named in the text finds its half.
        spatial_width: channels to which a convolution of kernel 1 first projects the spatial condition and its styles,
            which makes a mask of 100 classes affordable; 0 for no projection.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
        coordinates: add the coordinates of each position as channels (Liu et al. 2018, CoordConv), so that the network
            need not learn left and right from the border inwards.
        padding: add the part of each position that lies in the image, not in padding, as a channel.
        pixel_width: hidden channels of a head at the image's own resolution, which sees thin regions of the spatial
            condition unfolded; 0 for none.
        pixel_bands: octave bands of the noisy image that this head is given as well, or the network's input where there
            is no head; 0 for none.
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
    region_outputs: bool = False
    styles_only: bool = False
    spatial_width: int = 0
    gradient_checkpointing: bool = False
    coordinates: bool = False
    padding: bool = False
    pixel_width: int = 0
    pixel_bands: int = 0

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS or self.spatial_fusion not in SPATIAL_FUSIONS:
            raise UserError(
                f"fusion {self.fusion!r} with spatial fusion {self.spatial_fusion!r} is not known; allowed:"
                f" {', '.join(FUSIONS)}; spatial: {', '.join(SPATIAL_FUSIONS)}."
            )
        if len(self.widths) != len(self.attention) or self.dims not in blocks.CONVOLUTION:
            raise UserError(
                f"the settings network.widths {self.widths} and network.attention {self.attention} of a network of"
                f" {self.dims} dimensions: give as many entries of attention as widths, and 2 or 3 dimensions."
            )
        if self.region_styles and (self.fusion == "none" or not (self.spatial_channels and self.pooled_width)):
            raise UserError("region styles need a spatial condition and a pooled vector that is fused.")
        for name in ("region_slopes", "styles_only"):
            if getattr(self, name) and not self.region_styles:
                raise UserError(f"network.{name} needs a mask, a fusion, and network.region_styles above 0.")
        if self.styles_only and self.fusion == "cross-attention":
            raise UserError("network.styles_only goes with network.fusion affine: tokens of a text reach every place.")
        if self.region_outputs and (not self.spatial_channels or self.spatial_width):
            raise UserError(
                "network.region_outputs needs a mask, and is for few classes: set it to false, or hide classes with"
                " --hide-classes."
            )
        if self.spatial_width and not self.spatial_channels:
            raise UserError("spatial_width needs a spatial condition.")
        attended = [width for width, attends in zip(self.widths, self.attention, strict=True) if attends]
        if uneven := [width for width in attended if width % max(1, width // self.head_width)]:
            raise UserError(
                f"the setting network.widths: {uneven[0]} cannot be divided among heads of network.head_width"
                f" {self.head_width}; where there is attention, give multiples of it."
            )

    @property
    def map_channels(self) -> int:
        """Channels of the spatial condition with its region styles, as seen by the blocks."""
        return self.spatial_width if self.spatial_width else self.spatial_channels + self.region_styles

    @property
    def averages_styles(self) -> bool:
        """Whether styles are averaged over folded pixels, and not folded: a head sees them at each pixel."""
        unprojected = self.spatial_fusion == "channels" and not self.spatial_width
        return bool(self.region_styles and self.pixel_width and unprojected)

    @property
    def input_bands(self) -> int:
        """Octave bands that the input is given, on two scales: without a head nothing else would see them."""
        return 0 if self.pixel_width else 2 * self.pixel_bands

    @property
    def outputs(self) -> int:
        """Images that the last layers give: one, or one for no region and one for each."""
        return 1 + self.spatial_channels if self.region_outputs else 1

    @property
    def position_channels(self) -> int:
        """Channels that say where each position lies."""
        return (self.dims if self.coordinates else 0) + self.padding

    @property
    def divisor(self) -> int:
        """Each spatial axis must be a multiple of this."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


class Level(nn.Module):
    """A residual block and, optionally, attention."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int, embedding: int, attention: bool) -> None:
        super().__init__()
        spade = config.map_channels if config.spatial_fusion == "spade" else 0
        context = config.context_width if config.fusion == "cross-attention" else 0
        self.block = blocks.ResidualBlock(config.dims, inputs, outputs, embedding, spade, config.styles_only)
        self.attention = blocks.TransformerBlock(outputs, context, config.head_width) if attention else None

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor | None, mask: Tensor | None, spatial: Tensor | None
    ) -> Tensor:
        """`x` `(N, C, *size)` to `(N, C', *size)`."""
        x = self.block(x, embedding, spatial)
        if self.attention is not None:
            x = self.attention(x, context, mask)
        return x


class PixelHead(nn.Module):
    """Combines the network's features with the noisy image and the spatial condition at full resolution.

    A network on folded pixels has to carry, say, 4 x 4 pixels, their mask and their region styles through its few
    channels: thin regions such as bone come out blurred, and effects on them too small. The head sees them unfolded. It
    also sees the noisy image's finest octave bands, each at its own scale: near the data, noise is much smaller than
    the structures that it lies upon, and a network without them leaves it there. Whether a pixel is noise, texture or a
    vessel is seen in its neighbours, so two layers look at them. The last layer starts at zero.
    """

    def __init__(self, config: UNetConfig, pooled: int) -> None:
        """Make a head with fresh weights.

        Args:
            config: of the network.
            pooled: channels of the vector that modulates the head: time and condition.
        """
        super().__init__()
        self.patch = config.patch
        seen = DETAIL + config.channels * (1 + config.pixel_bands) + config.prior_channels
        self.detail = blocks.convolution(config.dims, config.widths[0], DETAIL * config.patch**config.dims)
        width = config.pixel_width
        self.mix = blocks.convolution(config.dims, seen, width)
        known = (config.spatial_width or config.spatial_channels) + config.position_channels
        self.place = blocks.convolution(config.dims, known, width, 1) if known else None
        styled = config.region_styles and not config.spatial_width
        axes = config.dims if config.region_slopes else 0
        self.styles = RegionStyles(config.spatial_channels, config.pooled_width, width, axes) if styled else None
        self.affine = blocks.Affine(pooled, width)
        self.refine = blocks.convolution(config.dims, width, width)
        self.refine_affine = blocks.Affine(pooled, width)
        outputs = config.channels * config.outputs
        self.output = blocks.convolution(config.dims, width, outputs, 1, zero=True)

    def forward(self, features: Tensor, seen: Tensor, where: Tensor | None, embedding: Tensor) -> Tensor:
        """From the network's features and what there is at the image's resolution.

        Args:
            features: `(N, W, *size / patch)`.
            seen: `(N, S, *size)`: noisy image, its bands, prior image.
            where: `(N, width, *size)`, see `at_places`.
            embedding: `(N, P)` of time and condition.

        Returns:
            `(N, outputs C, *size)`.
        """
        detail = blocks.channels_to_space(self.detail(features), self.patch)
        mixed = self.mix(blocks.channels_last(torch.cat([detail, seen.to(detail.dtype)], dim=1)))
        mixed = mixed if where is None else mixed + where
        hidden = F.silu(self.affine(mixed, embedding))
        hidden = hidden + F.silu(self.refine_affine(self.refine(hidden), embedding))
        output: Tensor = self.output(hidden)
        return output

    def at_places(
        self, places: Sequence[Tensor | None], mask: Tensor | None, pooled: Tensor | None, position: Tensor | None
    ) -> Tensor | None:
        """What mask, positions and the styles of regions add to the hidden channels: `(N, width, *size)`, if anything.

        Styles are a few numbers a region: adding them here is an affordable product, where channels of styles would be
        convolved.

        Args:
            places: the mask, perhaps projected, and channels of positions, each `(N, K, *size)` or None.
            mask: `(N, S, *size)`, whose regions have styles.
            pooled: `(N, P)`.
            position: see `blocks.coordinates`.
        """
        added = None if self.place is None else self.place(blocks.channels_last(blocks.joined(*places)))
        if self.styles is not None and mask is not None and pooled is not None:
            styles = self.styles(mask, pooled, position)
            added = styles if added is None else added + styles
        return added


class UNet(StoredNetwork):
    """N-D U-Net (Ronneberger et al. 2015; Dhariwal and Nichol 2021) that follows the Denoiser contract."""

    config: UNetConfig
    config_type = UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.dims, config.widths
        embedding = 4 * widths[0]
        folded = config.channels * config.patch**dims
        joined = config.prior_channels + (config.map_channels if config.spatial_fusion == "channels" else 0)
        averaged = config.region_styles if config.averages_styles else 0
        self.time = nn.Sequential(nn.Linear(widths[0], embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        # Without fusion only time conditions the network; otherwise the pooled vector does as well.
        pooled = config.pooled_width if config.fusion != "none" else 0
        self.pooled = nn.Linear(pooled, embedding) if pooled and not config.styles_only else None
        styles, slopes = config.region_styles, dims if config.region_slopes else 0
        self.styles = RegionStyles(config.spatial_channels, pooled, styles, slopes) if styles else None
        given = config.spatial_channels + styles
        self.classes = blocks.convolution(dims, given, config.spatial_width, 1) if config.spatial_width else None
        given = folded + (joined - averaged) * config.patch**dims + averaged + config.position_channels
        self.input = blocks.convolution(dims, given, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        current, stack = widths[0], [widths[0]]
        for width, attention in zip(widths, config.attention, strict=True):
            levels = nn.ModuleList()
            for _ in range(config.depth):
                levels.append(Level(config, current, width, embedding, attention))
                current = width
                stack.append(width)
            self.down.append(levels)
        self.middle = nn.ModuleList([Level(config, current, current, embedding, config.attention[-1])])
        for index, width in reversed(list(enumerate(widths))):
            levels = nn.ModuleList()
            # The first resolution also takes back the output of the input convolution.
            for _ in range(config.depth + (index == 0)):
                levels.append(Level(config, current + stack.pop(), width, embedding, config.attention[index]))
                current = width
            self.up.append(levels)
        self.norm = (blocks.PlaceNorm if config.styles_only else blocks.group_norm)(widths[0])
        self.output = blocks.convolution(dims, widths[0], folded * config.outputs, zero=True)
        self.head = PixelHead(config, embedding) if config.pixel_width else None
        # Bands start silent: at most levels they are noise, beside which masks would be learnt later.
        bands = folded * config.input_bands
        self.bands = blocks.convolution(dims, bands, widths[0], zero=True) if bands else None

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """See Denoiser."""
        config = self.config
        embedding = self.time(blocks.time_features(t, config.widths[0]).to(x.dtype))
        if self.pooled is not None and pooled is not None:
            embedding = embedding + self.pooled(pooled)
        # The mask's channels with the styles of its regions, and the prior image's channels.
        channels, prior = config.spatial_channels, None
        if spatial is None and (channels or config.prior_channels):
            raise ValueError("this network was built with a mask or a prior image and got none")
        if spatial is not None and config.prior_channels:
            spatial, prior = spatial[:, :channels], spatial[:, channels:]
        if not channels:
            spatial = None
        mask, known, styles = spatial, spatial, None
        if spatial is not None and self.styles is not None and pooled is not None:
            if config.averages_styles:
                styles = self.styles(blocks.averaged(spatial, config.patch), pooled, position)
            else:
                spatial = blocks.joined(spatial, self.styles(spatial, pooled, position))
        if spatial is not None and self.classes is not None:
            spatial = known = self.classes(spatial)
        bands = blocks.octave_bands(x, config.pixel_bands, faint=self.head is None) if config.pixel_bands else None
        joined = blocks.joined(x, spatial if config.spatial_fusion == "channels" else None, prior)
        folded = blocks.space_to_channels(joined, config.patch)
        features = self.input(blocks.channels_last(blocks.joined(folded, styles, *self._places(folded, position))))
        if self.bands is not None and bands is not None:
            features = features + self.bands(blocks.channels_last(blocks.space_to_channels(bands, config.patch)))
        given = (embedding, context, context_mask, spatial)
        checkpointed = config.gradient_checkpointing and self.training
        stack = [features]
        for index, levels in enumerate(self.down):
            features = blocks.downsample(features) if index else features
            for level in levels.children():
                features = blocks.run_layer(level, checkpointed, features, *given)
                stack.append(features)
        for level in self.middle:
            features = blocks.run_layer(level, checkpointed, features, *given)
        for index, levels in enumerate(self.up):
            features = blocks.upsample(features) if index else features
            for level in levels.children():
                features = blocks.run_layer(level, checkpointed, torch.cat([features, stack.pop()], dim=1), *given)
        features = F.silu(self.norm(features))
        regions = mask if config.region_outputs else None
        output = by_region(self.output(features), regions, config.patch)
        if self.head is not None:
            where = self.head.at_places([known, *self._places(x, position)], mask, pooled, position)
            made = self.head(features, blocks.joined(x, bands, prior), where, embedding)
            output = output + by_region(made, regions)
        return output

    def _places(self, x: Tensor, position: Tensor | None) -> list[Tensor]:
        """Channels on the grid of `x` that say where each element lies: its coordinates, its part in the image."""
        found = [blocks.coordinates(x, position)] if self.config.coordinates else []
        return [*found, blocks.contained(x, position)] if self.config.padding else found
