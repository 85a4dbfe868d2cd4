"""How one image lies on another: mirrored or turned by a right angle, rotated, scaled and moved, as one affine map.

A map `(2, 3)` gives, for each place of the aligned image, the place of the original image that is shown there. Places
are in units in which an image's axes run from -1 to 1: first x (columns), then y (rows).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Map = NDArray[np.float64]

# Flips of columns (1), of rows (2), and the exchange of both (4) make the eight ways to lay a square on itself.
FLIPS = 8


def flipped(values: Tensor, flip: int) -> Tensor:
    """Images `(..., size, size)`, or spectra about their middle, laid down in one of eight ways."""
    if flip & 1:
        values = values.flip(-1)
    if flip & 2:
        values = values.flip(-2)
    return values.transpose(-1, -2) if flip & 4 else values


def flip_matrix(flip: int) -> Map:
    """The linear part `(2, 2)` of `flipped`."""
    matrix = np.diag([-1.0 if flip & 1 else 1.0, -1.0 if flip & 2 else 1.0])
    return matrix @ np.array([[0.0, 1.0], [1.0, 0.0]]) if flip & 4 else matrix


def turned(degrees: float, scale: float) -> Map:
    """The linear part `(2, 2)` of an image rotated by `degrees` and enlarged by `scale`."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn / scale


def moved(maps: Tensor, shifts: Tensor) -> Tensor:
    """Maps `(..., 2, 3)` whose aligned images show at each place what they showed `(x, y)` farther on.

    Args:
        maps: `(..., 2, 3)`.
        shifts: `(..., 2)`, x and y.
    """
    linear, place = maps[..., :2], maps[..., 2:]
    return torch.cat([linear, place + linear @ shifts[..., None]], -1)


def varied(maps: Tensor, linear: Tensor) -> Tensor:
    """Maps `(..., 2, 3)` after a further linear change `(..., 2, 2)` of the aligned images."""
    changed = maps[..., :2] @ linear
    return torch.cat([changed, maps[..., 2:].expand(*changed.shape[:-1], 1)], -1)


def aligned(images: Tensor, maps: Tensor, size: int = 0) -> Tensor:
    """Images, each under maps of its own: float32 `(n, k, size, size)`.

    Args:
        images: `(n, rows, columns)`. Beyond the border their pixels repeat.
        maps: `(n, k, 2, 3)`.
        size: pixels a side of what is returned; 0 for those of the images.
    """
    size = size or images.shape[-1]
    n, k = maps.shape[:2]
    centres = ((2 * torch.arange(size) + 1) / size - 1)[:, None]
    across, down = maps[..., None, :, 0] * centres, maps[..., None, :, 1] * centres + maps[..., None, :, 2]
    # The maps of an image lie below each other in one grid, so that the image is not repeated for each of them.
    grid = (across[:, :, None] + down[:, :, :, None]).view(n, k * size, size, 2)
    return F.grid_sample(images[:, None], grid, "bilinear", "border", align_corners=False).view(n, k, size, size)


def in_words(known: Map, inverted: bool) -> str:
    """What was done to the original image, e.g. `mirrored, enlarged to 111 %, rotated by 5 degrees`; `as it is`."""
    linear = known[:, :2]
    scale = 1 / math.sqrt(abs(float(np.linalg.det(linear))))
    is_mirrored = float(np.linalg.det(linear)) < 0
    turn = linear @ np.diag([-1.0, 1.0]) if is_mirrored else linear
    degrees = math.degrees(math.atan2(turn[1, 0], turn[0, 0]))
    across, down = known[:, 2]
    parts = []
    if is_mirrored:
        parts.append("mirrored")
    if abs(degrees) >= 1.5:
        parts.append(f"rotated by {abs(degrees):.0f} degrees")
    if abs(scale - 1) >= 0.015:
        parts.append(f"{'enlarged' if scale < 1 else 'reduced'} to {100 / scale:.0f} %")
    if max(abs(across), abs(down)) >= 0.03:
        parts.append(f"moved by {50 * math.hypot(across, down):.0f} %")
    if inverted:
        parts.append("inverted")
    return ", ".join(parts) or "as it is"
