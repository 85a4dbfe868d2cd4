"""What an objective is given of a batch of generated images."""

from dataclasses import dataclass

from torch import Tensor

from medloom.core.types import Batch
from medloom.generators.tensors import ConditionTensors
from medloom.processes.levels import NoiseLevel
from medloom.processes.paths import ProbabilityPath


@dataclass(frozen=True)
class Transition:
    """A step of a stochastic sampler.

    Attributes:
        now: the noise level before it.
        then: the noise level after it.
        eta: strength of the noise.
    """

    now: NoiseLevel
    then: NoiseLevel
    eta: float


@dataclass(frozen=True, eq=False)
class PolicySamples(Batch):
    """Generated images with their advantages; `images` are what the network generates: pixels, latents or tokens.

    Attributes:
        condition: the conditions' tensors.
        advantages: float32 `(N,)`.
        rewards: float32 `(N,)`, NaN where there is none; for the log.
    """

    condition: ConditionTensors
    advantages: Tensor
    rewards: Tensor


@dataclass(frozen=True, eq=False)
class DiffusionSamples(PolicySamples):
    """Images or latents with what the network is asked about them.

    Attributes:
        path: the probability path.
        noisy: what the network is given, `(N, C, *spatial)`.
        time: `(N,)`, in the path's unit.
        noise: of `noisy`, where the clean image was noised again; None for a step of the sampler.
        transition: the step of the sampler that led from `noisy` to `x_next`, or None.
        x_next: the samples after it.
    """

    path: ProbabilityPath
    noisy: Tensor
    time: Tensor
    noise: Tensor | None = None
    transition: Transition | None = None
    x_next: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TokenSamples(PolicySamples):
    """Tokens int64 `(N, L)` with what the network is asked about them.

    Attributes:
        before: what the network is given, int64 `(N, L)`; masked tokens have the code after the last.
        masked: bool `(N, L)`: the tokens that it predicts. Predictions are log-probabilities `(M, codes)` of them, row
            after row.
        drawn: int64 `(N, L)`: the tokens that were drawn there.
        temperature: of the draws.
    """

    before: Tensor
    masked: Tensor
    drawn: Tensor
    temperature: float
