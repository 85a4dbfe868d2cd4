"""Building blocks of the N-D networks: convolution, normalisation, time embedding, residual and attention blocks."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Network = TypeVar("Network", bound=nn.Module)

# Up to this number of keys, attention on a CPU is faster in single precision.
SHORT = 256


class Conv3d(nn.Conv3d):
    """A 3-D convolution whose bfloat16 gradient is also correct on a CPU.

    If the first axis is shorter than the kernel (2 voxels, kernel 3), oneDNN's weight gradient reads uninitialised
    memory, and with larger kernels writes out of bounds (PyTorch 2.13, AVX-512): it is wrong or nan. Such small volumes
    are convolved in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See nn.Conv3d."""
        if x.device.type != "cpu" or not 1 < x.shape[2] < self.kernel_size[0]:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


CONVOLUTION = {2: nn.Conv2d, 3: Conv3d}


def with_right_gradients(network: nn.Module) -> nn.Module:
    """Turn the 3-D convolutions of a library's network into `Conv3d`, in place."""
    for layer in network.modules():
        if type(layer) is nn.Conv3d:
            # The classes differ in a method, not in their weights.
            layer.__class__ = Conv3d
    return network


# The smallest size of a band: below it an image is flat.
SILENT = 1e-4


def zeroed(layer: nn.Module) -> nn.Module:
    """A layer with its weights set to zero, so that a branch starts silent."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def convolution(dims: int, inputs: int, outputs: int, kernel: int = 3, *, zero: bool = False) -> nn.Module:
    """A same-size convolution in `dims` dimensions; `zero` initialises it to zero, so that a branch starts silent."""
    layer = CONVOLUTION[dims](inputs, outputs, kernel, padding=kernel // 2)
    return zeroed(layer) if zero else layer


class GroupNorm(nn.GroupNorm):
    """Group normalisation in single precision, whatever the precision of the rest.

    Autocast does the same on a GPU. On a CPU, bfloat16 with channels last takes four times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, *spatial)`, float32 out."""
        return super().forward(x.float())


class PlaceNorm(nn.LayerNorm):
    """Normalisation of the channels of each place by themselves, in single precision.

    Statistics over an image carry what changes in one region to all others.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, *spatial)`, float32 out."""
        return super().forward(x.float().movedim(1, -1)).movedim(-1, 1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups of at least 4 channels."""
    groups = next(n for n in (32, 16, 8, 4, 2, 1) if channels % n == 0 and channels // n >= min(4, channels))
    return GroupNorm(groups, channels)


def time_features(time: Tensor, width: int) -> Tensor:
    """Sinusoidal features of a time in 0..1000 (Vaswani et al. 2017, section 3.5).

    Args:
        time: float `(N,)`.
        width: number of features, even.

    Returns:
        float32 `(N, width)`.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=time.device, dtype=torch.float32) / half)
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def space_to_channels(x: Tensor, factor: int) -> Tensor:
    """Fold blocks of `factor` pixels along each spatial axis into channels: `(N, C, *S)` to `(N, C f^d, *S/f)`."""
    if factor == 1:
        return x
    n, c, *size = x.shape
    dims = len(size)
    split = [part for length in size for part in (length // factor, factor)]
    axes = [0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
    return x.reshape(n, c, *split).permute(axes).reshape(n, c * factor**dims, *(length // factor for length in size))


def channels_to_space(x: Tensor, factor: int) -> Tensor:
    """The inverse of `space_to_channels`."""
    if factor == 1:
        return x
    n, c, *size = x.shape
    dims = len(size)
    channels = c // factor**dims
    axes = [0, 1, *(axis for k in range(dims) for axis in (2 + dims + k, 2 + k))]
    unfolded = x.reshape(n, channels, *([factor] * dims), *size).permute(axes)
    return unfolded.reshape(n, channels, *(length * factor for length in size))


def averaged(x: Tensor, factor: int) -> Tensor:
    """The mean over blocks of `factor` pixels along each axis: `(N, C, *S)` to `(N, C, *S/f)`."""
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    return x if factor == 1 else pool(x, factor)


def joined(*parts: Tensor | None) -> Tensor:
    """Concatenate those parts `(N, C, *size)` that are not None along the channels."""
    return torch.cat([part for part in parts if part is not None], dim=1)


def channels_last(x: Tensor) -> Tensor:
    """The same values with channels last in memory, which is faster to convolve."""
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def with_fast_layout(network: Network, dims: int) -> Network:
    """A network with its weights as its convolutions are fastest, on a CPU and on a GPU: in 2-D with channels last."""
    return network.to(memory_format=torch.channels_last) if dims == 2 else network  # type: ignore[call-overload]


def downsample(x: Tensor) -> Tensor:
    """Halve each spatial axis by averaging 2 pixels."""
    return averaged(x, 2)


def octave_bands(x: Tensor, count: int, *, faint: bool = False) -> Tensor:
    """The finest octave bands of an image, each divided by its own root mean square: `(N, count C, *spatial)`, float32.

    A band is the difference of two blurs, by the binomial kernel at doubling distances (Burt and Adelson 1983, without
    halving the size). Fine texture is a small part of an image's values: in bfloat16, or beside coarse structure,
    little of it would be left.

    Args:
        x: `(N, C, *spatial)`.
        count: of bands, from the finest.
        faint: append each band, `(N, 2 count C, *spatial)` in all, in units of the median of its absolute values, which
            edges do not raise as they raise the root mean square: near the data it is the noise of smooth areas. What
            is much larger counts by its logarithm (asinh).
    """
    bands, small = [], []
    with torch.autocast(x.device.type, enabled=False):
        finer = x.float()
        for level in range(count):
            coarser = _blurred(finer, 2**level)
            band, finer = finer - coarser, coarser
            flat = band.flatten(1)
            bands.append(_in_units(band, flat.square().mean(1).sqrt()))
            if faint:
                small.append(_in_units(band, flat.abs().median(1).values).asinh())
        return torch.cat([*bands, *small], dim=1)


def _in_units(band: Tensor, size: Tensor) -> Tensor:
    return band / size.clamp(min=SILENT).view(-1, *[1] * (band.ndim - 1))


def _blurred(x: Tensor, distance: int) -> Tensor:
    """Along each spatial axis a quarter of each neighbour at a distance and half of the element; edges are repeated."""
    for axis in range(2, x.ndim):
        ends = [0, 0] * (x.ndim - 1 - axis) + [distance, distance]
        padded, size = F.pad(x, [*ends, *[0, 0] * (axis - 2)], mode="replicate"), x.shape[axis]
        before, here, after = (padded.narrow(axis, place * distance, size) for place in range(3))
        x = (before + after) / 4 + here / 2
    return x


def upsample(x: Tensor) -> Tensor:
    """Double each spatial axis by repeating pixels."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Affine(nn.Module):
    """Scale and shift channels by a pooled vector, zero-initialised (FiLM; the affine units of DF-GAN)."""

    def __init__(self, pooled: int, channels: int) -> None:
        super().__init__()
        self.projection = zeroed(nn.Linear(pooled, 2 * channels))

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """`x` `(N, C, *spatial)`, `pooled` `(N, P)`."""
        scale, shift = self.projection(F.silu(pooled)).reshape(len(x), 2, x.shape[1], *[1] * (x.ndim - 2)).unbind(1)
        return torch.add(x * (1 + scale), shift)


class Spade(nn.Module):
    """Scale and shift features by a map at the block's resolution (SPADE, Park et al. 2019), zero-initialised."""

    def __init__(self, dims: int, map_channels: int, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.shared = convolution(dims, map_channels, hidden)
        self.projection = convolution(dims, hidden, 2 * channels, zero=True)

    def forward(self, x: Tensor, spatial: Tensor) -> Tensor:
        """`x` `(N, C, *size)`, `spatial` `(N, M, *any size)`."""
        resized = F.interpolate(spatial, size=x.shape[2:], mode="nearest")
        scale, shift = self.projection(F.silu(self.shared(resized))).chunk(2, dim=1)
        return torch.add(x * (1 + scale), shift)


def coordinates(x: Tensor, position: Tensor | None = None) -> Tensor:
    """The position of each element along each axis, -1 to 1: `(N, axes, *spatial)`.

    Args:
        x: `(N, C, *spatial)`.
        position: `(N, axes, 2)`, the first and last edge of a patch within its whole image, where the image's edges are
            at -1 and 1; the centres of elements count. None for whole images: the first element is -1, the last 1.
    """
    if position is None:
        axes = [torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) for size in x.shape[2:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(x), -1, *x.shape[2:])
    position, found = position.to(x.dtype), []
    for axis, size in enumerate(x.shape[2:]):
        fraction = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size
        low, high = position[:, axis, :1], position[:, axis, 1:]
        shape = [len(x), *[1] * axis, size, *[1] * (x.ndim - 3 - axis)]
        found.append((low + (high - low) * fraction).view(shape).expand(len(x), *x.shape[2:]))
    return torch.stack(found, dim=1)


def contained(x: Tensor, position: Tensor | None = None) -> Tensor:
    """The part of each element that lies in the image, 0 to 1; the rest lies in padding: `(N, 1, *spatial)`.

    Args:
        x: `(N, C, *spatial)`.
        position: as in `coordinates`; None for images without padding.
    """
    parts = torch.ones(len(x), 1, *x.shape[2:], device=x.device)
    if position is None:
        return parts.to(x.dtype)
    for axis, size in enumerate(x.shape[2:]):
        low, high = position[:, axis, :1].float(), position[:, axis, 1:].float()
        ends = low + (high - low) * torch.arange(size + 1, device=x.device) / size
        inside = ends.clamp(-1, 1).diff() * size / (high - low)
        parts = parts * inside.view(len(x), 1, *[1] * axis, size, *[1] * (x.ndim - 3 - axis))
    return parts.to(x.dtype)


class ResidualBlock(nn.Module):
    """Normalise and convolve, twice; the pooled vector, and optionally a map, modulate the second normalisation."""

    def __init__(
        self, dims: int, inputs: int, outputs: int, pooled: int, map_channels: int = 0, by_place: bool = False
    ) -> None:
        """Make a block with fresh weights; `by_place` normalises as in `PlaceNorm`."""
        super().__init__()
        norm = PlaceNorm if by_place else group_norm
        self.norm1 = norm(inputs)
        self.conv1 = convolution(dims, inputs, outputs)
        self.norm2 = norm(outputs)
        self.affine = Affine(pooled, outputs)
        self.spade = Spade(dims, map_channels, outputs) if map_channels else None
        self.conv2 = convolution(dims, outputs, outputs, zero=True)
        self.skip = convolution(dims, inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, pooled: Tensor, spatial: Tensor | None) -> Tensor:
        """`x` `(N, C, *size)` to `(N, C', *size)`."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.affine(self.norm2(h), pooled)
        if self.spade is not None and spatial is not None:
            h = self.spade(h, spatial)
        return torch.add(self.skip(x), self.conv2(F.silu(h)))


class Attention(nn.Module):
    """Multi-head attention (scaled dot product) of tokens to each other, or to context tokens under a mask."""

    def __init__(self, width: int, context: int, head_width: int) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context, 2 * width, bias=False)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` `(N, L, W)`, `context` `(N, K, C)`, `mask` bool `(N, K)`, true for valid context tokens."""
        n, length, width = x.shape
        query = self.query(x).reshape(n, length, self.heads, -1).transpose(1, 2)
        key, value = self.key_value(context).reshape(n, context.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = None if mask is None else mask[:, None, None, :]
        if query.device.type != "cpu" or key.shape[2] > SHORT:
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            with torch.autocast("cpu", enabled=False):
                attended = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=bias)
        x = self.out(attended.transpose(1, 2).reshape(n, length, width))
        return x


class TransformerBlock(nn.Module):
    """Self-attention over positions, cross-attention to context tokens, and a two-layer network; all residual."""

    def __init__(self, width: int, context: int, head_width: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, width, head_width)
        self.norm2 = nn.LayerNorm(width) if context else None
        self.cross_attention = Attention(width, context, head_width) if context else None
        self.norm3 = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """`x` `(N, C, *size)` to the same shape."""
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.norm1(tokens)
        tokens = tokens + self.self_attention(normed, normed)
        if self.cross_attention is not None and self.norm2 is not None and context is not None:
            tokens = tokens + self.cross_attention(self.norm2(tokens), context, mask)
        return torch.add(tokens, self.network(self.norm3(tokens))).transpose(1, 2).reshape(x.shape)


def run_layer(layer: nn.Module, checkpointed: bool, *inputs: Tensor | None) -> Tensor:
    """The output of a layer; `checkpointed` computes its activations again in the backward pass to save memory."""
    output: Tensor = checkpoint(layer, *inputs, use_reentrant=False) if checkpointed else layer(*inputs)
    return output
