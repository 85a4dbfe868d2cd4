"""A transformer that predicts masked tokens of a grid, given text, table, mask, prior image and coarser tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.choices import FUSIONS
from medloom.core.errors import UserError
from medloom.networks import blocks
from medloom.networks.regions import RegionStyles
from medloom.networks.weights import StoredNetwork

# Kernel of each layer's convolution, in tokens.
LOCAL_KERNEL = 3
# Fraction of an initial embedding's standard deviation that is not shared with similar codes.
OWN = 0.5
TINY = 1e-6


@dataclass(frozen=True)
class TokenTransformerConfig:
    """Shape of the transformer.

    Attributes:
        codes: size of the codebook.
        grid: tokens along each axis, two or three of them.
        width: of the features.
        layers: number of layers, each of self-attention, cross-attention and a two-layer network.
        heads: of each attention.
        expansion: inner width of the two-layer network, in multiples of `width`.
        dropout: of features in training.
        fusion: how context reaches the network: cross-attention (with scale and shift by the pooled vector), affine
            (scale and shift only), or none.
        context_width: channels of context tokens.
        pooled_width: channels of the pooled vector.
        mask_channels: channels of a segmentation mask (0: none).
        prior: whether the network sees the tokens of a prior image.
        coarse_codes: number of codes of the coarser tokens that it sees (0: none).
        region_styles: whether the pooled vector fills the regions of the mask, or the whole grid without a mask, with
            values that also vary along each axis.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    codes: int
    grid: tuple[int, ...]
    width: int = 256
    layers: int = 6
    heads: int = 4
    expansion: int = 4
    dropout: float = 0.0
    fusion: str = "cross-attention"
    context_width: int = 0
    pooled_width: int = 0
    mask_channels: int = 0
    prior: bool = False
    coarse_codes: int = 0
    region_styles: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise UserError(f"fusion {self.fusion!r}: allowed are {', '.join(FUSIONS)}.")
        if self.width % self.heads:
            raise UserError(f"the setting network.width: {self.width} cannot be divided among {self.heads} heads.")


class TokenTransformer(StoredNetwork):
    """Predicts masked tokens (Chang et al. 2022, MaskGIT; Chang et al. 2023, Muse).

    Conditions on the image's grid (mask, prior image, coarser tokens) are added to the token at the same position, from
    where self-attention passes them on.
    """

    config: TokenTransformerConfig
    config_type = TokenTransformerConfig

    def __init__(self, config: TokenTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # The last embedding is that of masked tokens.
        self.tokens = nn.Embedding(config.codes + 1, width)
        self.positions = nn.ParameterList([nn.Parameter(torch.randn(length, width)) for length in config.grid])
        self.mask = nn.Linear(config.mask_channels, width) if config.mask_channels else None
        # The last embedding stands for an absent prior image.
        self.prior = nn.Embedding(config.codes + 1, width) if config.prior else None
        self.coarse = nn.Embedding(config.coarse_codes, width) if config.coarse_codes else None
        pooled = config.pooled_width if config.fusion != "none" else 0
        self.pooled = nn.Linear(pooled, width) if pooled else None
        regions, axes = config.mask_channels or 1, len(config.grid)
        self.styles = RegionStyles(regions, pooled, width, axes) if config.region_styles and pooled else None
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.codes)
        # Embeddings have a standard deviation of 1; a weaker mask would be drowned out by them.
        if self.mask is not None:
            nn.init.normal_(self.mask.weight)

    @property
    def length(self) -> int:
        """Tokens of a grid."""
        return math.prod(self.config.grid)

    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        mask: Tensor | None = None,
        prior: Tensor | None = None,
        coarse: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Predict logits.

        Args:
            tokens: int64 `(N, L)` in 0..codes; `codes` stands for a masked token.
            context: `(N, K, D)` tokens of text, modality and table.
            context_mask: bool `(N, K)`, true for valid context tokens.
            pooled: `(N, P)`.
            mask: channels of a segmentation mask `(N, S, *grid)`.
            prior: tokens of a prior image int64 `(N, L)`; `codes` stands for an absent one.
            coarse: coarser tokens int64 `(N, *coarse grid)`.
            wanted: bool `(N, L)`, the tokens whose logits to return; all by default.

        Returns:
            Logits `(N, L, codes)`, or `(M, codes)` of the wanted tokens.
        """
        grid = self.config.grid
        # The vector of a position is the sum of one vector per axis.
        positions = torch.zeros(*grid, self.config.width, device=self.positions[0].device)
        for axis, table in enumerate(self.positions):
            positions = positions + table.view(*[length if a == axis else 1 for a, length in enumerate(grid)], -1)
        x = self.tokens(tokens) + positions.flatten(0, len(grid) - 1)
        if self.mask is not None:
            x = x + self.mask(_given(mask, "a mask").flatten(2).transpose(1, 2).to(x.dtype))
        if self.prior is not None:
            x = x + self.prior(_given(prior, "a prior image"))
        if self.coarse is not None:
            embedded = self.coarse(_given(coarse, "coarser tokens")).movedim(-1, 1)
            x = x + F.interpolate(embedded, size=grid, mode="nearest").flatten(2).transpose(1, 2)
        if self.styles is not None and pooled is not None:
            # Without a mask the whole grid is one region.
            regions = x.new_ones(len(x), 1, *grid) if mask is None else mask.to(x.dtype)
            x = x + self.styles(regions, pooled).flatten(2).transpose(1, 2)
        modulation = F.silu(self.pooled(pooled)) if self.pooled is not None and pooled is not None else None
        for layer in self.layers:
            checkpointed = self.config.gradient_checkpointing and self.training
            x = blocks.run_layer(layer, checkpointed, x, context, context_mask, modulation)
        x = self.norm(x if wanted is None else x[wanted])
        logits: Tensor = self.head(x)
        return logits

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, coarse: Tensor | None = None) -> None:
        """Initialise embeddings and the head from the tokenizer's codes, so that similar codes start out similar.

        Otherwise the network would have to learn the appearance of every code separately. Part of each embedding stays
        random.

        Args:
            vectors: the codebook `(codes, channels)`.
            coarse: the codebook of the coarser tokens, if any.
        """
        for table in (self.tokens, self.prior, self.head):
            if table is not None:
                _start_alike(table.weight, vectors.float())
        if self.coarse is not None and coarse is not None:
            _start_alike(self.coarse.weight, coarse.float())

    def on_grid(self, config: TokenTransformerConfig) -> "TokenTransformer":
        """A copy on another grid; the vectors of its positions are interpolated.

        Args:
            config: may differ in grid, dropout and checkpointing only.
        """
        other = TokenTransformer(config)
        state = dict(self.state_dict())
        for axis, length in enumerate(config.grid):
            state[f"positions.{axis}"] = F.interpolate(state[f"positions.{axis}"].T[None], length, mode="linear")[0].T
        other.load_state_dict(state)
        return other


class _Layer(nn.Module):
    """Convolution, self-attention, cross-attention to the context, two-layer network; pre-norm, all residual."""

    def __init__(self, config: TokenTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.dropout = config.dropout
        self.local = Neighbours(width, config.grid)
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, config.heads)
        crossed = config.fusion == "cross-attention" and config.context_width > 0
        self.norm2 = nn.LayerNorm(width) if crossed else None
        self.cross = blocks.Attention(width, config.context_width, width // config.heads) if crossed else None
        self.norm3 = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, config.expansion * width), nn.GELU(), nn.Linear(config.expansion * width, width)
        )
        # Scale and shift of both norms by the pooled vector, zero-initialised (Peebles and Xie 2023).
        modulated = config.pooled_width and config.fusion != "none"
        self.affine = blocks.zeroed(nn.Linear(width, 4 * width)) if modulated else None

    def forward(
        self, x: Tensor, context: Tensor | None, context_mask: Tensor | None, modulation: Tensor | None
    ) -> Tensor:
        """`(N, L, W)` to the same."""
        x = x + self._dropped(self.local(x))
        changes: tuple[Tensor | None, ...] = (None,) * 4
        if self.affine is not None and modulation is not None:
            changes = self.affine(modulation)[:, None].chunk(4, dim=-1)
        x = x + self._dropped(self.attention(_changed(self.norm1(x), changes[0], changes[1])))
        if self.cross is not None and self.norm2 is not None and context is not None:
            x = x + self._dropped(self.cross(self.norm2(x), context.to(x.dtype), context_mask))
        return x + self._dropped(self.network(_changed(self.norm3(x), changes[2], changes[3])))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Neighbours(nn.Module):
    """A depthwise convolution over the grid (the local perception unit of CMT, Guo et al. 2022).

    A token depends on its neighbours. Attention has to learn this for each position and needs a long training for it.
    """

    def __init__(self, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.norm = nn.LayerNorm(width)
        self.convolution = blocks.CONVOLUTION[len(grid)](
            width, width, LOCAL_KERNEL, padding=LOCAL_KERNEL // 2, groups=width
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, L, W)` to the same."""
        on_grid = self.norm(x).transpose(1, 2).unflatten(2, self.grid)
        output: Tensor = self.convolution(on_grid).flatten(2).transpose(1, 2)
        return output


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other (scaled dot product)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, L, W)` to the same."""
        n, length, width = x.shape
        query, key, value = self.projection(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.out(attended.transpose(1, 2).reshape(n, length, width))
        return output


def _start_alike(table: Tensor, codes: Tensor) -> None:
    """Add to random rows a component that similar codes have in common."""
    std, mean = torch.std_mean(codes, dim=0)
    standardised = (codes - mean) / std.clamp(min=TINY) / math.sqrt(codes.shape[1])
    own = table[: len(codes)]
    shared = standardised @ torch.randn(codes.shape[1], own.shape[1]) * own.std()
    own.mul_(OWN).add_(shared, alpha=math.sqrt(1 - OWN**2))


def _changed(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return x if scale is None or shift is None else x * (1 + scale) + shift


def _given(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise ValueError(f"this network was built with {what} and got none")
    return value
