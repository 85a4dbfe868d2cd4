"""The amount of fine detail in an image, from its power spectrum."""

import numpy as np
from scipy.signal.windows import hann

from medloom.core.errors import UserError

SMALLEST = 8  # pixels along an axis
FINE = 0.25  # cycles per pixel: half of the highest frequency along an axis


def fine_detail(image: np.ndarray, above: float = FINE) -> float:
    """Fraction of an image's variance at frequencies above `above`, 0 to 1; mean over channels.

    The spectrum is taken of the mean-free image under a Hann window, so that differences between opposite borders do
    not count as detail (Welch 1967). It does not depend on brightness and contrast; blur lowers it, noise raises it.

    Args:
        image: `(C, *spatial)`, two or three spatial axes of at least 8 pixels, values of any range.
        above: frequency in cycles per pixel, above 0 and below 0.5.

    Returns:
        The fraction; 0 for a flat image.

    Raises:
        UserError: another shape, values that are not finite, or a frequency out of range.

    Examples:
        >>> stripes = np.broadcast_to(np.arange(16) % 2, (1, 16, 16))
        >>> round(medloom.metrics.fine_detail(stripes), 2)
        1.0
    """
    image = np.asarray(image, np.float64)
    if image.ndim not in (3, 4) or min(image.shape[1:]) < SMALLEST or not np.isfinite(image).all():
        raise UserError(
            f"fine detail of an image of shape {image.shape}: give finite values (C, *spatial), with two or three"
            f" spatial axes of at least {SMALLEST} pixels."
        )
    if not 0 < above < 0.5:
        raise UserError(f"fine detail above {above} cycles per pixel; give a frequency above 0 and below 0.5.")
    axes, size = tuple(range(1, image.ndim)), image.shape[1:]
    window = np.ones(())
    for axis, length in enumerate(size):
        window = window[..., None] * hann(length, sym=False) if axis else hann(length, sym=False)
    weights = window / window.sum()
    centred = (image - (image * weights).sum(axis=axes, keepdims=True)) * window
    power = np.abs(np.fft.fftn(centred, axes=axes)) ** 2
    frequencies = np.meshgrid(*(np.fft.fftfreq(length) for length in size), indexing="ij")
    fine = np.sqrt(sum(own**2 for own in frequencies)) > above
    whole = power.sum(axis=axes)
    return float(np.where(whole > 0, power[:, fine].sum(axis=1) / np.where(whole > 0, whole, 1), 0).mean())
