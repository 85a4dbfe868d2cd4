"""Autoencoders whose latents are tokens: an image is a grid of codes, in 2-D and 3-D."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.choices import AVERAGES, SCALARS
from medloom.core.errors import UserError, first_line
from medloom.core.files import read_mapping
from medloom.networks.blocks import with_right_gradients
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.quantizers import Codebook, FiniteScalars
from medloom.networks.weights import load_network, require_finite, save_network

DIFFUSERS = "VQModel"


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of the autoencoder.

    Attributes:
        dims: 2 or 3.
        channels: of images.
        widths: feature channels per resolution; each after the first halves the image.
        depth: residual blocks per resolution.
        quantizer: ema, gradient or fsq.
        codes: size of the codebook; with fsq the product of the levels.
        code_width: channels of a code; with fsq the number of levels.
        levels: with fsq, the levels of each channel.
    """

    dims: int
    channels: int
    widths: tuple[int, ...]
    depth: int
    quantizer: str
    codes: int
    code_width: int
    levels: tuple[int, ...] = ()


class Tokenizer(nn.Module):
    """Images to tokens and back.

    Attributes:
        coder: diffusers' VQModel in 2-D, MONAI's encoder and decoder in 3-D.
        quantizer: from latents to codes; see `medloom.networks.quantizers`.
    """

    def __init__(self, config: TokenizerConfig, coder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        if config.quantizer == SCALARS:
            self.quantizer: Codebook | FiniteScalars = FiniteScalars(config.levels)
        else:
            self.quantizer = Codebook(config.codes, config.code_width, config.quantizer == AVERAGES)
        self.coder: Any = coder or (_flat_coder(config) if config.dims == 2 else VolumeCoder(config))

    @property
    def factor(self) -> int:
        """Pixels per token along each axis."""
        return int(2 ** (len(self.config.widths) - 1))

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return self.quantizer.codes

    @property
    def image_channels(self) -> int:
        """Number of image channels."""
        return self.config.channels

    def code_vectors(self) -> Tensor:
        """The codes as vectors, `(codes, code width)`."""
        every = torch.arange(self.codes, device=next(self.coder.parameters()).device)
        return self.quantizer.lookup(every[None])[0].T

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens along each axis of an image of `size`.

        Raises:
            UserError: an axis is not a multiple of the factor, or the number of axes differs.
        """
        if len(size) != self.config.dims or any(axis % self.factor for axis in size):
            raise UserError(
                f"image size {size}: the tokenizer takes {self.config.dims} axes that are multiples of {self.factor}."
            )
        return tuple(axis // self.factor for axis in size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images `(N, C, *size)` to reconstructions, tokens int64 `(N, *grid)` and the quantizer's cost."""
        quantised, tokens, cost = self.quantizer(self._encode(images))
        return self._decode(quantised), tokens, cost

    def tokens(self, images: Tensor) -> Tensor:
        """Images `(N, C, *size)` in [-1, 1] to tokens int64 `(N, *grid)`."""
        return self.quantizer.tokens(self._encode(images))

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens int64 `(N, *grid)` to images `(N, C, *size)`."""
        return self._decode(self.quantizer.lookup(tokens))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images `(N, C, *size)` through their tokens and back."""
        return self.decode(self.tokens(images))

    def _encode(self, images: Tensor) -> Tensor:
        z: Tensor = self.coder.quant_conv(self.coder.encoder(images))
        return z

    def _decode(self, quantised: Tensor) -> Tensor:
        images: Tensor = self.coder.decoder(self.coder.post_quant_conv(quantised))
        return images

    def save(self, folder: Path) -> None:
        """Write as safetensors; in 2-D with a codebook in the layout of diffusers' VQModel."""
        if self.config.dims == 2 and isinstance(self.quantizer, Codebook):
            with torch.no_grad():
                self.coder.quantize.embedding.weight.copy_(self.quantizer.codebook)
            self.coder.save_pretrained(folder, safe_serialization=True)
        else:
            save_network(self, self.config, folder)


class VolumeCoder(nn.Module):
    """MONAI's encoder and decoder of volumes under diffusers' names."""

    def __init__(self, config: TokenizerConfig) -> None:
        from monai.networks.nets.autoencoderkl import Decoder, Encoder

        super().__init__()
        levels = len(config.widths)
        shared: dict[str, Any] = {
            "spatial_dims": config.dims,
            "channels": config.widths,
            "num_res_blocks": (config.depth,) * levels,
            "norm_num_groups": min(32, min(config.widths) // 4),
            "norm_eps": 1e-6,
            "attention_levels": (False,) * levels,
            "with_nonlocal_attn": False,
        }
        width = config.widths[-1]
        self.encoder = with_right_gradients(Encoder(in_channels=config.channels, out_channels=width, **shared))
        self.quant_conv = nn.Conv3d(width, config.code_width, 1)
        self.post_quant_conv = nn.Conv3d(config.code_width, width, 1)
        self.decoder = with_right_gradients(Decoder(in_channels=width, out_channels=config.channels, **shared))


def _flat_coder(config: TokenizerConfig) -> Any:
    from diffusers import VQModel

    levels = len(config.widths)
    coder: Any = VQModel(
        in_channels=config.channels,
        out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.depth,
        latent_channels=config.widths[-1],
        num_vq_embeddings=config.codes,
        vq_embed_dim=config.code_width,
        norm_num_groups=min(32, min(config.widths) // 4),
        scaling_factor=1.0,
    )
    # Only `Tokenizer.save` writes the codebook here; training uses the quantizer's.
    coder.quantize.requires_grad_(False)
    return coder


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read what `Tokenizer.save` wrote, or a folder of diffusers' VQModel.

    Raises:
        UserError: the folder holds no tokenizer, or no safetensors.
    """
    values = read_mapping(folder / "config.json")
    if values.get("_class_name") != DIFFUSERS:
        return load_network(folder, TokenizerConfig, Tokenizer)
    from diffusers import VQModel

    try:
        coder: Any = VQModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except LOAD_ERRORS as error:
        raise UserError(
            f"tokenizer {folder} cannot be loaded ({first_line(error)}); give a run or a diffusers folder."
        ) from error
    require_finite(coder.state_dict(), f"tokenizer {folder}")
    shape = coder.config
    if shape.norm_type != "group":
        raise UserError(
            f"tokenizer {folder} uses {shape.norm_type} norm; only a VQModel with group norm can be loaded."
        )
    codebook = coder.quantize.embedding.weight.detach()
    widths = tuple(shape.block_out_channels)
    tokenizer = Tokenizer(
        TokenizerConfig(2, shape.in_channels, widths, shape.layers_per_block, AVERAGES, *codebook.shape), coder
    )
    for buffer in ("codebook", "sums"):
        tokenizer.quantizer.get_buffer(buffer).copy_(codebook)
    coder.quantize.requires_grad_(False)
    return tokenizer
