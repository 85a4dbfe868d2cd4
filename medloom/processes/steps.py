"""The steps of a sampler: the Gaussian from which it draws the next sample.

Samplers and policy gradients use the same functions, so that a sampled trajectory can be scored again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.processes.levels import NoiseLevel
from medloom.processes.paths import ProbabilityPath, noise_from, x0_from

Denoise = Callable[[Tensor, Tensor], Tensor]
NoiseFunction = Callable[[int], Tensor]


@dataclass(frozen=True)
class Step:
    """One transition of a batch, as passed to a sampler's callback.

    Attributes:
        index: 0 for the first.
        now: noise level of `x`.
        then: noise level of `x_next`.
        x: the samples before the step, `(N, C, *spatial)`.
        x_next: the samples after it, drawn from Normal(mean, std^2).
        mean: `(N, C, *spatial)`.
        std: one standard deviation for the whole batch; 0 if the step is deterministic.
    """

    index: int
    now: NoiseLevel
    then: NoiseLevel
    x: Tensor
    x_next: Tensor
    mean: Tensor
    std: float


Callback = Callable[[Step], None]


def evaluate(denoise: Denoise, x: Tensor, path: ProbabilityPath, level: NoiseLevel) -> Tensor:
    """The prediction at one noise level for the whole batch, in the dtype of `x`."""
    return denoise(x, torch.full((len(x),), level.time, dtype=path.time_dtype, device=x.device)).to(x)


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


def ddim_step(
    prediction: Tensor, x: Tensor, kind: str, now: NoiseLevel, then: NoiseLevel, eta: float = 0.0
) -> tuple[Tensor, float]:
    """Mean and standard deviation of the next sample (Song et al. 2021, DDIM).

    Args:
        prediction: the network's output for `x` at the level `now`, `(N, C, *spatial)`.
        x: the samples at the level `now`.
        kind: what the network predicts: `epsilon` or `v`.
        now: noise level of `x`.
        then: a lower level.
        eta: 0 for the deterministic sampler, 1 for the variance of DDPM.
    """
    x0 = x0_from(kind, prediction, x, now.alpha, now.sigma)
    noise = noise_from(kind, prediction, x, now.alpha, now.sigma)
    std = eta * then.sigma / now.sigma * math.sqrt(1 - (now.alpha / then.alpha) ** 2)  # eq. 16
    return then.alpha * x0 + math.sqrt(then.sigma**2 - std**2) * noise, std  # eq. 12


def flow_sde_step(
    prediction: Tensor, x: Tensor, kind: str, now: NoiseLevel, then: NoiseLevel, eta: float = 0.7
) -> tuple[Tensor, float]:
    """Mean and standard deviation of the next sample of an SDE with the marginals of the flow's ODE.

    The noise is that of Flow-GRPO (Liu et al. 2025, section 4.2), eta sqrt(t / (1 - t)) sqrt(dt). Its Euler-Maruyama
    mean leaves more noise in the sample than the next level has. The mean is therefore the form of DDIM, which meets
    the level exactly and agrees with it to first order in dt (Wang and Yu 2025, Flow-CPS).

    Args:
        prediction: the network's output for `x` at the level `now`, `(N, C, *spatial)`.
        x: the samples at the level `now`.
        kind: what the network predicts: `flow`.
        now: noise level of `x`, sigma in (0, 1].
        then: a lower level; at 0 the step is deterministic.
        eta: strength of the noise, 0 for the ODE.
    """
    x0 = x0_from(kind, prediction, x, now.alpha, now.sigma)
    noise = noise_from(kind, prediction, x, now.alpha, now.sigma)
    # The diffusion coefficient is infinite at pure noise, where Flow-GRPO uses that of the next level.
    of_data = now.alpha if now.sigma < 1 else then.alpha
    std = min(eta * math.sqrt(now.sigma / of_data * (now.sigma - then.sigma)), then.sigma)
    return then.alpha * x0 + math.sqrt(then.sigma**2 - std**2) * noise, std


def log_probability(x_next: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log density of Normal(mean, std^2) at `x_next`, averaged over pixels: float32 `(N,)`.

    Raises:
        UserError: the step is deterministic.
    """
    if std <= 0:
        raise UserError("a deterministic step has no density; use a stochastic sampler (flow-sde, or ddim with eta).")
    standardised = (x_next.float() - mean.float()) / std
    return (-0.5 * standardised**2 - math.log(std) - 0.5 * math.log(2 * math.pi)).flatten(1).mean(dim=1)
