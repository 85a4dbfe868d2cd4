"""Samplers: functions that turn noise into samples by following a path from noise to data.

Call one as `sampler(denoise, x, path, levels, noise_fn=None, callback=None)`:

    denoise   (x, t) -> prediction, the network with its guidance; t is `(N,)` in the path's own time
    x         samples at the first of the levels, `(N, C, *spatial)`, as a rule standard normal noise; the result has
              its shape and dtype
    path      the path that the network was trained on
    levels    the noise levels to visit, from noise to data, as the functions of `medloom.processes.levels` give them
    noise_fn  (index) -> standard normal noise `(N, C, *spatial)`; only stochastic samplers need it
    callback  called with each `Step`

It returns the samples at the last level. `eta`, where a sampler has it, is a keyword. With the levels of its row in
SAMPLERS, a sampler's results equal those of diffusers' schedulers with Stable Diffusion's settings: spacing `leading`,
offset 1, no clipping; DDIM and PNDM end at the path's first level.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.processes.levels import NoiseLevel, karras, leading, log_snr, solver, to_data, trailing, uniform
from medloom.processes.paths import DDPM, ProbabilityPath, RectifiedFlow, x0_from
from medloom.processes.steps import (
    Callback,
    Denoise,
    NoiseFunction,
    Step,
    ddim_step,
    draw,
    evaluate,
    flow_sde_step,
)

Sampler = Callable[..., Tensor]
Levels = Sequence[NoiseLevel]
# Adams-Bashforth coefficients, newest prediction first (Liu et al. 2022, PNDM, eq. 12 and appendix).
PLMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _follow(
    x: Tensor,
    levels: Levels,
    transition: Callable[[int, NoiseLevel, NoiseLevel, Tensor], tuple[Tensor, float]],
    noise_fn: NoiseFunction | None,
    callback: Callback | None,
) -> Tensor:
    """Take one step per pair of levels; `transition` gives the mean and standard deviation of each next sample."""
    for index, (now, then) in enumerate(pairwise(levels)):
        mean, std = transition(index, now, then, x)
        x_next = draw(mean, std, index, noise_fn)
        if callback:
            callback(Step(index, now, then, x, x_next, mean, std))
        x = x_next
    return x


def ddim(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
    window: range | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021). `eta` 0 is deterministic; 1 has the variance of DDPM and needs `noise_fn`.

    With eta 1 and the levels `trailing` it is DDPM's own sampling (Ho et al. 2020, algorithm 2). With a `window` only
    its steps add noise (Li et al. 2025, MixGRPO).
    """

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        own = eta if window is None or index in window else 0.0
        return ddim_step(evaluate(denoise, x, path, now), x, path.kind, now, then, own)

    return _follow(x, levels, transition, noise_fn, callback)


def pndm(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Linear multistep PNDM without Runge-Kutta steps (Liu et al. 2022), known as PLMS in Stable Diffusion.

    A second evaluation at its end improves the first step: one evaluation more than there are steps.
    """
    history: list[Tensor] = []

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        history[:] = [evaluate(denoise, x, path, now), *history[:3]]
        terms = [factor * prediction for factor, prediction in zip(PLMS[len(history) - 1], history, strict=True)]
        combined = torch.stack(terms).sum(dim=0)
        if index == 0 and len(levels) > 2:
            trial, _ = ddim_step(combined, x, path.kind, now, then)
            combined = (combined + evaluate(denoise, trial, path, then)) / 2
        return ddim_step(combined, x, path.kind, now, then)  # eq. 11, the transfer

    return _follow(x, levels, transition, noise_fn, callback)


def euler(
    denoise: Denoise,
    x: Tensor,
    path: DDPM,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method in the variance-exploding variable y = x / alpha (Karras et al. 2022, algorithm 1)."""

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        x0 = x0_from(path.kind, evaluate(denoise, x, path, now), x, now.alpha, now.sigma)
        slope = (x / now.alpha - x0) / (now.sigma / now.alpha)  # algorithm 1, line 4
        y = x / now.alpha + (then.sigma / then.alpha - now.sigma / now.alpha) * slope  # line 5
        return then.alpha * y, 0.0

    return _follow(x, levels, transition, noise_fn, callback)


def dpm_solver(
    denoise: Denoise,
    x: Tensor,
    path: ProbabilityPath,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    A last step to sigma 0 is of first order. It is the sampler of an exported pipeline.
    """
    before: Tensor | None = None
    h_before = 0.0

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        nonlocal before, h_before
        x0 = x0_from(path.kind, evaluate(denoise, x, path, now), x, now.alpha, now.sigma)
        h = _log_snr(then) - _log_snr(now)
        direction = x0
        if before is not None and then.sigma > 0:
            # x0 + (x0 - before) h / (2 h_before), algorithm 2, line 9 with r = h_before / h. In place, because whole
            # volumes are sampled and the memory of a step is counted in copies of them.
            direction = before.neg_().add_(x0).mul_(h / (2 * h_before)).add_(x0)
        before, h_before = x0, h
        return (then.sigma / now.sigma * x).sub_(direction, alpha=then.alpha * math.expm1(-h)), 0.0  # line 10

    return _follow(x, levels, transition, noise_fn, callback)


def flow_euler(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method on dx/dt = v (Liu et al. 2023, eq. 1)."""

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        return x + (then.sigma - now.sigma) * evaluate(denoise, x, path, now), 0.0

    return _follow(x, levels, transition, noise_fn, callback)


def flow_heun(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Heun's method on dx/dt = v (Karras et al. 2022, algorithm 1), Euler at the last step: 2 steps - 1 evaluations."""

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        velocity, step = evaluate(denoise, x, path, now), then.sigma - now.sigma
        x_next = x + step * velocity
        if then.sigma > 0:
            corrected = (velocity + evaluate(denoise, x_next, path, then)) / 2  # algorithm 1, line 8
            x_next = x + step * corrected
        return x_next, 0.0

    return _follow(x, levels, transition, noise_fn, callback)


def flow_sde(
    denoise: Denoise,
    x: Tensor,
    path: RectifiedFlow,
    levels: Levels,
    *,
    noise_fn: NoiseFunction | None = None,
    callback: Callback | None = None,
    eta: float = 0.7,
    window: range | None = None,
) -> Tensor:
    """A stochastic sampler with the flow's marginals (`flow_sde_step`); needs `noise_fn` unless `eta` is 0.

    With a `window` only its steps add noise (Li et al. 2025, MixGRPO).
    """

    def transition(index: int, now: NoiseLevel, then: NoiseLevel, x: Tensor) -> tuple[Tensor, float]:
        own = eta if window is None or index in window else 0.0
        return flow_sde_step(evaluate(denoise, x, path, now), x, path.kind, now, then, own)

    return _follow(x, levels, transition, noise_fn, callback)


def _log_snr(level: NoiseLevel) -> float:
    return math.log(level.alpha / level.sigma) if level.sigma > 0 else math.inf


class SamplerRow(NamedTuple):
    """A sampler, the kind of path that it follows, and the levels that it visits: a function of path and steps."""

    path: type[ProbabilityPath]
    function: Sampler
    levels: Callable[[Any, int], list[NoiseLevel]]


# Of flows that were trained near the data.
NEAR_DATA = "flow-dpm++2m-log"
# The first one of a path is its default. A further sampler is a function and a row.
SAMPLERS: dict[str, SamplerRow] = {
    "dpm++2m-karras": SamplerRow(DDPM, dpm_solver, karras),
    "ddim": SamplerRow(DDPM, ddim, leading),
    "pndm": SamplerRow(DDPM, pndm, leading),
    "euler": SamplerRow(DDPM, euler, to_data),
    "ancestral": SamplerRow(DDPM, partial(ddim, eta=1.0), trailing),
    "flow-dpm++2m": SamplerRow(RectifiedFlow, dpm_solver, solver),
    NEAR_DATA: SamplerRow(RectifiedFlow, dpm_solver, log_snr),
    "flow-euler": SamplerRow(RectifiedFlow, flow_euler, uniform),
    "flow-heun": SamplerRow(RectifiedFlow, flow_heun, uniform),
    "flow-sde": SamplerRow(RectifiedFlow, flow_sde, uniform),
}
# Deterministic, and of first order: what an inversion is undone by.
FIRST_ORDER = (SamplerRow(DDPM, ddim, trailing), SAMPLERS["flow-euler"])
# Stochastic, with steps that can be scored again.
STOCHASTIC = (SAMPLERS["ancestral"], SAMPLERS["flow-sde"])


def samplers_for(path: ProbabilityPath) -> tuple[str, ...]:
    """Names in SAMPLERS that fit `path`, the default first."""
    return tuple(name for name, row in SAMPLERS.items() if isinstance(path, row.path))


def default_sampler(path: ProbabilityPath) -> str:
    """The sampler used if none is named: DPM-Solver++(2M), on the levels that the path was trained for.

    Levels near the data are visited if training visited them; a network that has not seen them leaves noise there.
    """
    if isinstance(path, RectifiedFlow) and path.near_data:
        return NEAR_DATA
    return samplers_for(path)[0]


def first_order(path: ProbabilityPath) -> SamplerRow:
    """The deterministic sampler of first order for a path.

    Raises:
        UserError: there is none.
    """
    return _fitting(FIRST_ORDER, path, "sampler of first order")


def stochastic(path: ProbabilityPath) -> SamplerRow:
    """A stochastic sampler of a path whose steps can be scored again, and which takes a `window`.

    Raises:
        UserError: there is none.
    """
    return _fitting(STOCHASTIC, path, "stochastic sampler")


def _fitting(rows: Sequence[SamplerRow], path: ProbabilityPath, what: str) -> SamplerRow:
    for row in rows:
        if isinstance(path, row.path):
            return row
    raise UserError(f"a {type(path).__name__} path has no {what}.")


def get_sampler(name: str, path: ProbabilityPath) -> SamplerRow:
    """The sampler called `name`, with its levels.

    Raises:
        UserError: unknown, or it does not fit the path; lists those that do.
    """
    look_up(SAMPLERS, name, "sampler")
    fitting = {known: SAMPLERS[known] for known in samplers_for(path)}
    return look_up(fitting, name, f"sampler of a {type(path).__name__} path")
