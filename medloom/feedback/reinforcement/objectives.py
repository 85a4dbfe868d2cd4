"""What the weights are moved by: objectives of one signature, for diffusion and for tokens.

An objective is `(samples, predictions, options) -> Losses`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.core.limits import check_limits, limited
from medloom.feedback.reinforcement.samples import DiffusionSamples, TokenSamples
from medloom.processes.steps import ddim_step, flow_sde_step

# Mean absolute errors below it do not raise a sample's weight any more.
LEAST_ERROR = 1e-5


@dataclass(frozen=True)
class ObjectiveOptions:
    """Settings of the objectives.

    Attributes:
        beta: nft: how far the implicit predictions lie from the old ones; smaller steps take more of the reward.
        clip: grpo of diffusion: largest change of a log-ratio that still has a gradient, in the mean over pixels.
        token_clip: grpo of tokens: the same of a token's ratio.
        advantage_clip: largest size of an advantage, in standard deviations.
        kl: weight of the distance from the model that reinforcement began with.
    """

    beta: float = limited(1.0, above=0, at_most=1)
    clip: float = limited(1e-3, above=0)
    token_clip: float = limited(0.2, above=0, below=1)
    advantage_clip: float = limited(5.0, above=0)
    kl: float = limited(1e-4, at_least=0)

    def __post_init__(self) -> None:
        check_limits(self, "objective")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the network predicts for the same input; equal where its weights have not changed yet.

    Attributes:
        now: by the present weights; it alone has a gradient.
        old: by the weights that generated the samples.
        reference: by the weights that reinforcement began with.
    """

    now: Tensor
    old: Tensor
    reference: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of each sample, `(N,)`, and means of what is logged."""

    values: Tensor
    logged: Mapping[str, Tensor]


# Objectives of diffusion: predictions `(N, C, *spatial)`.


def nft(samples: DiffusionSamples, predictions: Predictions, options: ObjectiveOptions) -> Losses:
    """DiffusionNFT (Zheng et al. 2025, arXiv:2509.16117): flow matching on generated images, for and against them.

    An image that is better than others of its prompt pulls the prediction towards itself; a worse one pulls the
    opposite of the change there, and so pushes the prediction away (eq. 5 and 6, in the clean image, with the
    self-normalising weight of section 3.3).
    """
    clean, beta = samples.images, options.beta
    now, before = (samples.path.to_x0(each, samples.noisy, samples.time) for each in (predictions.now, predictions.old))
    chance = samples.advantages / options.advantage_clip / 2 + 0.5
    better, worse = before + beta * (now - before), before - beta * (now - before)
    losses = chance * _normalised(better, clean) + (1 - chance) * _normalised(worse, clean)
    # The gradient of an advantage of 1 then does not depend on the clip, nor that of a small step on beta.
    return _with_kl(losses * options.advantage_clip / beta, predictions, options)


def filtered(samples: DiffusionSamples, predictions: Predictions, options: ObjectiveOptions) -> Losses:
    """Fine-tuning on the generated images that are better than others of their prompt, by how much they are."""
    now = samples.path.to_x0(predictions.now, samples.noisy, samples.time)
    losses = samples.advantages.clamp(min=0) * _normalised(now, samples.images)
    return _with_kl(losses, predictions, options)


def grpo(samples: DiffusionSamples, predictions: Predictions, options: ObjectiveOptions) -> Losses:
    """Flow-GRPO (Liu et al. 2025) on a step of the stochastic sampler, its ratio normalised (GRPO-Guard, 2025).

    The log-ratio of Gaussians of one standard deviation is noise d / std - d^2 / (2 std^2), for a change d of the mean:
    its mean lies below 0 and its spread depends on the step. Normalised it is noise d, in the mean over pixels.

    Raises:
        ValueError: samples without a transition.
    """
    if samples.transition is None or samples.x_next is None:
        raise ValueError("grpo needs steps of a stochastic sampler")
    mean, std = _step(samples, predictions.now)
    mean_old, _ = _step(samples, predictions.old)
    noise = (samples.x_next - mean_old) / std
    log_ratio = (noise * (mean - mean_old)).flatten(1).mean(1)
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - options.clip, 1 + options.clip)
    losses = torch.maximum(-samples.advantages * ratio, -samples.advantages * bounded)
    outside = ((ratio - 1).abs() > options.clip).float().mean()
    return _with_kl(losses, predictions, options, ratio=ratio.mean(), clipped=outside)


def _step(samples: DiffusionSamples, prediction: Tensor) -> tuple[Tensor, float]:
    """Mean and standard deviation of the step of a prediction."""
    transition = samples.transition
    if transition is None:
        raise ValueError("no transition")
    step = flow_sde_step if samples.path.kind == "flow" else ddim_step
    return step(prediction, samples.noisy, samples.path.kind, transition.now, transition.then, transition.eta)


def _normalised(predicted: Tensor, clean: Tensor) -> Tensor:
    """The squared error of each sample, over its mean absolute error, which has no gradient: `(N,)`."""
    errors = (predicted - clean).flatten(1)
    return errors.square().mean(1) / errors.detach().abs().mean(1).clamp(min=LEAST_ERROR)


def _with_kl(losses: Tensor, predictions: Predictions, options: ObjectiveOptions, **logged: Tensor) -> Losses:
    """With the squared distance of the predictions, which is the divergence of the paths up to a weight of the time."""
    distance = (predictions.now - predictions.reference).flatten(1).square().mean(1)
    values = losses + options.kl * distance if options.kl else losses
    return Losses(values, _detached({"kl": distance.mean(), **logged}))


# Objectives of tokens: predictions are log-probabilities `(M, codes)` of the masked tokens.


def token_filtered(samples: TokenSamples, predictions: Predictions, options: ObjectiveOptions) -> Losses:
    """Fine-tuning on the generated images that are better than others of their prompt, by how much they are."""
    costs = _by_sample(-_of_drawn(samples, predictions.now), samples.masked)
    return _with_token_kl(samples.advantages.clamp(min=0) * costs, samples, predictions, options)


def token_grpo(samples: TokenSamples, predictions: Predictions, options: ObjectiveOptions) -> Losses:
    """GRPO (Shao et al. 2024) on the draws of a step of decoding, by the exact ratio of each token."""
    ratio = (_of_drawn(samples, predictions.now) - _of_drawn(samples, predictions.old)).exp()
    own = samples.advantages[:, None].expand_as(samples.masked)[samples.masked]
    bounded = ratio.clamp(1 - options.token_clip, 1 + options.token_clip)
    losses = _by_sample(torch.maximum(-own * ratio, -own * bounded), samples.masked)
    outside = ((ratio - 1).abs() > options.token_clip).float().mean()
    return _with_token_kl(losses, samples, predictions, options, ratio=ratio.mean(), clipped=outside)


def _of_drawn(samples: TokenSamples, prediction: Tensor) -> Tensor:
    """The log-probability of each masked token's draw, `(M,)`."""
    return prediction.gather(1, samples.drawn[samples.masked][:, None])[:, 0]


def _by_sample(values: Tensor, masked: Tensor) -> Tensor:
    """The mean of values `(M,)` of masked tokens over those of each sample, `(N,)`."""
    sums = torch.zeros(len(masked), device=values.device).index_add(0, masked.nonzero()[:, 0], values)
    return sums / masked.sum(1).clamp(min=1)


def _with_token_kl(
    losses: Tensor,
    samples: TokenSamples,
    predictions: Predictions,
    options: ObjectiveOptions,
    **logged: Tensor,
) -> Losses:
    """With the divergence of the present distribution of each token from the reference's."""
    divergence = _by_sample((predictions.now.exp() * (predictions.now - predictions.reference)).sum(1), samples.masked)
    values = losses + options.kl * divergence if options.kl else losses
    return Losses(values, _detached({"kl": divergence.mean(), **logged}))


def _detached(logged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in logged.items()}


DiffusionObjective = Callable[[DiffusionSamples, Predictions, ObjectiveOptions], Losses]
TokenObjective = Callable[[TokenSamples, Predictions, ObjectiveOptions], Losses]
# By family. A further objective is a function and a row.
DIFFUSION_OBJECTIVES: dict[str, DiffusionObjective] = {"nft": nft, "filtered": filtered, "grpo": grpo}
TOKEN_OBJECTIVES: dict[str, TokenObjective] = {"grpo": token_grpo, "filtered": token_filtered}
