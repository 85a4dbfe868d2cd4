"""How well an autoencoder gives images back: figures by modality, and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.core.pictures import save_grid
from medloom.metrics.structural import psnr, ssim
from medloom.networks.autoencoder import KLAutoencoder

BATCH = 16
# Original, reconstruction, difference: two triplets a row.
COLUMNS = 6
ALL = "all images"


@dataclass(frozen=True)
class Quality:
    """Means over the images of one modality.

    Attributes:
        n: images.
        psnr: peak signal-to-noise ratio in dB, of values from 0 to 1.
        ssim: structural similarity, -1 to 1.
        l1: absolute difference of values from 0 to 1.
    """

    n: int
    psnr: float
    ssim: float
    l1: float

    def to_dict(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)


@torch.no_grad()
def reconstruct(
    autoencoder: KLAutoencoder,
    images: NDArray[Any],
    device: torch.device,
    advance: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """Images through the mean of their posterior and back, so that no chance is in it.

    Args:
        autoencoder: in evaluation mode, on `device`.
        images: `(N, C, *size)` in [-1, 1].
        device: where the networks run.
        advance: told how many images were done.

    Returns:
        float32 `(N, C, *size)`, clipped to [-1, 1].
    """
    results = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.asarray(images[start : start + BATCH], np.float32)).to(device)
        mean = autoencoder.moments(batch).chunk(2, dim=1)[0]
        decoded = autoencoder.decode(mean * autoencoder.vae.config.scaling_factor)
        results.append(decoded.float().clamp(-1, 1).cpu().numpy())
        if advance is not None:
            advance(len(batch))
    return np.concatenate(results)


def reconstruction_quality(
    images: NDArray[Any], reconstructions: NDArray[np.float32], modalities: Sequence[str]
) -> dict[str, Quality]:
    """PSNR, SSIM and mean absolute difference, as values from 0 to 1, by modality and over all images.

    Args:
        images: `(N, C, *size)` in [-1, 1].
        reconstructions: of the same shape and range.
        modalities: one an image.

    Returns:
        Modality -> its figures, sorted by name; `all images` comes last.
    """
    pairs = zip(images, reconstructions, strict=True)
    figures = np.array([_figures(_levels(image), _levels(other)) for image, other in pairs])
    of = np.array(modalities)
    groups = {name: figures[of == name] for name in sorted(set(modalities))} | {ALL: figures}
    return {name: Quality(len(rows), *map(float, rows.mean(0))) for name, rows in groups.items()}


def _levels(image: NDArray[Any]) -> NDArray[np.float64]:
    return np.clip((np.asarray(image, np.float64) + 1) / 2, 0, 1)


def _figures(image: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    return psnr(image, other, 1.0), ssim(image, other, 1.0), float(np.abs(image - other).mean())


def save_comparison(path: Path, images: NDArray[Any], reconstructions: NDArray[np.float32], note: str) -> None:
    """Write original, reconstruction and their difference (grey: none) side by side as PNG."""
    tiles: list[NDArray[np.float32]] = []
    for image, other in zip(np.asarray(images, np.float32), reconstructions, strict=True):
        tiles += [image, other, np.clip(other - image, -1, 1)]
    save_grid(path, tiles, COLUMNS, f"original, reconstruction, difference; {note}")
