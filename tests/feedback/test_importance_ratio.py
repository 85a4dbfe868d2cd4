"""Before the first update the importance ratio is 1, whatever the batch: dropout or dtypes would change it."""

import numpy as np
import pytest
import torch
from policy_rows import CONDITIONS, KINDS, tiny_policy

from medloom.core.seeds import torch_generator
from medloom.feedback.reinforcement.objectives import Predictions
from medloom.feedback.reinforcement.policy import Scores


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ratio_is_one_before_the_first_update(kind: str, size: int) -> None:
    policy = tiny_policy(kind, "grpo")
    conditions = [CONDITIONS[k % 3] for k in range(size)]
    rolled = policy.roll(conditions, range(size), np.random.default_rng(0))
    advantages = torch.linspace(-1, 1, size)
    # Alone and last to first, as the rollout never saw them.
    for places in ([torch.tensor([k]) for k in range(size)], [torch.arange(size).flip(0)]):
        for number in range(policy.passes):
            for own in places:
                draws = [torch_generator("draw", k) for k in own.tolist()]
                samples = policy.samples(rolled, own, number, draws, Scores(advantages, advantages).of(own))
                prediction = policy.predict(policy.generator.model, samples)
                old = _of_rollout(policy, rolled, own, number)
                logged = policy.losses(samples, Predictions(prediction, old, prediction)).logged
                assert abs(float(logged["ratio"]) - 1) < 1e-6, (kind, size, number)
                assert float(logged["clipped"]) == 0


def _of_rollout(policy, rolled, places, number):
    """What the network predicted when the images were generated: not computed again."""
    if policy.generator.family == "tokens":
        step = rolled.trajectory.steps[rolled.asked[number]]
        kept = step.log_probabilities[places][step.masked[places]]
        codes = policy.generator.tokenizer.codes
        # Of codes that were not drawn nothing is asked.
        return kept[:, None].expand(len(kept), codes)
    step = rolled.trajectory.steps[number]
    mean, x = step.mean[places], step.x[places]
    return _prediction_of(policy, step, mean, x)


def _prediction_of(policy, step, mean, x):
    """The prediction whose step has a mean: the mean is linear in the prediction."""
    from medloom.feedback.reinforcement.diffusion_policy import ETA_DDPM, ETA_FLOW
    from medloom.processes.steps import ddim_step, flow_sde_step

    kind = policy.generator.path.kind
    function, eta = (flow_sde_step, ETA_FLOW) if kind == "flow" else (ddim_step, ETA_DDPM)
    # In double precision, so that the inversion adds no error of its own.
    x, mean = x.double(), mean.double()
    at0, _ = function(torch.zeros_like(x), x, kind, step.now, step.then, eta)
    at1, _ = function(torch.ones_like(x), x, kind, step.now, step.then, eta)
    return (mean - at0) / (at1 - at0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_network_has_another_ratio(kind: str) -> None:
    policy = tiny_policy(kind, "grpo")
    rolled = policy.roll(CONDITIONS, range(3), np.random.default_rng(0))
    places, scores = torch.arange(3), Scores(torch.ones(3), torch.ones(3))
    samples = policy.samples(rolled, places, 0, [torch_generator("draw", k) for k in range(3)], scores)
    old = policy.predict(policy.generator.model, samples).detach()
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.mul_(1.05)
    prediction = policy.predict(policy.generator.model, samples)
    logged = policy.losses(samples, Predictions(prediction, old, old)).logged
    assert abs(float(logged["ratio"]) - 1) > 1e-4 and float(logged["kl"]) > 0


@pytest.mark.parametrize("kind", ["epsilon", "v", "flow"])
def test_steps_outside_of_the_window_add_no_noise(kind: str) -> None:
    policy = tiny_policy(kind, "grpo", steps=6, times=2)
    for seed in range(5):
        rolled = policy.roll(CONDITIONS, range(3), np.random.default_rng(seed))
        assert len(rolled.trajectory.steps) == 2
        first, second = rolled.trajectory.steps
        assert second.index == first.index + 1 and torch.equal(first.x_next, second.x)
        assert all(step.std > 0 for step in (first, second))
