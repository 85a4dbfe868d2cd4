"""Classical augmentation of image batches, without left-right flips: the side of a finding is part of its label."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medloom.core.seeds import numpy_generator

SHIFT = 0.06
SCALE = 0.08
CONTRAST = 0.1
BRIGHTNESS = 0.1


def augment(images: Tensor, *seed: int | str, strength: float = 1.0) -> Tensor:
    """Small random shifts, scales, contrast and brightness of each image, as a function of the seed only.

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes.
        seed: parts of the seed.
        strength: factor on all ranges.

    Returns:
        As `images`; at strength 1 shifted by up to 6 % of an axis, scaled by up to 8 %, contrast changed by up to 10 %
        and brightness by up to 0.1. Border pixels are repeated.
    """
    grid, contrast, brightness = _draw(images, seed, strength)
    return _changed(images, grid, contrast, brightness)


def augment_labelled(images: Tensor, labels: Tensor, *seed: int | str) -> tuple[Tensor, Tensor]:
    """Like `augment`, with integer label maps `(N, *spatial)` that are moved together with their images."""
    grid, contrast, brightness = _draw(images, seed)
    moved = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return _changed(images, grid, contrast, brightness), moved[:, 0].round().to(labels.dtype)


def _changed(images: Tensor, grid: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (moved * contrast + brightness).clamp(-1, 1)


def _draw(images: Tensor, seed: Sequence[int | str], strength: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The source of each pixel, `(N, *spatial, axes)`, and contrast and brightness of each image."""
    rng = numpy_generator(*seed, "augment")
    count, dims = len(images), images.ndim - 2

    def draw(half_range: float, *shape: int) -> Tensor:
        values = strength * rng.uniform(-half_range, half_range, (count, *shape)).astype(np.float32)
        return torch.from_numpy(values).to(images.device)

    # grid_sample counts from -1 to 1 along an axis, so a fraction of the axis is doubled.
    matrix = torch.cat([torch.eye(dims, device=images.device).repeat(count, 1, 1), 2 * draw(SHIFT, dims, 1)], dim=2)
    matrix[:, :, :dims] *= 1 + draw(SCALE, 1, 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    ones = (1,) * (dims + 1)
    return grid, 1 + draw(CONTRAST, *ones), draw(BRIGHTNESS, *ones)
