"""The KL image autoencoder (diffusers' AutoencoderKL) behind the interface that latent generators need."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError


class KLAutoencoder(nn.Module):
    """Images to latents of unit scale and back.

    Attributes:
        vae: the `diffusers.AutoencoderKL`; its `scaling_factor` brings latents to unit deviation.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    @property
    def factor(self) -> int:
        """Pixels of an axis that become one latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.vae.config.latent_channels)

    @property
    def image_channels(self) -> int:
        """Channels of an image."""
        return int(self.vae.config.in_channels)

    def latent_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the latent of an image of `size`.

        Raises:
            UserError: an axis that is not a multiple of the autoencoder's factor.
        """
        if any(axis % self.factor for axis in size):
            raise UserError(f"image size {size} is not a multiple of {self.factor}, the autoencoder's factor.")
        return (self.latent_channels, *(axis // self.factor for axis in size))

    def moments(self, images: Tensor) -> Tensor:
        """Mean and log-variance of the posterior, `(N, 2 C, *latent)`, before scaling."""
        return self.vae.encode(images).latent_dist.parameters

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Scaled latents `(N, C, *latent)` drawn from a posterior with the given standard normal noise."""
        mean, log_variance = moments.chunk(2, dim=1)
        deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return (mean + deviation * noise) * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(N, C, *size)` of scaled latents."""
        return self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images `(N, C, *size)` through the mean of their posterior and back, so that no chance is in it."""
        mean = self.moments(images).chunk(2, dim=1)[0]
        return self.decode(mean * self.vae.config.scaling_factor)

    def save(self, folder: Path) -> None:
        """Write in diffusers' layout, as safetensors."""
        self.vae.save_pretrained(folder, safe_serialization=True)


def make_autoencoder(channels: int, widths: tuple[int, ...], latent_channels: int, depth: int = 1) -> KLAutoencoder:
    """A fresh KL autoencoder; each width after the first halves the image.

    Args:
        channels: image channels.
        widths: feature channels of each resolution, multiples of 32 or smaller than it.
        latent_channels: channels of the latent.
        depth: residual blocks a resolution.
    """
    from diffusers import AutoencoderKL

    levels = len(widths)
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=widths,
        layers_per_block=depth,
        latent_channels=latent_channels,
        norm_num_groups=min(32, min(widths) // 4),
        scaling_factor=1.0,
    )
    return KLAutoencoder(vae)


def load_autoencoder(folder: Path) -> KLAutoencoder:
    """Load from a diffusers folder (`vae/`).

    Raises:
        UserError: no such autoencoder, or no safetensors.
    """
    from diffusers import AutoencoderKL

    try:
        return KLAutoencoder(AutoencoderKL.from_pretrained(folder, use_safetensors=True))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"autoencoder {folder} cannot be loaded ({reason}); give a run or a diffusers folder."
        ) from error
