"""Corruptions like a generator's artefacts, which are planted in images so that a filter learns to see them."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def checkerboard(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Alternate pixels lighter and darker, as transposed convolutions and adversarial rewards leave them."""
    period = int(draw.integers(1, 3))
    axes = [torch.arange(length) // period for length in images.shape[2:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0) % 2
    pattern = (2.0 * grid - 1).to(images)
    return images + _strength(images, draw, 0.05, 0.3) * pattern


def stripes(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Bands along an axis, of a period of 2 to 8 pixels."""
    axis = int(draw.integers(images.ndim - 2))
    length = images.shape[2 + axis]
    wave = torch.sin(torch.arange(length) * (2 * np.pi / float(draw.uniform(2, 8))) + float(draw.uniform(0, 6)))
    shape = [length if k == axis else 1 for k in range(images.ndim - 2)]
    return images + _strength(images, draw, 0.06, 0.3) * wave.reshape(shape).to(images)


def ringing(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Edges that repeat, since the highest frequencies are cut off sharply."""
    dims = tuple(range(2, images.ndim))
    spectrum = torch.fft.fftn(images.float(), dim=dims)
    reach = float(draw.uniform(0.12, 0.25))
    for axis in dims:
        frequency = torch.fft.fftfreq(images.shape[axis]).abs()
        shape = [-1 if k == axis else 1 for k in range(images.ndim)]
        spectrum = spectrum * (frequency <= reach).reshape(shape).to(spectrum)
    filtered: Tensor = torch.fft.ifftn(spectrum, dim=dims).real.to(images)
    return filtered


def blur(images: Tensor, draw: np.random.Generator) -> Tensor:
    """A mean over 3 or 5 pixels along each axis."""
    size = int(draw.choice([3, 5]))
    pool = F.avg_pool3d if images.ndim == 5 else F.avg_pool2d
    return pool(images, size, 1, size // 2, count_include_pad=False)


def noise(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Noise that is not the scanner's."""
    values = draw.standard_normal(tuple(images.shape)).astype(np.float32)
    return images + _strength(images, draw, 0.1, 0.4) * torch.from_numpy(values).to(images)


def copied(images: Tensor, draw: np.random.Generator) -> Tensor:
    """A part of the image that stands a second time elsewhere in it."""
    changed = images.clone()
    size = images.shape[2:]
    part = [max(2, int(length * draw.uniform(0.2, 0.4))) for length in size]
    places = [[int(draw.integers(length - own + 1)) for length, own in zip(size, part, strict=True)] for _ in range(2)]
    source, target = (
        (slice(None), slice(None), *(slice(start, start + own) for start, own in zip(place, part, strict=True)))
        for place in places
    )
    changed[target] = images[source]
    return changed


def contrast(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Grey levels that are too bright, too dark, or pressed together."""
    return images * float(draw.uniform(0.3, 0.7)) + float(draw.choice([-0.4, 0.4]))


def _strength(images: Tensor, draw: np.random.Generator, low: float, high: float) -> Tensor:
    values = draw.uniform(low, high, len(images)).astype(np.float32)
    return torch.from_numpy(values).to(images).view(-1, *[1] * (images.ndim - 1))


# A further corruption is a function and a row.
CORRUPTIONS: Mapping[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "checkerboard": checkerboard,
    "stripes": stripes,
    "ringing": ringing,
    "blur": blur,
    "noise": noise,
    "copied": copied,
    "contrast": contrast,
}


def corrupted(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Each image with one corruption, drawn for it.

    Args:
        images: `(N, C, *size)` in [-1, 1].
        draw: of kinds, strengths and places.

    Returns:
        As `images`, clipped to [-1, 1].
    """
    names = list(CORRUPTIONS)
    kinds = draw.integers(len(names), size=len(images))
    changed = images.clone()
    for number, name in enumerate(names):
        if (rows := np.flatnonzero(kinds == number)).size:
            places = torch.from_numpy(rows).to(images.device)
            changed[places] = CORRUPTIONS[name](images[places], draw)
    return changed.clamp(-1, 1)
