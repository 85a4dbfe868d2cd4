"""The KL image autoencoder (diffusers' AutoencoderKL) with the interface of latent generators."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.weights import require_finite

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class KLAutoencoder(nn.Module):
    """Images to latents of unit scale and back.

    Attributes:
        vae: the diffusers autoencoder; its `scaling_factor` scales latents to a standard deviation of 1.
    """

    def __init__(self, vae: "AutoencoderKL") -> None:
        super().__init__()
        self.vae = vae

    @property
    def factor(self) -> int:
        """Pixels per latent pixel along each axis."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        """Number of latent channels."""
        return int(self.vae.config.latent_channels)

    @property
    def image_channels(self) -> int:
        """Number of image channels."""
        return int(self.vae.config.in_channels)

    def latent_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The latent's shape for an image of `size`.

        Raises:
            UserError: an axis is not a multiple of the autoencoder's factor.
        """
        if any(axis % self.factor for axis in size):
            raise UserError(f"image size {size} is not a multiple of {self.factor}, the autoencoder's factor.")
        return (self.latent_channels, *(axis // self.factor for axis in size))

    def moments(self, images: Tensor) -> Tensor:
        """Mean and log-variance of the posterior, `(N, 2 C, *latent)`, before scaling."""
        moments: Tensor = self.vae.encode(images).latent_dist.parameters
        return moments

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Draw scaled latents `(N, C, *latent)` from a posterior with the given standard normal noise."""
        mean, log_variance = moments.chunk(2, dim=1)
        std = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return torch.mul(mean + std * noise, self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to images `(N, C, *size)`."""
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode images `(N, C, *size)` to the mean of their posterior and decode it; deterministic."""
        return self.decode(self.moments(images).chunk(2, dim=1)[0] * self.vae.config.scaling_factor)

    def save(self, folder: Path) -> None:
        """Write in diffusers' layout, as safetensors."""
        self.vae.save_pretrained(folder, safe_serialization=True)


def make_autoencoder(channels: int, widths: tuple[int, ...], latent_channels: int, depth: int = 1) -> KLAutoencoder:
    """Create a KL autoencoder with fresh weights; each width after the first halves the image.

    Args:
        channels: image channels.
        widths: feature channels per resolution: multiples of 32, or below 32.
        latent_channels: latent channels.
        depth: residual blocks per resolution.
    """
    from diffusers import AutoencoderKL

    levels = len(widths)
    return KLAutoencoder(
        AutoencoderKL(
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
    )


def load_autoencoder(folder: Path, variant: str | None = None) -> KLAutoencoder:
    """Load an autoencoder from a diffusers folder (`vae/`), in fp32.

    Args:
        folder: of the autoencoder.
        variant: of the files of its weights, as `fp16`; None for the plain ones.

    Raises:
        UserError: the folder holds no such autoencoder, no safetensors, or weights that are not finite.
    """
    from diffusers import AutoencoderKL

    # diffusers would take a path that is not there for a hub id.
    if not folder.is_dir():
        raise UserError(f"autoencoder {folder} is no folder; give a run or a diffusers folder.")
    try:
        autoencoder = KLAutoencoder(
            AutoencoderKL.from_pretrained(
                folder, use_safetensors=True, variant=variant, torch_dtype=torch.float32, local_files_only=True
            )
        )
    except LOAD_ERRORS as error:
        raise UserError(
            f"autoencoder {folder} cannot be loaded ({first_line(error)}); give a run or a diffusers folder."
        ) from error
    require_finite(autoencoder.vae.state_dict(), f"autoencoder {folder}")
    return autoencoder
