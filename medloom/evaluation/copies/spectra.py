"""What of an image is compared: its fine structure, without brightness, contrast and shading, as spectra.

Local contrast is made the same everywhere, and each frequency counts by the root of its amplitude. So two images of
different patients have little in common although both show the same organs, and a copy that was brightened, compressed
or blurred still agrees with its original.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 64
# Pixels on a side of the spectra that pairs are aligned by: frequencies up to 16 cycles an image.
FINE = 32
# Cycles an image of the spectra that all pairs are searched by.
COARSE = 8
BLOCK = 2 * COARSE + 1
# Bands as fractions of a cycle a pixel: where they begin and where they end.
COARSE_BAND, FINE_BAND = (0.03, 0.14), (0.06, 0.25)
# Pixels over which local contrast is measured, and the contrast below which it is not raised.
NEAR, LEAST_CONTRAST = 9, 0.05
SMALLEST = 1e-9


def local_contrast(images: Tensor) -> Tensor:
    """Images less their local mean, over their local deviation: float32 `(n, SIZE, SIZE)`.

    Args:
        images: grey values from 0 to 1, `(n, SIZE, SIZE)`.
    """

    def near(values: Tensor) -> Tensor:
        padded = F.pad(values[:, None], (NEAR // 2,) * 4, mode="reflect")
        return F.avg_pool2d(padded, NEAR, 1)[:, 0]

    mean = near(images)
    deviation = (near(images * images) - mean * mean).clamp(min=0).sqrt()
    return (images - mean) / (deviation + LEAST_CONTRAST)


def fine_spectra(contrast: Tensor) -> Tensor:
    """Half spectra of unit length, complex64 `(n, FINE, FINE // 2 + 1)`; their product gives correlations at shifts."""
    spectrum = _flattened(torch.fft.rfft2(contrast * _window(contrast))) * _band(FINE_BAND, torch.fft.rfftfreq(SIZE))
    half = FINE // 2
    cut = torch.cat([spectrum[..., :half, : half + 1], spectrum[..., -half:, : half + 1]], -2)
    length = (cut.abs().square() * half_weights()).sum((-1, -2), keepdim=True).sqrt()
    return cut / (length + SMALLEST)


def half_weights() -> Tensor:
    """How often each value of a half spectrum stands in the whole one: `(FINE, FINE // 2 + 1)`."""
    weights = torch.full((FINE, FINE // 2 + 1), 2.0)
    weights[:, 0] = weights[:, -1] = 1
    return weights


def correlations(spectra: Tensor, others: Tensor) -> Tensor:
    """The correlation of images at all shifts, -1 to 1: `(..., FINE, FINE)`.

    Args:
        spectra: of `fine_spectra`, `(..., FINE, FINE // 2 + 1)`.
        others: of the same shape, or one that spreads to it.
    """
    surfaces: Tensor = torch.fft.irfft2(spectra * others.conj(), s=(FINE, FINE)) * FINE * FINE
    return surfaces


def coarse_blocks(contrast: Tensor) -> Tensor:
    """The low frequencies about the image's middle, complex64 `(n, BLOCK, BLOCK)`: a flip exchanges them only."""
    spectrum = _flattened(torch.fft.fft2(contrast * _window(contrast)))
    spectrum = torch.cat([spectrum[..., -COARSE:, :], spectrum[..., : COARSE + 1, :]], -2)
    spectrum = torch.cat([spectrum[..., -COARSE:], spectrum[..., : COARSE + 1]], -1)
    cycles = torch.arange(-COARSE, COARSE + 1)
    radius = torch.hypot(cycles[:, None].float(), cycles[None].float()) / SIZE
    middle = torch.exp(1j * torch.pi * (cycles[:, None] + cycles[None]) * (SIZE - 1) / SIZE)
    return spectrum * middle * _shape(radius, COARSE_BAND)


def shift_phases(shifts: Sequence[tuple[float, float]]) -> Tensor:
    """What moves `coarse_blocks` by `(x, y)`, each from -1 to 1: complex64 `(shifts, BLOCK, BLOCK)`."""
    cycles = torch.arange(-COARSE, COARSE + 1)
    x, y = torch.tensor(shifts, dtype=torch.float32).T[:, :, None, None]
    return torch.exp(1j * torch.pi * (cycles[None, None] * x + cycles[None, :, None] * y))


def as_vectors(blocks: Tensor) -> Tensor:
    """Blocks as real vectors of unit length, `(..., BLOCK * BLOCK - 1)`: of each pair of conjugates one."""
    half = blocks.flatten(-2)[..., (BLOCK * BLOCK) // 2 + 1 :]
    vectors = torch.cat([half.real, half.imag], -1)
    unit: Tensor = vectors / (vectors.norm(dim=-1, keepdim=True) + SMALLEST)
    return unit


def unit_blocks() -> Tensor:
    """The blocks whose vectors are the unit vectors, complex64 `(d, BLOCK, BLOCK)`."""
    half = BLOCK * BLOCK // 2
    values = torch.zeros(2 * half, BLOCK * BLOCK, dtype=torch.complex64)
    rows = torch.arange(half)
    for first, value in ((0, torch.tensor(1.0 + 0j)), (half, torch.tensor(1j))):
        values[first + rows, half + 1 + rows] = value
        # The conjugate of each stands on the other side of the middle.
        values[first + rows, half - 1 - rows] = value.conj()
    return values.view(-1, BLOCK, BLOCK)


def _flattened(spectrum: Tensor) -> Tensor:
    """A spectrum with the root of its amplitudes."""
    amplitude = spectrum.abs()
    return spectrum / (amplitude + 1e-3 * amplitude.mean((-1, -2), keepdim=True) + SMALLEST).sqrt()


def _band(band: tuple[float, float], columns: Tensor) -> Tensor:
    return _shape(torch.hypot(torch.fft.fftfreq(SIZE)[:, None], columns[None]), band)


def _shape(radius: Tensor, band: tuple[float, float]) -> Tensor:
    low, high = band
    return torch.exp(-((radius / high) ** 4)) * (1 - torch.exp(-((radius / low) ** 4)))


def _window(images: Tensor) -> Tensor:
    """Weights that fall to 0 at the border, where a moved or rotated copy shows something else."""
    place = (np.arange(SIZE) + 0.5) / SIZE
    edge = np.clip(np.minimum(place, 1 - place) / 0.15, 0, 1)
    weights = 0.5 - 0.5 * np.cos(np.pi * edge)
    return torch.as_tensor(np.outer(weights, weights), dtype=images.dtype, device=images.device)
