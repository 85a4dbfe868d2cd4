"""Probability paths: how data, noise and time make a noisy sample, and what a network predicts from it.

A noisy sample is x_t = alpha x0 + sigma noise. A network predicts `epsilon` (the noise), `v` = alpha noise - sigma x0
(Salimans and Ho 2022), or `flow` = noise - x0, for which alpha = 1 - sigma (Liu et al. 2023).

A path holds settings only. The caller makes every draw, so that randomness is a function of (run seed, step, row).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from medloom.core.choices import NOISE_SCHEDULES, PREDICTIONS
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up

# A flow's time in [0, 1] is multiplied by this for the network, as in diffusers: one embedding serves both paths.
TIME_SCALE = 1000
MAX_BETA, LEAST_ALPHA_BAR = 0.999, 2.0**-24
# Of flows, see RectifiedFlow.near_data: noise of half a grey level of 255, as much noise as data, and the weight.
NEAREST, HALFWAY, FULL_WEIGHT = 0.005, 0.5, 0.02
Level = float | Tensor


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


def zero_terminal(betas: Tensor) -> Tensor:
    """Betas that leave nothing of the data at the last level (Lin et al. 2024, algorithm 1): float64 `(steps,)`."""
    roots = torch.cumprod(1 - betas, dim=0).sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    alpha_bar = roots**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


SCHEDULES: dict[str, Callable[..., Tensor]] = dict(zip(NOISE_SCHEDULES, (linear, scaled_linear, cosine), strict=True))


def min_snr_weight(snr: Tensor, gamma: float, prediction: str) -> Tensor:
    """Min-SNR weight of the squared error (Hang et al. 2023, section 3.4).

    Args:
        snr: alpha^2 / sigma^2, any shape, positive.
        gamma: the ratio at which the weight of a step stops growing; 5 in the paper.
        prediction: `epsilon` or `v`, the predicted quantity.

    Returns:
        Weights in (0, 1], with the shape and dtype of `snr`.
    """
    clipped = snr.clamp(max=gamma)
    return clipped / (snr + 1) if prediction == "v" else clipped / snr


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
    """Shift the mean of the noise per image and channel, so that networks learn brightness (Guttenberg 2023).

    Args:
        noise: standard normal `(N, C, *spatial)`.
        offset: standard normal `(N, C)`, drawn by the caller.
        strength: 0 for none; 0.1 is usual.

    Returns:
        `noise + strength * offset`, with the shape and dtype of `noise`.
    """
    return noise + strength * offset.to(noise).view(*offset.shape, *[1] * (noise.ndim - offset.ndim))


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """Input, target and weight of one training step.

    Attributes:
        noisy: x_t, `(N, C, *spatial)`.
        target: the quantity to predict, of the same shape.
        weight: of each sample's error, float32 `(N,)`.
        time: `(N,)`, in the path's own unit.
    """

    noisy: Tensor
    target: Tensor
    weight: Tensor
    time: Tensor


class ProbabilityPath(ABC):
    """x_t = alpha(t) x0 + sigma(t) noise, and the quantity that a network predicts from x_t and t.

    Images and predictions are `(N, C, *spatial)`; times are `(N,)`, in the path's own unit.

    Attributes:
        noise_offset: strength of `apply_noise_offset` in training; 0 for none.
        data_std: standard deviation of the data for preconditioning the network's output; 0 for none.
        time_dtype: dtype of the times.
    """

    time_dtype: ClassVar[torch.dtype] = torch.float32
    noise_offset: float
    data_std: float

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the network predicts: `epsilon`, `v` or `flow`."""

    @abstractmethod
    def draw_time(self, u: Tensor) -> Tensor:
        """Times `(N,)` as a function of uniforms `(N,)`, float64 in (0, 1)."""

    @abstractmethod
    def time_embedding_value(self, t: Tensor) -> Tensor:
        """The time that the network is given: float32 `(N,)`."""

    @abstractmethod
    def fraction(self, t: Tensor) -> Tensor:
        """The fraction of the way from data to noise at times `(N,)`: float64 `(N,)` in [0, 1]."""

    @abstractmethod
    def time_at(self, fraction: float) -> float:
        """The time at a fraction of the way from data to noise, in the path's own unit."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data in x_t: float64 `(N,)`."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The factor of the noise in x_t: float64 `(N,)`."""

    @abstractmethod
    def target_factors(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the noise and of the data in the target: float64 `(N,)` each."""

    @abstractmethod
    def weight(self, t: Tensor) -> Tensor:
        """The weight of each sample's squared error: float32 `(N,)`."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The path as JSON values for `path_from_dict`."""

    def levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma in the dtype of `like`, shaped to multiply it."""
        return _like(self.alpha(t), like), _like(self.sigma(t), like)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha(t) x0 + sigma(t) noise: `(N, C, *spatial)`, dtype of `x0`."""
        alpha, sigma = self.levels(t, x0)
        return alpha * x0 + sigma * noise  # Ho et al. 2020, eq. 4; Liu et al. 2023, eq. 1

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The quantity to predict: `(N, C, *spatial)`."""
        of_noise, of_data = (_like(factor, x0) for factor in self.target_factors(t))
        return of_noise * noise + of_data * x0

    def example(self, x0: Tensor, noise: Tensor, t: Tensor) -> TrainingExample:
        """Noisy data, target and weight for training."""
        return TrainingExample(self.add_noise(x0, noise, t), self.target(x0, noise, t), self.weight(t), t)

    def predicted(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The prediction that a network's output stands for: `(N, C, *spatial)`.

        With `data_std`, the best linear prediction from x_t is added, and the network predicts only the remainder,
        scaled to variance 1 at each time (Karras et al. 2022, section 5, for any target n noise + d x0).
        """
        if not self.data_std:
            return output
        alpha, sigma = self.alpha(t), self.sigma(t)
        of_noise, of_data = self.target_factors(t)
        variance = alpha**2 * self.data_std**2 + sigma**2
        skip = (of_noise * sigma + of_data * alpha * self.data_std**2) / variance  # Cov(target, x_t) / Var(x_t)
        scale = self.data_std * (of_noise * alpha - of_data * sigma).abs() / variance.sqrt()
        return _like(skip, x_t) * x_t + _like(scale, x_t) * output.to(x_t.dtype)

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The data that a prediction implies: `(N, C, *spatial)`."""
        return x0_from(self.kind, prediction, x_t, *self.levels(t, x_t))

    def to_noise(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that a prediction implies: `(N, C, *spatial)`."""
        return noise_from(self.kind, prediction, x_t, *self.levels(t, x_t))


@dataclass(frozen=True)
class DDPM(ProbabilityPath):
    """The variance-preserving path of discrete diffusion (Ho et al. 2020); t is an integer step, 0 to steps - 1.

    Attributes:
        schedule: a name in SCHEDULES.
        steps: number of noise levels.
        prediction: `epsilon` (the noise) or `v` = alpha noise - sigma x0.
        min_snr_gamma: gamma of min-SNR loss weights (5 in the paper), or None for weight 1.
        noise_offset: strength of the noise offset in training, 0 for none.
        beta_start: first beta, or None for the schedule's own.
        beta_end: last beta, or None for the schedule's own.
        data_std: see ProbabilityPath.
        trained_betas: the betas themselves instead of a schedule's.
        zero_terminal_snr: rescale the betas so that nothing of the data is left at the last level (Lin et al. 2024).
    """

    time_dtype: ClassVar[torch.dtype] = torch.long

    schedule: str = limited("scaled-linear", words=SCHEDULES)
    steps: int = limited(1000, at_least=2)
    prediction: str = limited("epsilon", words=PREDICTIONS)
    min_snr_gamma: float | None = limited(None, above=0)
    noise_offset: float = limited(0.0, at_least=0)
    beta_start: float | None = limited(None, above=0, below=1)
    beta_end: float | None = limited(None, above=0, below=1)
    data_std: float = limited(0.0, at_least=0)
    trained_betas: tuple[float, ...] | None = None
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        check_limits(self, form="noising process: {} {}")
        if self.schedule == "cosine" and self._beta_range():
            raise UserError("the cosine schedule has no beta_start or beta_end; leave them out or use linear.")
        if self.trained_betas is not None and len(self.trained_betas) != self.steps:
            raise UserError(f"noising process: {len(self.trained_betas)} trained betas for {self.steps} steps.")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise UserError(
                "a schedule of zero terminal SNR needs prediction v: at its last level noise says nothing of the data."
            )

    def _beta_range(self) -> dict[str, float]:
        given = {"start": self.beta_start, "end": self.beta_end}
        return {name: value for name, value in given.items() if value is not None}

    @cached_property
    def betas(self) -> Tensor:
        """Variance of the noise that each step adds: float64 `(steps,)`."""
        if self.trained_betas is not None:
            betas = torch.tensor(self.trained_betas, dtype=torch.float64)
        else:
            betas = SCHEDULES[self.schedule](self.steps, **self._beta_range())
        return zero_terminal(betas) if self.zero_terminal_snr else betas

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Product of 1 - beta up to each step: float64 `(steps,)`."""
        # Where nothing of the data is left, so little of it that samplers may divide by it, as in diffusers.
        return torch.cumprod(1 - self.betas, dim=0).clamp(min=LEAST_ALPHA_BAR)  # Ho et al. 2020, eq. 4

    @property
    def kind(self) -> str:
        """`epsilon` or `v`."""
        return self.prediction

    def draw_time(self, u: Tensor) -> Tensor:
        """Uniformly distributed steps: int64 `(N,)` from uniforms `(N,)` in [0, 1)."""
        return (u * self.steps).long().clamp(max=self.steps - 1)

    def time_embedding_value(self, t: Tensor) -> Tensor:
        """The step itself: float32 `(N,)`, 0 to steps - 1."""
        return t.float()

    def fraction(self, t: Tensor) -> Tensor:
        """(t + 1) / steps: float64 `(N,)`."""
        return (t.double() + 1) / self.steps

    def time_at(self, fraction: float) -> float:
        """The nearest of the levels."""
        return max(0, round(fraction * self.steps) - 1)

    def alpha(self, t: Tensor) -> Tensor:
        """Square root of alpha-bar: float64 `(N,)`."""
        return self.alpha_bar.to(t.device)[t].sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Square root of 1 - alpha-bar: float64 `(N,)`."""
        return (1 - self.alpha_bar.to(t.device)[t]).sqrt()

    def target_factors(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the noise itself, or of v = alpha noise - sigma x0 (Salimans and Ho 2022, section 4)."""
        if self.prediction == "epsilon":
            ones = torch.ones(t.shape, dtype=torch.float64, device=t.device)
            return ones, torch.zeros_like(ones)
        return self.alpha(t), -self.sigma(t)

    def weight(self, t: Tensor) -> Tensor:
        """Min-SNR weights, or ones without `min_snr_gamma`: float32 `(N,)`."""
        if self.min_snr_gamma is None:
            return torch.ones(t.shape, device=t.device)
        snr = (self.alpha(t) / self.sigma(t)) ** 2
        return min_snr_weight(snr, self.min_snr_gamma, self.prediction).float()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what most schedules do not have is left out."""
        values = asdict(self)
        if self.trained_betas is None:
            del values["trained_betas"]
        if not self.zero_terminal_snr:
            del values["zero_terminal_snr"]
        return {"path": "ddpm", **values}


@dataclass(frozen=True)
class RectifiedFlow(ProbabilityPath):
    """The straight path x_t = (1 - t) x0 + t noise (Liu et al. 2023); t is float32 in [0, 1], 1 is pure noise.

    Attributes:
        logit_mean: mean of the logit of training times (Esser et al. 2024, eq. 19); above 0 favours noisy times.
        logit_std: standard deviation of that logit.
        shift: values above 1 move the times of training and sampling towards noise, for large images (eq. 23).
        noise_offset: strength of the noise offset in training, 0 for none.
        data_std: see ProbabilityPath.
        near_data: fraction of the training times that lie evenly in log-SNR between NEAREST and HALFWAY, where fine
            texture forms. The other times seldom lie there: of logit-normal ones 1.4 % are below 0.1, of those shifted
            by 4 one in 6,000, and what a network never saw it does not denoise.
    """

    logit_mean: float = limited(0.0)
    logit_std: float = limited(1.0, above=0)
    shift: float = limited(1.0, above=0)
    noise_offset: float = limited(0.0, at_least=0)
    data_std: float = limited(0.0, at_least=0)
    near_data: float = limited(0.0, at_least=0, below=1)

    def __post_init__(self) -> None:
        check_limits(self, form="noising process: {} {}")

    @property
    def kind(self) -> str:
        """`flow`."""
        return "flow"

    def draw_time(self, u: Tensor) -> Tensor:
        """Shifted logit-normal times and those near the data: float32 `(N,)` from float64 uniforms `(N,)` in (0, 1)."""
        u, share = u.double(), self.near_data
        spread = ((u - share) / (1 - share)).clamp(min=torch.finfo(torch.float64).tiny)
        time = torch.sigmoid(self.logit_mean + self.logit_std * torch.special.ndtri(spread))
        time = self.shift * time / (1 + (self.shift - 1) * time)  # Esser et al. 2024, eq. 23
        if share:
            low, high = (math.log(end / (1 - end)) for end in (NEAREST, HALFWAY))
            time = torch.where(u < share, torch.sigmoid(low + (high - low) * u / share), time)
        return time.float()

    def time_embedding_value(self, t: Tensor) -> Tensor:
        """1000 t: float32 `(N,)`, 0 to 1000."""
        return t.float() * TIME_SCALE

    def fraction(self, t: Tensor) -> Tensor:
        """The time itself: float64 `(N,)`."""
        return t.double()

    def time_at(self, fraction: float) -> float:
        """The fraction itself."""
        return fraction

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t: float64 `(N,)`."""
        return 1 - t.double()

    def sigma(self, t: Tensor) -> Tensor:
        """t: float64 `(N,)`."""
        return t.double()

    def target_factors(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the velocity, noise - x0, at any time."""
        ones = torch.ones(t.shape, dtype=torch.float64, device=t.device)
        return ones, -ones

    def weight(self, t: Tensor) -> Tensor:
        """Ones without `near_data`: the density of the training times weights the loss. Float32 `(N,)`.

        With it the error of the flow counts in full from the time FULL_WEIGHT on, and below in proportion to the time:
        most of it is noise there, which no network can predict.
        """
        if not self.near_data:
            return torch.ones(t.shape, device=t.device)
        return (t.float() / FULL_WEIGHT).clamp(max=1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"path": "flow", **asdict(self)}


PATHS: dict[str, type[DDPM] | type[RectifiedFlow]] = {"ddpm": DDPM, "flow": RectifiedFlow}


def path_from_dict(values: Mapping[str, Any]) -> ProbabilityPath:
    """The path described by `to_dict`.

    Raises:
        UserError: an unknown path, or a setting that is unknown or out of range.
    """
    settings = dict(values)
    path = look_up(PATHS, str(settings.pop("path", None)), "path")
    for name in settings:
        look_up(path.__dataclass_fields__, name, f"setting of {path.__name__}")
    if settings.get("trained_betas") is not None:
        settings["trained_betas"] = tuple(settings["trained_betas"])
    return path(**settings)


def _like(factors: Tensor, like: Tensor) -> Tensor:
    """Factors `(N,)` in the dtype of `like`, shaped to multiply it."""
    return factors.to(like).view(-1, *[1] * (like.ndim - 1))
