"""Samplers of discrete diffusion; `samplers.py` says how they are called."""

import math

import numpy as np
import torch
from torch import Tensor

from medloom.processes.paths import DDPM
from medloom.processes.predictions import x0_from
from medloom.processes.solver import dpm_solver_2m
from medloom.processes.steps import (
    Callback,
    Denoise,
    NoiseFunction,
    Step,
    ddim_step,
    ddpm_times,
    deterministic,
    draw,
    evaluate,
)

RHO = 7.0


def ddim(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
    spacing: str = "leading",
) -> Tensor:
    """DDIM (Song et al. 2021); `eta` 0 is deterministic, 1 has the variance of DDPM and asks for `noise_fn`."""
    for index, (time, next_time) in enumerate(ddpm_times(path, steps, spacing)):
        prediction = evaluate(denoise, x, time, torch.long)
        mean, std = ddim_step(prediction, x, path, time, next_time, eta)
        x_next = draw(mean, std, index, noise_fn)
        if callback:
            callback(Step(index, time, next_time, x, x_next, mean, std))
        x = x_next
    return x


def ancestral(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DDPM's own sampling (Ho et al. 2020, algorithm 2), over all levels or evenly fewer: DDIM with eta 1."""
    return ddim(denoise, x, path, steps, noise_fn=noise_fn, callback=callback, eta=1.0, spacing="trailing")


# Adams-Bashforth coefficients, newest prediction first (Liu et al. 2022, PNDM, eq. 12 and appendix).
PLMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def pndm(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Linear multistep PNDM without Runge-Kutta steps (Liu et al. 2022), known as PLMS in Stable Diffusion.

    The first step is improved by a second evaluation at its end: steps + 1 evaluations.
    """
    history: list[Tensor] = []
    for index, (time, next_time) in enumerate(ddpm_times(path, steps)):
        history = [evaluate(denoise, x, time, torch.long), *history[:3]]
        combined = _combine(history)
        if index == 0 and steps > 1:
            trial, _ = ddim_step(combined, x, path, time, next_time)
            combined = (combined + evaluate(denoise, trial, next_time, torch.long)) / 2
        x_next, _ = ddim_step(combined, x, path, time, next_time)  # eq. 11, the transfer
        if callback:
            callback(deterministic(index, time, next_time, x, x_next))
        x = x_next
    return x


def _combine(history: list[Tensor]) -> Tensor:
    terms = [factor * prediction for factor, prediction in zip(PLMS[len(history) - 1], history, strict=True)]
    return torch.stack(terms).sum(dim=0)


def euler(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
    spacing: str = "leading",
) -> Tensor:
    """Euler's method in the variance-exploding variable y = x / alpha (Karras et al. 2022, algorithm 1), down to 0."""
    times = [time for time, _ in ddpm_times(path, steps, spacing)]
    levels = [*(_level(path, time) for time in times), (1.0, 0.0)]
    for index, time in enumerate(times):
        (alpha, sigma), (next_alpha, next_sigma) = levels[index], levels[index + 1]
        x0 = x0_from(path.kind, evaluate(denoise, x, time, torch.long), x, alpha, sigma)
        slope = (x / alpha - x0) / (sigma / alpha)  # algorithm 1, line 4
        y = x / alpha + (next_sigma / next_alpha - sigma / alpha) * slope  # line 5
        x_next = next_alpha * y
        if callback:
            callback(deterministic(index, time, ([*times, 0])[index + 1], x, x_next))
        x = x_next
    return x


def dpm_solver_karras(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) on the noise levels of Karras et al. 2022 (eq. 5); the network is told the nearest step.

    It ends at the smallest noise level of training, as DDIM and PNDM do, and not at 0: images have that little noise of
    their own, and without it they lie measurably further from real ones.
    """
    ddpm_times(path, steps)
    table = ((1 - path.alpha_bar) / path.alpha_bar).sqrt().numpy()
    ramp = np.linspace(0, 1, steps)
    high, low = table[-1] ** (1 / RHO), table[0] ** (1 / RHO)
    ratios = (high + ramp * (low - high)) ** RHO  # eq. 5
    times = np.round(np.interp(np.log(ratios), np.log(table), np.arange(path.steps)))
    levels = [(1 / math.sqrt(ratio**2 + 1), ratio / math.sqrt(ratio**2 + 1)) for ratio in map(float, ratios)]
    if steps == 1:
        levels.append(_level(path, 0))
    return dpm_solver_2m(
        denoise, x, path.kind, levels, [int(time) for time in times[: len(levels) - 1]], torch.long, callback
    )


def _level(path: DDPM, time: int) -> tuple[float, float]:
    alpha_bar = float(path.alpha_bar[time])
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
