"""The steps of a sampler: which noise levels it visits, and the Gaussian from which it draws the next sample.

Samplers and policy gradients use the same functions, so that a sampled trajectory can be scored again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.errors import UserError
from medloom.processes.paths import DDPM, TIME_SCALE, RectifiedFlow, noise_from, x0_from

Denoise = Callable[[Tensor, Tensor], Tensor]
NoiseFunction = Callable[[int], Tensor]
SPACINGS = ("leading", "trailing")


@dataclass(frozen=True)
class Step:
    """One transition of a batch, as passed to a sampler's callback.

    Attributes:
        index: 0 for the first.
        time: the time of `x`, in the path's own unit.
        next_time: the time of `x_next`.
        x: the samples before the step, `(N, C, *spatial)`.
        x_next: the samples after it, drawn from Normal(mean, std^2).
        mean: `(N, C, *spatial)`.
        std: one standard deviation for the whole batch; 0 if the step is deterministic.
    """

    index: int
    time: float
    next_time: float
    x: Tensor
    x_next: Tensor
    mean: Tensor
    std: float


Callback = Callable[[Step], None]


def evaluate(denoise: Denoise, x: Tensor, time: float, dtype: torch.dtype) -> Tensor:
    """The prediction at one time for the whole batch, in the dtype of `x`; the time is passed in `dtype`."""
    return denoise(x, torch.full((len(x),), time, dtype=dtype, device=x.device)).to(x)


def draw(mean: Tensor, std: float, index: int, noise_fn: NoiseFunction | None) -> Tensor:
    """Draw from Normal(mean, std^2) with the noise of step `index`.

    Raises:
        UserError: std is above 0 and there is no `noise_fn`.
    """
    if std == 0:
        return mean
    if noise_fn is None:
        raise UserError("this sampler adds noise at every step; give noise_fn, a function of the step's index.")
    return mean + std * noise_fn(index).to(mean)


def ddpm_times(path: DDPM, steps: int, spacing: str = "leading") -> list[tuple[int, int]]:
    """Pairs (time, next time) of a discrete sampler, from noise to data.

    `leading` with an offset of 1 is Stable Diffusion's own grid. It starts below the noisiest level, so that few steps
    lose contrast. `trailing` starts at the noisiest level (Lin et al. 2024, table 2) and can visit all of them. Both
    end at level 0.

    Raises:
        UserError: an unknown spacing, or a number of steps out of range.
    """
    if spacing not in SPACINGS:
        raise UserError(f"spacing {spacing!r} is not known; allowed: {', '.join(SPACINGS)}.")
    most = path.steps - (spacing == "leading")
    if not 1 <= steps <= most:
        raise UserError(f"{steps} sampling steps; allowed: 1 to {most} for a path of {path.steps} levels.")
    stride = path.steps // steps
    if spacing == "leading":
        times = np.arange(steps)[::-1] * stride + 1
    else:
        times = np.round(np.arange(path.steps, 0, -path.steps / steps))[:steps].astype(int) - 1
    return [(int(time), max(int(time) - stride, 0)) for time in times]


def flow_sigmas(path: RectifiedFlow, steps: int) -> list[float]:
    """The `steps + 1` noise levels of the Euler and Heun flow samplers, from 1 to 0.

    As in diffusers, the lowest level before 0 is 1/1000, and the shift applies both to the ends and to the levels
    between them.

    Raises:
        UserError: fewer than one step.
    """
    _check_flow_steps(steps)
    sigmas = shifted(np.linspace(1.0, shifted(1 / TIME_SCALE, path.shift), steps), path.shift)
    return [*map(float, sigmas), 0.0]


def flow_solver_sigmas(path: RectifiedFlow, steps: int) -> list[float]:
    """The `steps + 1` noise levels of DPM-Solver on a flow, from 0.999 (before the shift) to 0.

    Raises:
        UserError: fewer than one step.
    """
    _check_flow_steps(steps)
    sigmas = 1.0 - np.linspace(1, 1 / TIME_SCALE, steps + 1)
    return [float(sigma) for sigma in shifted(sigmas, path.shift)[::-1]]


def shifted(sigma: NDArray[np.float64] | float, shift: float) -> NDArray[np.float64]:
    """Shift levels towards noise (Esser et al. 2024, eq. 23)."""
    return np.asarray(shift * sigma / (1 + (shift - 1) * sigma))


def _check_flow_steps(steps: int) -> None:
    if steps < 1:
        raise UserError(f"{steps} sampling steps; allowed: 1 or more.")


def ddim_step(
    prediction: Tensor, x: Tensor, path: DDPM, time: int, next_time: int, eta: float = 0.0
) -> tuple[Tensor, float]:
    """Mean and standard deviation of the next sample (Song et al. 2021, DDIM).

    Args:
        prediction: the network's output for `x` at `time`, `(N, C, *spatial)`.
        x: the samples at `time`.
        path: the network's path.
        time: step of `x`.
        next_time: a lower step.
        eta: 0 for the deterministic sampler, 1 for the variance of DDPM.
    """
    now, then = float(path.alpha_bar[time]), float(path.alpha_bar[next_time])
    x0 = x0_from(path.kind, prediction, x, math.sqrt(now), math.sqrt(1 - now))
    noise = noise_from(path.kind, prediction, x, math.sqrt(now), math.sqrt(1 - now))
    std = eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))  # eq. 16
    return math.sqrt(then) * x0 + math.sqrt(1 - then - std**2) * noise, std  # eq. 12


def flow_sde_step(
    prediction: Tensor, x: Tensor, path: RectifiedFlow, time: float, next_time: float, eta: float = 0.7
) -> tuple[Tensor, float]:
    """Mean and standard deviation of the next sample of an SDE with the marginals of the flow's ODE.

    The noise is that of Flow-GRPO (Liu et al. 2025, section 4.2), eta sqrt(t / (1 - t)) sqrt(dt). Its Euler-Maruyama
    mean leaves more noise in the sample than the next level has. The mean is therefore the form of DDIM, which meets
    the level exactly and agrees with it to first order in dt (Wang and Yu 2025, Flow-CPS).

    Args:
        prediction: the network's output for `x` at `time`, `(N, C, *spatial)`.
        x: the samples at `time`.
        path: the network's path.
        time: time of `x`, in (0, 1].
        next_time: a lower time; at 0 the step is deterministic.
        eta: strength of the noise, 0 for the ODE.
    """
    x0 = x0_from(path.kind, prediction, x, 1 - time, time)
    noise = noise_from(path.kind, prediction, x, 1 - time, time)
    # The diffusion coefficient is infinite at t = 1, where Flow-GRPO uses that of the next time.
    of_data = 1 - (time if time < 1 else next_time)
    std = min(eta * math.sqrt(time / of_data * (time - next_time)), next_time)
    return (1 - next_time) * x0 + math.sqrt(next_time**2 - std**2) * noise, std


def log_probability(x_next: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log density of Normal(mean, std^2) at `x_next`, averaged over pixels: float32 `(N,)`.

    Raises:
        UserError: the step is deterministic.
    """
    if std <= 0:
        raise UserError("a deterministic step has no density; use a stochastic sampler (flow-sde, or ddim with eta).")
    standardised = (x_next.float() - mean.float()) / std
    return (-0.5 * standardised**2 - math.log(std) - 0.5 * math.log(2 * math.pi)).flatten(1).mean(dim=1)
