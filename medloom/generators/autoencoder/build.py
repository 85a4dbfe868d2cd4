"""Making a fresh autoencoder."""

import torch

from medloom.core.initialise import initial_weights
from medloom.generators.autoencoder.options import AutoencoderOptions
from medloom.networks.autoencoder import KLAutoencoder, make_autoencoder

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
