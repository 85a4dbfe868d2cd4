"""Latents of an autoencoder, computed once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.data.cache import Arrays, CacheColumn, cached_rows
from medloom.data.dataset import ImageSource, usable_rows
from medloom.generators.row_caches import weights_hash
from medloom.networks.autoencoder import KLAutoencoder


def cached_moments(
    source: ImageSource, autoencoder: KLAutoencoder, folder: Path, device: torch.device, skip_bad: bool, verbose: bool
) -> tuple[NDArray[np.float16], list[int]]:
    """Posterior moments of all images, float16 `(N, 2 C, *latent)`, memory-mapped, and the rows that can be used.

    Both moments are kept, so that training draws another latent each time, as with an encoder in the loop.
    """
    channels, *size = autoencoder.latent_shape(source.spec.size)
    columns = {"moments": CacheColumn((2 * channels, *size), "float16"), "bad": CacheColumn((), "uint8")}
    autoencoder.eval()

    @torch.no_grad()
    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        moments = autoencoder.moments(torch.from_numpy(images).to(device)).float().cpu().numpy()
        return {"moments": np.clip(moments, -6e4, 6e4).astype(np.float16), "bad": bad}

    key = {**source.key, "autoencoder": weights_hash(autoencoder)}
    arrays = cached_rows(folder, "latents", key, len(source.samples), columns, compute, verbose)
    return arrays["moments"], usable_rows(source, arrays["bad"], skip_bad, verbose)
