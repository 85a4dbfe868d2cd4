"""Making a fresh autoencoder, whose latents are normal or tokens."""

import torch

from medloom.core.choices import SCALARS
from medloom.core.seeds import initial_weights
from medloom.generators.autoencoder.options import AutoencoderOptions
from medloom.networks.autoencoder import KLAutoencoder, make_autoencoder
from medloom.networks.tokenizer import Tokenizer, TokenizerConfig

# Log-variance of the posteriors at the first step: a deviation of 0.08.
QUIET = -5.0


def build_autoencoder(channels: int, options: AutoencoderOptions, seed: int) -> KLAutoencoder:
    """An autoencoder with fresh weights, whose latents start with little noise.

    Posteriors that start with a deviation of 1 drown the first, small means: the decoder then learns the mean image
    first, and only the divergence, weighted lightly, would ask for such noise.

    Args:
        channels: of the images.
        options: its shape.
        seed: of its weights.
    """
    with initial_weights(seed, "autoencoder"):
        autoencoder = make_autoencoder(channels, options.widths, options.latent_channels, options.depth)
    with torch.no_grad():
        autoencoder.vae.quant_conv.bias[options.latent_channels :] = QUIET
    return autoencoder


def build_tokenizer(dims: int, channels: int, options: AutoencoderOptions, seed: int) -> Tokenizer:
    """A tokenizer with fresh weights.

    Args:
        dims: 2 or 3.
        channels: of the images.
        options: its shape.
        seed: of its weights.
    """
    codes, width = options.codebook
    levels = tuple(options.levels) if options.quantizer == SCALARS else ()
    shape = (dims, channels, tuple(options.widths), options.depth)
    with initial_weights(seed, "tokeniser"):
        return Tokenizer(TokenizerConfig(*shape, options.quantizer, codes, width, levels))
