"""What a network may predict from a noisy sample, and the data and the noise that each kind implies.

A noisy sample is x_t = alpha x0 + sigma noise. The kinds are `epsilon` (the noise), `v` = alpha noise - sigma x0
(Salimans and Ho 2022), and `flow` = noise - x0, for which alpha = 1 - sigma (Liu et al. 2023).
"""

from torch import Tensor

KINDS = ("epsilon", "v", "flow")
Level = float | Tensor


def x0_from(kind: str, prediction: Tensor, x_t: Tensor, alpha: Level, sigma: Level) -> Tensor:
    """The data that a prediction of `kind` implies at the noise level (alpha, sigma); all shapes broadcast."""
    if kind == "epsilon":
        return (x_t - sigma * prediction) / alpha  # Ho et al. 2020, eq. 4 solved for x0
    if kind == "v":
        return alpha * x_t - sigma * prediction  # Salimans and Ho 2022, appendix D
    return x_t - sigma * prediction  # Liu et al. 2023, eq. 1: x_t = x0 + t (noise - x0)


def noise_from(kind: str, prediction: Tensor, x_t: Tensor, alpha: Level, sigma: Level) -> Tensor:
    """The noise that a prediction of `kind` implies at the noise level (alpha, sigma); all shapes broadcast."""
    if kind == "epsilon":
        return prediction
    if kind == "v":
        return alpha * prediction + sigma * x_t  # Salimans and Ho 2022, appendix D
    return x_t + alpha * prediction  # x_t = noise - (1 - t) (noise - x0)


def apply_noise_offset(noise: Tensor, offset: Tensor, strength: float) -> Tensor:
    """Noise whose mean varies by image and channel, so that overall brightness is learned (Guttenberg 2023).

    Args:
        noise: standard normal `(N, C, *spatial)`.
        offset: standard normal `(N, C)`, drawn by the caller.
        strength: 0 for none; 0.1 is usual.

    Returns:
        `noise + strength * offset`, of the shape and dtype of `noise`.
    """
    return noise + strength * offset.to(noise).view(*offset.shape, *[1] * (noise.ndim - offset.ndim))
