"""A transformer that fills in masked tokens of a grid, given text, table, mask, earlier image and coarser tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from medloom.core.choices import FUSIONS
from medloom.core.errors import UserError
from medloom.networks import blocks
from medloom.networks.weights import load_network, save_network

# Tokens along each side of what a layer's convolution sees.
LOCAL_KERNEL = 3
# Of the deviation of an embedding that starts from a codebook: what is not shared with codes that look alike.
OWN = 0.5
TINY = 1e-6


@dataclass(frozen=True)
class TokenTransformerConfig:
    """Shape of the transformer.

    Attributes:
        codes: size of the codebook.
        grid: tokens along each axis, two or three of them.
        width: of the features.
        layers: of self-attention, cross-attention and a network of two layers.
        heads: of each attention.
        expansion: inner width of that network over `width`.
        dropout: of features in training.
        fusion: how context reaches it: cross-attention (and the pooled vector by scale and shift), affine (the latter
            alone), or none.
        context_width: channels of context tokens.
        pooled_width: channels of the pooled vector.
        mask_channels: channels of a segmentation mask (0: none).
        prior: whether it sees the tokens of an earlier image.
        coarse_codes: codes of the coarser tokens that it sees (0: none).
        region_styles: whether the pooled vector fills the regions of the mask, or the whole grid, also growing along
            each axis.
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
            raise UserError(f"--network.width {self.width} cannot be shared between {self.heads} heads.")


class TokenTransformer(nn.Module):
    """Predicts masked tokens (Chang et al. 2022, MaskGIT; Chang et al. 2023, Muse).

    What lies on the image's grid (mask, earlier image, coarser tokens) is added to each token at its own place, where
    self-attention of all others finds it.
    """

    def __init__(self, config: TokenTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # One more is the masked token.
        self.tokens = nn.Embedding(config.codes + 1, width)
        self.places = nn.ParameterList([nn.Parameter(torch.randn(length, width)) for length in config.grid])
        self.mask = nn.Linear(config.mask_channels, width) if config.mask_channels else None
        # One more says that there is none.
        self.prior = nn.Embedding(config.codes + 1, width) if config.prior else None
        self.coarse = nn.Embedding(config.coarse_codes, width) if config.coarse_codes else None
        pooled = config.pooled_width if config.fusion != "none" else 0
        self.pooled = nn.Linear(pooled, width) if pooled else None
        regions, axes = config.mask_channels or 1, len(config.grid)
        self.styles = blocks.RegionStyles(regions, pooled, width, axes) if config.region_styles and pooled else None
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.codes)
        # As large as the embeddings, which have a deviation of 1: what is on the grid is not drowned by it.
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
        """Predict.

        Args:
            tokens: int64 `(N, L)` in 0..codes, `codes` where masked.
            context: `(N, K, D)` tokens of text, modality and table.
            context_mask: bool `(N, K)`, true where a context token counts.
            pooled: `(N, P)`.
            mask: channels of a segmentation mask `(N, S, *grid)`.
            prior: tokens of an earlier image int64 `(N, L)`, `codes` where there is none.
            coarse: coarser tokens int64 `(N, *coarse grid)`.
            wanted: bool `(N, L)`: the tokens whose logits are wanted; all by default.

        Returns:
            Logits `(N, L, codes)`, or of the wanted tokens `(M, codes)`.
        """
        x = self._embedded(tokens, mask, prior, coarse)
        if self.styles is not None and pooled is not None:
            x = x + self._styled(self.styles, x, mask, pooled)
        told = F.silu(self.pooled(pooled)) if self.pooled is not None and pooled is not None else None
        for layer in self.layers:
            if self.config.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, context, context_mask, told, use_reentrant=False)
            else:
                x = layer(x, context, context_mask, told)
        x = self.norm(x if wanted is None else x[wanted])
        logits: Tensor = self.head(x)
        return logits

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, coarse: Tensor | None = None) -> None:
        """Let embeddings and the head start where the tokenizer's codes lie, so that codes that look alike are alike.

        Else the network would have to learn of every code by itself what it looks like. Of each embedding a part stays
        its own.

        Args:
            vectors: the codebook `(codes, channels)`.
            coarse: that of the coarser tokens, where there are any.
        """
        for table in (self.tokens, self.prior, self.head):
            if table is not None:
                _start_alike(table.weight, vectors.float())
        if self.coarse is not None and coarse is not None:
            _start_alike(self.coarse.weight, coarse.float())

    def _embedded(self, tokens: Tensor, mask: Tensor | None, prior: Tensor | None, coarse: Tensor | None) -> Tensor:
        x = self.tokens(tokens) + self._positions()
        if self.mask is not None:
            x = x + self.mask(_given(mask, "a mask").flatten(2).transpose(1, 2).to(x.dtype))
        if self.prior is not None:
            x = x + self.prior(_given(prior, "an earlier image"))
        if self.coarse is not None:
            seen = self.coarse(_given(coarse, "coarser tokens")).movedim(-1, 1)
            x = x + F.interpolate(seen, size=self.config.grid, mode="nearest").flatten(2).transpose(1, 2)
        return x

    def _styled(self, styles: blocks.RegionStyles, x: Tensor, mask: Tensor | None, pooled: Tensor) -> Tensor:
        """What text and table put into each region, `(N, L, W)`; without a mask the whole grid is one region."""
        where = x.new_ones(len(x), 1, *self.config.grid) if mask is None else mask.to(x.dtype)
        return styles(where, pooled).flatten(2).transpose(1, 2)

    def _positions(self) -> Tensor:
        """A vector for each place, `(L, width)`: the sum of one for each axis."""
        grid = self.config.grid
        total = torch.zeros(*grid, self.config.width, device=self.places[0].device)
        for axis, table in enumerate(self.places):
            total = total + table.view(*[length if a == axis else 1 for a, length in enumerate(grid)], -1)
        return total.flatten(0, len(grid) - 1)

    def on_grid(self, config: TokenTransformerConfig) -> "TokenTransformer":
        """A copy on another grid: a place's vector is between those of the places that were there.

        Args:
            config: as its own but for the grid, dropout and checkpointing.
        """
        other = TokenTransformer(config)
        state = dict(self.state_dict())
        for axis, length in enumerate(config.grid):
            known = state[f"places.{axis}"].T[None]
            state[f"places.{axis}"] = F.interpolate(known, length, mode="linear")[0].T
        other.load_state_dict(state)
        return other

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "TokenTransformer":
        """Read what `save_pretrained` wrote."""
        return load_network(folder, TokenTransformerConfig, cls)


class _Layer(nn.Module):
    """Neighbours, self-attention, cross-attention to the context, a network of two layers; pre-norm, all residual."""

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
        self.affine = nn.Linear(width, 4 * width) if config.pooled_width and config.fusion != "none" else None
        if self.affine is not None:
            nn.init.zeros_(self.affine.weight)
            nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, context: Tensor | None, context_mask: Tensor | None, told: Tensor | None) -> Tensor:
        """`(N, L, W)` to the same."""
        x = x + self._dropped(self.local(x))
        changes = [None] * 4
        if self.affine is not None and told is not None:
            changes = list(self.affine(told)[:, None].chunk(4, dim=-1))
        x = x + self._dropped(self.attention(_changed(self.norm1(x), changes[0], changes[1])))
        if self.cross is not None and self.norm2 is not None and context is not None:
            x = x + self._dropped(self.cross(self.norm2(x), context.to(x.dtype), context_mask))
        return x + self._dropped(self.network(_changed(self.norm3(x), changes[2], changes[3])))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Neighbours(nn.Module):
    """A convolution of each channel over the grid (Guo et al. 2022, CMT, the local perception unit).

    What a token is depends on those beside it, which attention has to learn place by place and finds only in a long
    training.
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
    """Rows that are random so far get a part in common with those of codes that lie near."""
    deviation, mean = torch.std_mean(codes, dim=0)
    seen = (codes - mean) / deviation.clamp(min=TINY) / math.sqrt(codes.shape[1])
    own = table[: len(codes)]
    shared = seen @ torch.randn(codes.shape[1], own.shape[1]) * own.std()
    own.mul_(OWN).add_(shared, alpha=math.sqrt(1 - OWN**2))


def _changed(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return x if scale is None or shift is None else x * (1 + scale) + shift


def _given(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise ValueError(f"this network was built with {what} and got none")
    return value
