"""Samplers: functions that turn noise into samples by following a path from noise to data.

Call one as `sampler(denoise, x, path, steps, noise_fn=None, callback=None)`:

    denoise   (x, t) -> prediction, the network with its guidance; t is `(N,)` in the path's own time
    x         standard normal noise, `(N, C, *spatial)`; the result has its shape and dtype
    path      the path that the network was trained on
    steps     number of steps
    noise_fn  (index) -> standard normal noise `(N, C, *spatial)`; only stochastic samplers need it
    callback  called with each `Step`

It returns the data that the network and the sampler imply. `eta` and `spacing`, where a sampler has them, are keywords.
Results equal those of diffusers' schedulers with Stable Diffusion's settings: spacing `leading`, offset 1, no clipping;
DDIM and PNDM end at the path's first level.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.processes.paths import DDPM, TIME_SCALE, ProbabilityPath, RectifiedFlow, x0_from
from medloom.processes.steps import (
    Callback,
    Denoise,
    NoiseFunction,
    Step,
    ddim_step,
    ddpm_times,
    draw,
    evaluate,
    flow_sde_step,
    flow_sigmas,
    flow_solver_sigmas,
)

Sampler = Callable[..., Tensor]
NoiseLevel = tuple[float, float]
RHO = 7.0
# Adams-Bashforth coefficients, newest prediction first (Liu et al. 2022, PNDM, eq. 12 and appendix).
PLMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _follow(
    x: Tensor,
    times: Iterable[tuple[float, float]],
    transition: Callable[[int, float, float, Tensor], tuple[Tensor, float]],
    noise_fn: NoiseFunction | None,
    callback: Callback | None,
) -> Tensor:
    """Take one step per (time, next time); `transition` gives the mean and standard deviation of each next sample."""
    for index, (time, next_time) in enumerate(times):
        mean, std = transition(index, time, next_time, x)
        x_next = draw(mean, std, index, noise_fn)
        if callback:
            callback(Step(index, time, next_time, x, x_next, mean, std))
        x = x_next
    return x


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
    """DDIM (Song et al. 2021). `eta` 0 is deterministic; 1 has the variance of DDPM and needs `noise_fn`."""

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        prediction = evaluate(denoise, x, time, torch.long)
        return ddim_step(prediction, x, path, int(time), int(next_time), eta)

    return _follow(x, ddpm_times(path, steps, spacing), transition, noise_fn, callback)


def ancestral(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DDPM's own sampling (Ho et al. 2020, algorithm 2) over all levels or an even subset: DDIM with eta 1."""
    return ddim(denoise, x, path, steps, noise_fn=noise_fn, callback=callback, eta=1.0, spacing="trailing")


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

    A second evaluation at its end improves the first step: steps + 1 evaluations in all.
    """
    history: list[Tensor] = []

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        history[:] = [evaluate(denoise, x, time, torch.long), *history[:3]]
        terms = [factor * prediction for factor, prediction in zip(PLMS[len(history) - 1], history, strict=True)]
        combined = torch.stack(terms).sum(dim=0)
        if index == 0 and steps > 1:
            trial, _ = ddim_step(combined, x, path, int(time), int(next_time))
            combined = (combined + evaluate(denoise, trial, next_time, torch.long)) / 2
        return ddim_step(combined, x, path, int(time), int(next_time))  # eq. 11, the transfer

    return _follow(x, ddpm_times(path, steps), transition, noise_fn, callback)


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

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        (alpha, sigma), (next_alpha, next_sigma) = levels[index], levels[index + 1]
        x0 = x0_from(path.kind, evaluate(denoise, x, time, torch.long), x, alpha, sigma)
        slope = (x / alpha - x0) / (sigma / alpha)  # algorithm 1, line 4
        y = x / alpha + (next_sigma / next_alpha - sigma / alpha) * slope  # line 5
        return next_alpha * y, 0.0

    return _follow(x, pairwise([*times, 0]), transition, noise_fn, callback)


def dpm_solver_karras(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    steps: int,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) on the noise levels of Karras et al. 2022 (eq. 5); the network is given the nearest step.

    Like DDIM and PNDM it ends at the smallest noise level of training, not at 0: real images have that little noise of
    their own, and samples without it lie measurably further from them.
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


def _level(path: DDPM, time: int) -> NoiseLevel:
    alpha_bar = float(path.alpha_bar[time])
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


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

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        return x + (next_time - time) * evaluate(denoise, x, time, torch.float32), 0.0

    return _follow(x, pairwise(flow_sigmas(path, steps)), transition, noise_fn, callback)


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

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        velocity = evaluate(denoise, x, time, torch.float32)
        x_next = x + (next_time - time) * velocity
        if next_time > 0:
            corrected = (velocity + evaluate(denoise, x_next, next_time, torch.float32)) / 2  # algorithm 1, line 8
            x_next = x + (next_time - time) * corrected
        return x_next, 0.0

    return _follow(x, pairwise(flow_sigmas(path, steps)), transition, noise_fn, callback)


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

    As in diffusers, the network is given the time rounded down to a whole thousandth.
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
    """A stochastic sampler with the flow's marginals (`flow_sde_step`); needs `noise_fn` unless `eta` is 0."""

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        return flow_sde_step(evaluate(denoise, x, time, torch.float32), x, path, time, next_time, eta)

    return _follow(x, pairwise(flow_sigmas(path, steps)), transition, noise_fn, callback)


def dpm_solver_2m(
    denoise: Denoise,
    x: Tensor,
    kind: str,
    levels: Sequence[NoiseLevel],
    times: Sequence[float],
    dtype: torch.dtype,
    callback: Callback | None,
) -> Tensor:
    """DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    A last step to sigma 0 is of first order.

    Args:
        denoise: the network with its guidance.
        x: samples at the first level, `(N, C, *spatial)`.
        kind: what the network predicts: `epsilon`, `v` or `flow`.
        levels: (alpha, sigma) of each visited level and of the last.
        times: the time given to `denoise` at each level but the last.
        dtype: dtype of the times.
        callback: called with each Step.

    Returns:
        The samples at the last level.
    """
    before: Tensor | None = None
    h_before = 0.0

    def transition(index: int, time: float, next_time: float, x: Tensor) -> tuple[Tensor, float]:
        nonlocal before, h_before
        level, then = levels[index], levels[index + 1]
        x0 = x0_from(kind, evaluate(denoise, x, time, dtype), x, *level)
        h = _log_snr(then) - _log_snr(level)
        direction = x0
        if before is not None and then[1] > 0:
            # x0 + (x0 - before) h / (2 h_before), algorithm 2, line 9 with r = h_before / h. In place, because whole
            # volumes are sampled and the memory of a step is counted in copies of them.
            direction = before.neg_().add_(x0).mul_(h / (2 * h_before)).add_(x0)
        before, h_before = x0, h
        return (then[1] / level[1] * x).sub_(direction, alpha=then[0] * math.expm1(-h)), 0.0  # line 10

    return _follow(x, zip(times, [*times[1:], 0], strict=True), transition, None, callback)


def _log_snr(level: NoiseLevel) -> float:
    alpha, sigma = level
    return math.log(alpha / sigma) if sigma > 0 else math.inf


class SamplerRow(NamedTuple):
    """A sampler and the kind of path that it follows."""

    path: type[ProbabilityPath]
    function: Sampler


# The first one of a path is its default. A further sampler is a function and a row.
SAMPLERS: dict[str, SamplerRow] = {
    "dpm++2m-karras": SamplerRow(DDPM, dpm_solver_karras),
    "ddim": SamplerRow(DDPM, ddim),
    "pndm": SamplerRow(DDPM, pndm),
    "euler": SamplerRow(DDPM, euler),
    "ancestral": SamplerRow(DDPM, ancestral),
    "flow-dpm++2m": SamplerRow(RectifiedFlow, flow_dpm_solver),
    "flow-euler": SamplerRow(RectifiedFlow, flow_euler),
    "flow-heun": SamplerRow(RectifiedFlow, flow_heun),
    "flow-sde": SamplerRow(RectifiedFlow, flow_sde),
}


def samplers_for(path: ProbabilityPath) -> tuple[str, ...]:
    """Names in SAMPLERS that fit `path`, the default first."""
    return tuple(name for name, row in SAMPLERS.items() if isinstance(path, row.path))


def default_sampler(path: ProbabilityPath) -> str:
    """The sampler used if none is named: DPM-Solver++(2M), which exported pipelines use too."""
    return samplers_for(path)[0]


def first_order(path: ProbabilityPath, steps: int) -> tuple[Sampler, list[float]]:
    """The deterministic first-order sampler, and the times at which it evaluates the network, from noise to data."""
    if isinstance(path, DDPM):
        times = [float(time) for time, _ in ddpm_times(path, steps, "trailing")]
        return partial(ddim, spacing="trailing"), times
    if isinstance(path, RectifiedFlow):
        return flow_euler, flow_sigmas(path, steps)[:-1]
    raise UserError(f"a {type(path).__name__} path has no sampler of first order.")


def get_sampler(name: str, path: ProbabilityPath) -> Sampler:
    """The sampler called `name`.

    Raises:
        UserError: unknown, or it does not fit the path; lists those that do.
    """
    look_up(SAMPLERS, name, "sampler")
    fitting = {known: SAMPLERS[known].function for known in samplers_for(path)}
    return look_up(fitting, name, f"sampler of a {type(path).__name__} path")
