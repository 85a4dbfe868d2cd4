"""Samplers of rectified flow; `samplers.py` says how they are called."""

from itertools import pairwise

import torch
from torch import Tensor

from medloom.processes.paths import TIME_SCALE, RectifiedFlow
from medloom.processes.solver import dpm_solver_2m
from medloom.processes.steps import (
    Callback,
    Denoise,
    NoiseFunction,
    Step,
    deterministic,
    draw,
    evaluate,
    flow_sde_step,
    flow_sigmas,
    flow_solver_sigmas,
)


def flow_euler(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method on dx/dt = v (Liu et al. 2023, eq. 1)."""
    sigmas = flow_sigmas(path, steps)
    for index, (time, next_time) in enumerate(pairwise(sigmas)):
        x_next = x + (next_time - time) * evaluate(denoise, x, time, torch.float32)
        if callback:
            callback(deterministic(index, time, next_time, x, x_next))
        x = x_next
    return x


def flow_heun(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Heun's method on dx/dt = v (Karras et al. 2022, algorithm 1), Euler at the last step: 2 steps - 1 evaluations."""
    sigmas = flow_sigmas(path, steps)
    for index, (time, next_time) in enumerate(pairwise(sigmas)):
        velocity = evaluate(denoise, x, time, torch.float32)
        x_next = x + (next_time - time) * velocity
        if next_time > 0:
            corrected = (velocity + evaluate(denoise, x_next, next_time, torch.float32)) / 2  # algorithm 1, line 8
            x_next = x + (next_time - time) * corrected
        if callback:
            callback(deterministic(index, time, next_time, x, x_next))
        x = x_next
    return x


def flow_dpm_solver(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) on a flow, the sampler of an exported pipeline.

    As in diffusers, the network is told the time rounded down to a whole thousandth.
    """
    sigmas = flow_solver_sigmas(path, steps)
    levels = [(1 - sigma, sigma) for sigma in sigmas]
    times = [int(sigma * TIME_SCALE) / TIME_SCALE for sigma in sigmas[:-1]]
    return dpm_solver_2m(denoise, x, path.kind, levels, times, torch.float32, callback)


def flow_sde(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
    eta: float = 0.7,
) -> Tensor:
    """A stochastic sampler with the flow's marginals (`flow_sde_step`); asks for `noise_fn` unless `eta` is 0."""
    sigmas = flow_sigmas(path, steps)
    for index, (time, next_time) in enumerate(pairwise(sigmas)):
        prediction = evaluate(denoise, x, time, torch.float32)
        mean, std = flow_sde_step(prediction, x, path, time, next_time, eta)
        x_next = draw(mean, std, index, noise_fn)
        if callback:
            callback(Step(index, time, next_time, x, x_next, mean, std))
        x = x_next
    return x
