"""Similarity of paired images (PSNR, SSIM, MS-SSIM) and regions (Dice), in two and three dimensions."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from medloom.core.errors import UserError

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(x: np.ndarray, y: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(range^2 / mean squared difference), in dB; infinite for equal images.

    Args:
        x: image `(C, *spatial)`.
        y: image of the same shape.
        data_range: highest minus lowest possible value (2 for [-1, 1]).

    Raises:
        UserError: different shapes, values that are not finite, or a range that is not above 0.

    Examples:
        >>> black, grey = np.zeros((1, 8, 8)), np.full((1, 8, 8), 0.1)
        >>> round(medloom.metrics.psnr(black, grey, data_range=1.0), 2)
        20.0
    """
    x, y = _images(x, y, data_range)
    error = float(np.mean((x - y) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(data_range**2 / error))


def ssim(x: np.ndarray, y: np.ndarray, data_range: float, where: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), -1 to 1, mean over channels and pixels.

    The window is a Gaussian with sigma 1.5 pixels, 11 pixels wide, in two or three dimensions; images are mirrored at
    their borders.

    Args:
        x: image `(C, *spatial)`, two or three spatial axes of at least 6 pixels, values from 0 to `data_range`.
        y: image of the same shape.
        data_range: highest possible value; the lowest is 0.
        where: bool `(*spatial)`, the pixels whose windows count; all by default. The result is nan if there is none.

    Raises:
        UserError: different or too small shapes, values that are negative or not finite, or a range that is not above
            0.

    Examples:
        >>> image = np.linspace(0, 255, 256).reshape(1, 16, 16)
        >>> round(medloom.metrics.ssim(image, image, data_range=255), 2)
        1.0
        >>> round(medloom.metrics.ssim(image, 255 - image, data_range=255), 2)
        -0.53
    """
    local = np.multiply(*_local(*_images(x, y, data_range), data_range))
    if where is None:
        return float(local.mean())
    return float(local[:, where].mean()) if where.any() else float("nan")


def ms_ssim(x: np.ndarray, y: np.ndarray, data_range: float, scales: int | None = None) -> float:
    """Multi-scale structural similarity (Wang et al. 2003, eq. 7), 0 to 1, mean over channels.

    Contrast and structure are compared at every scale, luminance at the coarsest only. Between scales, images are
    halved by averaging 2 pixels along each axis; an odd last pixel is dropped. Structure of opposite sign counts as 0,
    because its power is undefined.

    Args:
        x: image `(C, *spatial)`, values from 0 to `data_range`.
        y: image of the same shape.
        data_range: highest possible value; the lowest is 0.
        scales: number of scales; by default as many of the five as the image has room for (`scales_of`). With fewer
            than five the published weights of the used scales are normalised to a sum of 1.

    Raises:
        UserError: as `ssim`, or more than five scales or than there is room for.

    Examples:
        >>> image = np.linspace(0, 255, 1024).reshape(1, 32, 32)
        >>> round(medloom.metrics.ms_ssim(image, image, data_range=255), 2)
        1.0
    """
    x, y = _images(x, y, data_range)
    room = scales_of(x.shape[1:])
    if not 1 <= (scales := room if scales is None else scales) <= room:
        raise UserError(f"MS-SSIM of {scales} scales of images of shape {x.shape}; there is room for {room}.")
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    value = 1.0
    for scale, weight in enumerate(weights, 1):
        luminance, structure = _local(x, y, data_range)
        value *= max(float((luminance * structure if scale == scales else structure).mean()), 0.0) ** weight
        for axis in range(1, x.ndim):
            even = x.shape[axis] // 2 * 2
            x, y = (np.add.reduceat(z.take(range(even), axis), range(0, even, 2), axis) / 2 for z in (x, y))
    return float(value)


def scales_of(size: Sequence[int]) -> int:
    """The number of MS-SSIM scales that an image has room for: the window must fit into the coarsest.

    Five scales need more than 160 pixels along every axis.
    """
    return sum(min(size) > (2 * RADIUS) * 2**scale for scale in range(len(WEIGHTS)))


def dice(x: np.ndarray, y: np.ndarray) -> float:
    """Overlap of two regions, 2 |x and y| / (|x| + |y|), 0 to 1; nan if both are empty (Dice 1945).

    Args:
        x: bool, any shape.
        y: bool of the same shape.

    Examples:
        >>> x, y = np.array([True, True, False]), np.array([True, False, False])
        >>> round(medloom.metrics.dice(x, y), 2)
        0.67
    """
    both = int(x.sum()) + int(y.sum())
    return 2 * int((x & y).sum()) / both if both else float("nan")


def _local(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Luminance, and contrast times structure, around each pixel of each channel.

    Raises:
        UserError: too short axes, or negative values.
    """
    if x.ndim not in (3, 4) or min(x.shape[1:]) <= RADIUS:
        raise UserError(
            f"SSIM of images of shape {x.shape}; give (C, *spatial) with at least {RADIUS + 1} pixels per axis."
        )
    # Local means of opposite sign would cancel out: an image and its negative would score high.
    if min(x.min(), y.min()) < 0:
        raise UserError(
            f"SSIM of values down to {min(x.min(), y.min()):g}; shift images so that their range starts at 0."
        )
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)  # eq. 6
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)  # eq. 9 times eq. 10
    return luminance, structure


def _window(x: np.ndarray) -> np.ndarray:
    """Gaussian means around each pixel of each channel."""
    return np.asarray(gaussian_filter(x, SIGMA, axes=tuple(range(1, x.ndim)), radius=RADIUS, mode="mirror"))


def _images(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or not x.size:
        raise UserError(f"paired images have shapes {x.shape} and {y.shape}; they must be equal and not empty.")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and 0 < data_range < np.inf):
        raise UserError(f"image values must be finite and the data range, {data_range}, above 0.")
    return x, y
