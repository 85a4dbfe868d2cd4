"""Each objective's gradient against a problem whose gradient is known in closed form."""

import math

import numpy as np
import pytest
import torch

from medloom.feedback.reinforcement.advantages import centred, scaled
from medloom.feedback.reinforcement.objectives import (
    DIFFUSION_OBJECTIVES,
    TOKEN_OBJECTIVES,
    ObjectiveOptions,
    Predictions,
    grpo,
    nft,
)
from medloom.feedback.reinforcement.samples import DiffusionSamples, TokenSamples, Transition
from medloom.generators.tensors import ConditionTensors
from medloom.processes.levels import NoiseLevel
from medloom.processes.paths import DDPM, ProbabilityPath, RectifiedFlow
from medloom.processes.steps import ddim_step, flow_sde_step

COUNT, TIME = 20_000, 0.4
FREE = ObjectiveOptions(kl=0.0, advantage_clip=50.0)


def near(values: torch.Tensor, expected: float) -> None:
    """The mean of values lies within 3 standard errors of what is expected, and not by a large error."""
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - expected) < 3 * error < 0.2 * max(1.0, abs(expected)), (values.mean(), expected)


def gradients(losses: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """The derivative of each sample's loss, `(N,)`: the parameter has an entry a sample."""
    (found,) = torch.autograd.grad(losses.sum(), parameter)
    return found.flatten()


def diffusion_samples(path: ProbabilityPath, clean: torch.Tensor, advantages: torch.Tensor) -> DiffusionSamples:
    """Images of one pixel, noised at one time."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    time = torch.full((len(clean),), TIME) if path.kind == "flow" else torch.full((len(clean),), 400)
    noisy = path.add_noise(clean, noise, time)
    return DiffusionSamples(clean, (0,), 0, ConditionTensors(), advantages, advantages, path, noisy, time, noise)


PATHS = [RectifiedFlow(), DDPM(prediction="v"), DDPM(prediction="epsilon")]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
def test_nft_pulls_towards_better_images_and_away_from_worse_ones(path: ProbabilityPath) -> None:
    """Images x ~ N(0, 1), advantage x, and a policy that predicts 0: the loss falls by 2 E|x| per unit of the image."""
    clean = torch.randn((COUNT, 1, 1, 1), generator=torch.Generator().manual_seed(1))
    samples = diffusion_samples(path, clean, clean.flatten())
    image = torch.zeros_like(clean, requires_grad=True)
    losses = nft(samples, Predictions(predicting(samples, image), predicting(samples, image).detach(), image), FREE)
    near(gradients(losses.values, image), -2 * math.sqrt(2 / math.pi))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
def test_filtered_learns_from_better_images_alone(path: ProbabilityPath) -> None:
    clean = torch.randn((COUNT, 1, 1, 1), generator=torch.Generator().manual_seed(2))
    samples = diffusion_samples(path, clean, clean.flatten())
    image = torch.zeros_like(clean, requires_grad=True)
    objective = DIFFUSION_OBJECTIVES["filtered"]
    losses = objective(samples, Predictions(predicting(samples, image), image, image), FREE)
    near(gradients(losses.values, image), -2 / math.sqrt(2 * math.pi))


def predicting(samples: DiffusionSamples, image: torch.Tensor) -> torch.Tensor:
    """What a network has to predict where it thinks that the clean image is `image`."""
    path, noisy = samples.path, samples.noisy
    alpha, sigma = path.levels(samples.time, noisy)
    noise = (noisy - alpha * image) / sigma
    if path.kind == "epsilon":
        return noise
    return alpha * noise - sigma * image if path.kind == "v" else noise - image


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
def test_grpo_follows_the_gradient_of_the_expected_reward(path: ProbabilityPath) -> None:
    """The next sample is m + s e and its reward e: the normalised gradient for the mean is -E[e^2] = -1."""
    x = torch.zeros(COUNT, 1, 1, 1)
    if path.kind == "flow":
        now, then, eta = NoiseLevel(0.6, 0.4, 0.6), NoiseLevel(0.4, 0.6, 0.4), 0.7
    else:
        levels = [
            NoiseLevel(t, float(path.alpha(torch.tensor([t]))), float(path.sigma(torch.tensor([t]))))
            for t in (600, 400)
        ]
        (now, then), eta = levels, 1.0
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    old = torch.zeros_like(x)
    function = flow_sde_step if path.kind == "flow" else ddim_step
    mean, std = function(old, x, path.kind, now, then, eta)
    slope = float(function(old + 1, x, path.kind, now, then, eta)[0][0] - mean[0])
    time = torch.full((COUNT,), now.time, dtype=path.time_dtype)
    samples = DiffusionSamples(
        x, (0,), 0, ConditionTensors(), noise.flatten(), noise.flatten(), path, x, time,
        transition=Transition(now, then, eta), x_next=mean + std * noise,
    )  # fmt: skip
    prediction = old.clone().requires_grad_()
    losses = grpo(samples, Predictions(prediction, old, old), FREE)
    near(gradients(losses.values, prediction) / slope, -1.0)


@pytest.mark.parametrize("name", sorted(TOKEN_OBJECTIVES))
def test_tokens_follow_the_gradient_of_the_expected_reward(name: str) -> None:
    """One token of three codes, drawn by a softmax: the gradient of the expected advantage in each logit is known."""
    logits = torch.tensor([0.3, -0.5, 0.1])
    probabilities, rewards = logits.softmax(0), torch.tensor([1.0, -0.7, 0.2])
    draws = torch.multinomial(probabilities, COUNT, replacement=True, generator=torch.Generator().manual_seed(4))
    advantages = rewards[draws]
    own = logits.expand(COUNT, 3).clone().requires_grad_()
    prediction = own.log_softmax(-1)
    samples = TokenSamples(
        draws[:, None], (0,), 0, ConditionTensors(), advantages, advantages,
        torch.full((COUNT, 1), 3), torch.ones(COUNT, 1, dtype=torch.bool), draws[:, None], 1.0,
    )  # fmt: skip
    losses = TOKEN_OBJECTIVES[name](samples, Predictions(prediction, prediction.detach(), prediction.detach()), FREE)
    (found,) = torch.autograd.grad(losses.values.sum(), own)
    used = rewards if name == "grpo" else rewards.clamp(min=0)
    expected = -probabilities * (used - (probabilities * used).sum())
    for code in range(3):
        near(found[:, code], float(expected[code]))


def test_the_divergence_pulls_back_to_the_reference() -> None:
    path, clean = RectifiedFlow(), torch.zeros(8, 1, 1, 1)
    samples = diffusion_samples(path, clean, torch.zeros(8))
    reference = torch.zeros_like(clean)
    prediction = torch.full_like(clean, 0.5).requires_grad_()
    for name, objective in DIFFUSION_OBJECTIVES.items():
        if name == "grpo":
            continue
        free = objective(samples, Predictions(prediction, prediction.detach(), reference), FREE)
        pulled = ObjectiveOptions(kl=2.0, advantage_clip=50.0)
        held = objective(samples, Predictions(prediction, prediction.detach(), reference), pulled)
        torch.testing.assert_close(gradients(held.values - free.values, prediction), torch.full((8,), 2.0))
        assert float(held.logged["kl"]) == pytest.approx(0.25)


def test_images_are_compared_with_those_of_their_prompt_alone() -> None:
    rewards = np.array([[1.0, 3.0, np.nan], [10.0, 10.0, 10.0], [np.nan, 5.0, np.nan]])
    differences = centred(rewards)
    np.testing.assert_allclose(differences, [[-1, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(scaled(differences, 0.5, 1.5), [[-1.5, 1.5, 0], [0, 0, 0], [0, 0, 0]])
    assert not scaled(differences, 0.0, 5.0).any()
