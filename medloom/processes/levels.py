"""Noise levels: which ones a sampler visits, from noise to data. Starting from an image takes the last of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.processes.paths import DDPM, NEAREST, TIME_SCALE, ProbabilityPath, RectifiedFlow

RHO = 7.0
# After pure noise, before the shift: above it the data hardly show.
NOISY = 0.95


class NoiseLevel(NamedTuple):
    """A level x = alpha x0 + sigma noise, and the time that the network is given there, in the path's own unit."""

    time: float
    alpha: float
    sigma: float


def leading(path: DDPM, steps: int) -> list[NoiseLevel]:
    """Stable Diffusion's own levels, evenly from below the noisiest level to level 0 (spacing `leading`, offset 1).

    Few steps lose contrast, because the noisiest level is left out.

    Raises:
        UserError: a number of steps out of range.
    """
    _check_steps(steps, path, path.steps - 1)
    stride = path.steps // steps
    return [_discrete(path, time) for time in [*range(1 + (steps - 1) * stride, 0, -stride), 0]]


def trailing(path: DDPM, steps: int) -> list[NoiseLevel]:
    """Levels evenly from the noisiest one to level 0 (Lin et al. 2024, table 2); all of them where `steps` allows it.

    Raises:
        UserError: a number of steps out of range.
    """
    _check_steps(steps, path, path.steps)
    times = np.round(np.arange(path.steps, 0, -path.steps / steps))[:steps].astype(int) - 1
    return [_discrete(path, time) for time in [*times.tolist(), 0]]


def to_data(path: DDPM, steps: int) -> list[NoiseLevel]:
    """As `leading`, with data without any noise at the end."""
    return [*leading(path, steps)[:-1], NoiseLevel(0, 1.0, 0.0)]


def karras(path: DDPM, steps: int) -> list[NoiseLevel]:
    """The `steps` levels of Karras et al. 2022 (eq. 5); the network is given the nearest time.

    They end at the smallest noise level of training, not at 0: real images have that little noise of their own, and
    samples without it lie measurably further from them.

    Raises:
        UserError: a number of steps out of range.
    """
    _check_steps(steps, path, path.steps - 1)
    table = ((1 - path.alpha_bar) / path.alpha_bar).sqrt().numpy()
    ramp = np.linspace(0, 1, steps)
    high, low = table[-1] ** (1 / RHO), table[0] ** (1 / RHO)
    ratios = (high + ramp * (low - high)) ** RHO  # eq. 5
    times = np.round(np.interp(np.log(ratios), np.log(table), np.arange(path.steps)))
    pairs = zip(times.tolist(), ratios.tolist(), strict=True)
    levels = [NoiseLevel(time, 1 / math.sqrt(r**2 + 1), r / math.sqrt(r**2 + 1)) for time, r in pairs]
    return levels if steps > 1 else [*levels, _discrete(path, 0)]


def uniform(path: RectifiedFlow, steps: int) -> list[NoiseLevel]:
    """The levels of the Euler and Heun flow samplers, from 1 to 0.

    As in diffusers, the lowest level before 0 is 1/1000, and the shift applies both to the ends and to the levels
    between them.

    Raises:
        UserError: a number of steps out of range.
    """
    sigmas = shifted(np.linspace(1.0, shifted(1 / TIME_SCALE, path.shift), _flow_steps(steps)), path.shift)
    return [NoiseLevel(sigma, 1 - sigma, sigma) for sigma in [*sigmas.tolist(), 0.0]]


def solver(path: RectifiedFlow, steps: int) -> list[NoiseLevel]:
    """The levels of DPM-Solver on a flow, from 0.999 (before the shift) to 0.

    As in diffusers, the network is given the time rounded down to a whole thousandth.

    Raises:
        UserError: a number of steps out of range.
    """
    sigmas = shifted(1.0 - np.linspace(1, 1 / TIME_SCALE, _flow_steps(steps) + 1), path.shift)[::-1]
    return [NoiseLevel(int(sigma * TIME_SCALE) / TIME_SCALE, 1 - sigma, sigma) for sigma in sigmas.tolist()]


def log_snr(path: RectifiedFlow, steps: int) -> list[NoiseLevel]:
    """Pure noise, then levels evenly in log-SNR (Lu et al. 2022, DPM-Solver, section 3.4) down to NEAREST, then data.

    Data of little contrast form late. Ten such levels give Gaussian data of any standard deviation from 0.02 to 0.6
    their variance within a fifth, twenty within a fourteenth; twenty even levels leave a tenth of it at 0.02.

    Raises:
        UserError: a number of steps out of range.
    """
    high, low = (math.log(end / (1 - end)) for end in (float(shifted(NOISY, path.shift)), NEAREST))
    even: list[float] = (1 / (1 + np.exp(-np.linspace(high, low, _flow_steps(steps) - 1)))).tolist()
    sigmas = [float(shifted(1 - 1 / TIME_SCALE, path.shift)), *even]
    return [NoiseLevel(sigma, 1 - sigma, sigma) for sigma in [*sigmas, 0.0]]


def from_strength(levels: Sequence[NoiseLevel], path: ProbabilityPath, strength: float) -> Sequence[NoiseLevel]:
    """The levels at most `strength` of the way to noise, or the last step where there is none; all for strength 1."""
    times = torch.tensor([level.time for level in levels]).to(path.time_dtype)
    above = int((path.fraction(times) > strength).sum())
    return levels[min(above, len(levels) - 2) :]


def shifted(sigma: NDArray[np.float64] | float, shift: float) -> NDArray[np.float64]:
    """Shift levels towards noise (Esser et al. 2024, eq. 23)."""
    return np.asarray(shift * sigma / (1 + (shift - 1) * sigma))


def _discrete(path: DDPM, time: int) -> NoiseLevel:
    alpha_bar = float(path.alpha_bar[time])
    return NoiseLevel(time, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))


def _check_steps(steps: int, path: DDPM, most: int) -> None:
    if not 1 <= steps <= most:
        raise UserError(f"{steps} sampling steps; allowed: 1 to {most} for a path of {path.steps} levels.")


def _flow_steps(steps: int) -> int:
    if not 1 <= steps <= TIME_SCALE:
        raise UserError(f"{steps} sampling steps; allowed: 1 to {TIME_SCALE}.")
    return steps
