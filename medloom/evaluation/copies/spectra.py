"""What of an image is compared: its fine structure, without brightness, contrast and shading, as spectra.

Local contrast is made the same everywhere, and each frequency counts by the root of its amplitude. So two images of
different patients have little in common although both show the same organs, and a copy that was brightened, compressed
or blurred still agrees with its original.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
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
# Fractions of a cycle a pixel above which nothing is left of images that few pixels show.
DETAIL = 0.4
SMALLEST = 1e-9
# Images whose contrast is computed together.
AT_ONCE = 256


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


def without_detail(contrast: Tensor) -> Tensor:
    """Images without the frequencies that `fine_spectra` leaves out; few pixels show them: `(n, SIZE, SIZE)`."""
    spectrum = torch.fft.rfft2(contrast)
    radius = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)[None])
    smooth: Tensor = torch.fft.irfft2(spectrum * torch.exp(-((radius / DETAIL) ** 8)), s=(SIZE, SIZE))
    return smooth


def fine_spectra(contrast: Tensor) -> Tensor:
    """Half spectra of unit length, complex64 `(..., FINE, FINE // 2 + 1)`; their product gives correlations at shifts.

    Args:
        contrast: `(..., size, size)`, of any size above FINE; see `without_detail` for one below SIZE.
    """
    rows, columns = _transforms(contrast.shape[-1])
    both = rows @ (contrast.flatten(0, -3) @ columns)
    half = columns.shape[-1] // 2
    real = both[:, :FINE, :half] - both[:, FINE:, half:]
    imaginary = both[:, :FINE, half:] + both[:, FINE:, :half]
    amplitude = torch.hypot(real, imaginary)
    # The root of each amplitude is what counts; the smallest of all frequencies are noise.
    weights = _fine_band() / (amplitude + 1e-3 * amplitude.mean((-1, -2), keepdim=True) + SMALLEST).sqrt()
    length = ((amplitude * weights).square() * half_weights()).sum((-1, -2), keepdim=True).sqrt()
    weights = weights / (length + SMALLEST)
    return torch.complex(real * weights, imaginary * weights).view(*contrast.shape[:-2], FINE, half)


@cache
def _transforms(size: int) -> tuple[Tensor, Tensor]:
    """Matrices of the windowed Fourier transform: of columns `(2 * FINE, size)`, of rows `(size, 2 * half)`.

    The real parts come first. Phases count from the corner of the image and not from its first pixel, so that images of
    all sizes agree.
    """
    place = (np.arange(size) + 0.5) / size
    window = _edges(size)
    cycles = np.fft.fftfreq(FINE, 1 / FINE), np.fft.rfftfreq(FINE, 1 / FINE)
    down, across = (np.exp(-2j * np.pi * np.outer(own, place)) * window / size for own in cycles)
    rows, columns = np.concatenate([down.real, down.imag]), np.concatenate([across.real, across.imag]).T
    return torch.from_numpy(rows).float(), torch.from_numpy(columns).float()


@cache
def _fine_band() -> Tensor:
    cycles = torch.fft.fftfreq(FINE, 1 / FINE)[:, None], torch.fft.rfftfreq(FINE, 1 / FINE)[None]
    return _shape(torch.hypot(*cycles) / SIZE, FINE_BAND)


@cache
def half_weights() -> Tensor:
    """How often each value of a half spectrum stands in the whole one: `(FINE, FINE // 2 + 1)`."""
    weights = torch.full((FINE, FINE // 2 + 1), 2.0)
    weights[:, 0] = weights[:, -1] = 1
    return weights


def fine_structure(images: NDArray[np.float32]) -> Tensor:
    """What is left of images at the frequencies that pairs are aligned by: `(n, FINE, FINE)`.

    Args:
        images: grey values from 0 to 1, `(n, SIZE, SIZE)`.
    """
    cycles = torch.fft.fftfreq(SIZE)
    # Half as many pixels show frequencies up to half as high.
    kept = torch.cat([torch.arange(FINE // 2), torch.arange(SIZE - FINE // 2, SIZE)])
    weights = _shape(torch.hypot(cycles[:, None], cycles[None]), FINE_BAND)[kept][:, kept]
    parts = []
    for start in range(0, len(images), AT_ONCE):
        contrast = local_contrast(torch.from_numpy(images[start : start + AT_ONCE]))
        spectrum = torch.fft.fft2(contrast)[:, kept][:, :, kept]
        parts.append(torch.fft.ifft2(_flattened(spectrum) * weights).real)
    return torch.cat(parts)


def correlations(spectra: Tensor, others: Tensor, reach: int) -> Tensor:
    """The correlation of images at shifts of `-reach` to `reach` pixels of FINE, -1 to 1: `(..., shifts, shifts)`.

    Args:
        spectra: of `fine_spectra`, `(..., FINE, FINE // 2 + 1)`.
        others: of the same shape, or one that spreads to it.
        reach: in each direction.
    """
    down, across = _shifts(reach)
    products = torch.view_as_real(spectra * others.conj())
    part = products.flatten(-2) @ across
    # A row with its real part, then its imaginary part: two rows of `down`'s transform.
    return down @ part.view(*part.shape[:-2], 2 * FINE, len(down))


@cache
def _shifts(reach: int) -> tuple[Tensor, Tensor]:
    """Matrices of the inverse transform at some shifts: `(shifts, FINE * 2)`, and `(half * 2, 2 * shifts)`.

    The first is of columns, the second of rows. Real and imaginary part of a value stand next to each other.
    """
    shifts = np.arange(-reach, reach + 1)
    down = np.exp(2j * np.pi * np.outer(shifts, np.fft.fftfreq(FINE)))
    across = np.exp(2j * np.pi * np.outer(np.fft.rfftfreq(FINE), shifts))
    across[1:-1] *= 2
    columns = np.stack([down.real, -down.imag], -1).reshape(len(shifts), -1)
    rows = np.stack([np.concatenate([across.real, across.imag], 1), np.concatenate([-across.imag, across.real], 1)], 1)
    return torch.from_numpy(columns).float(), torch.from_numpy(rows.reshape(-1, 2 * len(shifts))).float()


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


def _shape(radius: Tensor, ends: tuple[float, float]) -> Tensor:
    """Weights of frequencies, 1 in a band and near 0 outside.

    Args:
        radius: of each frequency, in cycles a pixel.
        ends: of the band.
    """
    low, high = ends
    return torch.exp(-((radius / high) ** 4)) * (1 - torch.exp(-((radius / low) ** 4)))


def _window(images: Tensor) -> Tensor:
    """Weights that fall to 0 at the border, where a moved or rotated copy shows something else."""
    edges = _edges(SIZE)
    return torch.as_tensor(np.outer(edges, edges), dtype=images.dtype, device=images.device)


def _edges(size: int) -> NDArray[np.float64]:
    """The weights along one axis: `(size,)`."""
    place = (np.arange(size) + 0.5) / size
    edge = np.clip(np.minimum(place, 1 - place) / 0.15, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * edge))
