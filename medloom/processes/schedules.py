"""Noise schedules: how much noise each step of a discrete diffusion adds, and how the loss weighs the steps."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

MAX_BETA = 0.999


def linear(steps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Betas on a line (Ho et al. 2020, section 4): float64 `(steps,)`, each in (0, 1)."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear(steps: int, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """Betas whose square roots lie on a line (Rombach et al. 2022, Stable Diffusion): float64 `(steps,)`."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine(steps: int) -> Tensor:
    """Betas of a squared-cosine alpha-bar, clipped at 0.999 (Nichol and Dhariwal 2021, eq. 17): float64 `(steps,)`."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2  # eq. 17
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)


SCHEDULES: dict[str, Callable[..., Tensor]] = {"linear": linear, "scaled-linear": scaled_linear, "cosine": cosine}


def min_snr_weight(snr: Tensor, gamma: float, prediction: str) -> Tensor:
    """Weight of the squared error at a signal-to-noise ratio (Hang et al. 2023, section 3.4).

    Args:
        snr: alpha^2 / sigma^2, any shape, positive.
        gamma: the ratio above which steps are no longer weighed up; 5 in the paper.
        prediction: `epsilon` or `v`, what the error is measured in.

    Returns:
        The weights, of the shape and dtype of `snr`, in (0, 1].
    """
    clipped = snr.clamp(max=gamma)
    return clipped / (snr + 1) if prediction == "v" else clipped / snr
