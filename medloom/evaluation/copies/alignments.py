"""How one image lies on another: mirrored or turned by a right angle, rotated, scaled and moved, as one affine map.

A map `(2, 3)` gives, for each place of the aligned image, the place of the original image that is shown there. Places
are in units in which an image's axes run from -1 to 1: first x (columns), then y (rows).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Map = NDArray[np.float64]
IDENTITY: Map = np.eye(2, 3)

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


def moved(known: Map, x: float, y: float) -> Map:
    """A map whose aligned image shows at each place what it showed `(x, y)` farther on."""
    return np.hstack([known[:, :2], known[:, 2:] + known[:, :2] @ np.array([[x], [y]])])


def varied(known: Map, linear: Map) -> Map:
    """A map after a further linear change of the aligned image."""
    return np.hstack([known[:, :2] @ linear, known[:, 2:]])


def aligned(images: Tensor, maps: Sequence[Map]) -> Tensor:
    """Images under maps, one of each: float32 `(n, size, size)`.

    Args:
        images: `(n, size, size)`, or one image `(1, size, size)` under all maps. Beyond the border its pixels repeat.
        maps: `n` of them.
    """
    theta = torch.as_tensor(np.stack(maps), dtype=torch.float32, device=images.device)
    shape = (len(maps), 1, *images.shape[1:])
    grid = F.affine_grid(theta, list(shape), align_corners=False)
    found = F.grid_sample(images[:, None].expand(shape), grid, "bilinear", "border", align_corners=False)
    return found[:, 0]


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
