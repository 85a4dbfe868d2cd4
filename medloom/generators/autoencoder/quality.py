"""How well an autoencoder gives images back: figures by modality, and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.core.plots import flat
from medloom.core.sheets import Sheet
from medloom.core.tiles import COLOURS_NOTE, SHOWN_QUANTILE, AbsoluteQuantile, ColourScale, Tile, TileColumn
from medloom.generators.training_data import spread_rows
from medloom.metrics.structural import psnr, ssim
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.tokenizer import Tokenizer

BATCH = 16
ALL = "all images"

Autoencoder = KLAutoencoder | Tokenizer


@dataclass(frozen=True)
class ImageData:
    """Images by row, on disk or in memory.

    Attributes:
        images: `(rows, C, *size)` in [-1, 1].
        modalities: one a row.
        usable: the rows that are used.
    """

    images: NDArray[Any]
    modalities: Sequence[str]
    usable: Sequence[int]

    def __len__(self) -> int:
        return len(self.usable)

    def spread(self, count: int) -> list[int]:
        """Up to `count` usable rows, evenly over all of them."""
        return [self.usable[place] for place in spread_rows(len(self.usable), count)]

    def take(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """The images of some rows, float32 `(N, C, *size)`."""
        return np.stack([self.images[row] for row in rows]).astype(np.float32)


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
def reconstruct(autoencoder: Autoencoder, images: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Images through their latents and back; no chance is in it.

    Args:
        autoencoder: in evaluation mode, on `device`.
        images: float32 `(N, C, *size)` in [-1, 1].
        device: where the networks run.

    Returns:
        float32 `(N, C, *size)`, clipped to [-1, 1].
    """
    decoded = autoencoder.reconstruct(torch.from_numpy(images).to(device))
    return decoded.float().clamp(-1, 1).cpu().numpy()


def reconstruction_quality(
    autoencoder: Autoencoder,
    data: ImageData,
    rows: Sequence[int],
    device: torch.device,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, Quality]:
    """PSNR, SSIM and mean absolute difference of values from 0 to 1, by modality and over all images.

    Args:
        autoencoder: in evaluation mode, on `device`.
        data: where the images are.
        rows: which of them; one or more.
        device: where the networks run.
        advance: called with the number of images that were done.

    Returns:
        Modality -> its figures, sorted by name; `all images` comes last.
    """
    figures: list[tuple[float, float, float]] = []
    for start in range(0, len(rows), BATCH):
        images = data.take(rows[start : start + BATCH])
        pairs = zip(images, reconstruct(autoencoder, images, device), strict=True)
        figures += [_figures(_levels(image), _levels(other)) for image, other in pairs]
        advance(len(images))
    of = np.array([data.modalities[row] for row in rows])
    table = np.array(figures)
    groups = {str(name): table[of == name] for name in np.unique(of)} | {ALL: table}
    return {name: Quality(len(group), *map(float, group.mean(0))) for name, group in groups.items()}


@torch.no_grad()
def codes_used(autoencoder: Tokenizer, data: ImageData, rows: Sequence[int], device: torch.device) -> dict[str, float]:
    """How many codes of a codebook images take.

    Args:
        autoencoder: in evaluation mode, on `device`.
        data: where the images are.
        rows: which of them; one or more.
        device: where the networks run.

    Returns:
        `codes used`, the share of codes that any of the images takes, and `perplexity` of all their tokens.
    """
    counts = torch.zeros(autoencoder.codes)
    for start in range(0, len(rows), BATCH):
        tokens = autoencoder.tokens(torch.from_numpy(data.take(rows[start : start + BATCH])).to(device))
        counts += torch.bincount(tokens.flatten().cpu(), minlength=autoencoder.codes)
    shares = counts / counts.sum()
    return {"codes used": float((counts > 0).float().mean()), "perplexity": float(perplexity(shares))}


def perplexity(shares: torch.Tensor) -> torch.Tensor:
    """The exponential of the entropy of shares `(K,)` that sum to 1: how many codes are as good as evenly used."""
    return torch.exp(-torch.special.xlogy(shares, shares).sum())


def _levels(image: NDArray[Any]) -> NDArray[np.float64]:
    return np.clip((np.asarray(image, np.float64) + 1) / 2, 0, 1)


def _figures(image: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    return psnr(image, other, 1.0), ssim(image, other, 1.0), float(np.abs(image - other).mean())


def save_comparison(
    path: Path, autoencoder: Autoencoder, images: NDArray[np.float32], device: torch.device, note: str
) -> None:
    """Write original, reconstruction and their difference side by side as PNG, for research use only.

    Args:
        path: the PNG.
        autoencoder: in evaluation mode, on `device`.
        images: float32 `(N, C, *size)` in [-1, 1]; a few.
        device: where the networks run.
        note: for the heading and the picture's metadata.
    """
    reconstructions = reconstruct(autoencoder, images, device)
    pairs = [(flat(image), flat(other)) for image, other in zip(images, reconstructions, strict=True)]
    # In percent of the way from black to white.
    maps = [(other - image).mean(axis=0) * 50 for image, other in pairs]
    sizes = AbsoluteQuantile()
    for values in maps:
        sizes.add(values)
    scale = ColourScale(sizes.value(SHOWN_QUANTILE) or 1.0, "%", "of black to white; ends at the 99th percentile")
    columns = [
        TileColumn("original", [Tile(image) for image, _ in pairs]),
        TileColumn("reconstruction", [Tile(other) for _, other in pairs], joined=True),
        TileColumn("difference", [Tile(values, scale=scale) for values in maps], joined=True),
    ]
    # Originals are patients' images.
    heading = f"Research use only: original images and their reconstructions {note}"
    Sheet(heading, columns, notes=[COLOURS_NOTE]).save(path, SYNTHETIC="NO", note=note)
