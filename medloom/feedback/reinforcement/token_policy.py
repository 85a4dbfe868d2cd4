"""A token generator as a policy: its draws have exact probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from medloom.core.types import Condition
from medloom.feedback.reinforcement.objectives import TOKEN_OBJECTIVES, Losses, ObjectiveOptions, Predictions
from medloom.feedback.reinforcement.policy import Policy, Scores
from medloom.feedback.reinforcement.samples import TokenSamples
from medloom.generators.sampling import TokenSampling
from medloom.generators.tensors import ConditionTensors
from medloom.generators.tokens.generator import TokenGenerator, Trajectory
from medloom.processes.token_decoding import draw_masks, masked_fraction


@dataclass(frozen=True, eq=False)
class RolledTokens:
    """Generated tokens.

    Attributes:
        trajectory: how they were decoded.
        inputs: the conditions' tensors.
        asked: steps of decoding that the network is asked about.
    """

    trajectory: Trajectory
    inputs: ConditionTensors
    asked: Sequence[int]


class TokenPolicy(Policy[RolledTokens, TokenSamples]):
    """A generator of tokens.

    Args:
        generator: what is trained.
        objective: grpo or filtered.
        options: of the objective.
        steps: of decoding.
        times: how often the network is asked about each image in an update: about so many steps of decoding, or at so
            many fractions of masked tokens.
    """

    objectives = tuple(TOKEN_OBJECTIVES)
    generator: TokenGenerator

    def __init__(
        self, generator: TokenGenerator, objective: str, options: ObjectiveOptions, steps: int, times: int
    ) -> None:
        super().__init__(generator, objective, options)
        # A code that is left out has no probability, and draws of guided logits not those of one network.
        self.sampling: TokenSampling = replace(
            generator.sampling,
            steps=min(steps, generator.model.network.length),
            guidance=1.0,
            guidance_by_part={},
            negative=None,
            annealing=0.0,
            top_k=0,
            top_p=1.0,
            cutoff=0.0,
        )
        self.times = min(times, self.sampling.steps)

    @property
    def network(self) -> nn.Module:
        """The transformer; what reads the condition stays as it is."""
        network: nn.Module = self.generator.model.network
        return network

    @property
    def passes(self) -> int:
        """So many steps of decoding, or fractions of masked tokens."""
        return self.times

    def roll(self, conditions: Sequence[Condition], seeds: Sequence[int], draw: np.random.Generator) -> RolledTokens:
        """Decode tokens; one of equally many steps a pass is drawn, so that early and late ones are asked about."""
        generator, steps = self.generator, self.sampling.steps
        made = generator.trajectory(conditions, seeds, self.sampling)
        inputs = generator.inputs(
            made.conditions, frozenset(generator.parts), None, made.labels, made.start.prior_tokens
        )
        inputs = replace(inputs, coarse_tokens=made.coarse)
        asked = [int((number + draw.uniform()) / self.times * steps) for number in range(self.times)]
        return RolledTokens(made, inputs, asked)

    def model_images(self, rolled: RolledTokens) -> Tensor:
        """The images, decoded from tokens."""
        with torch.no_grad():
            return self.generator.images_of(rolled.trajectory.steps[-1].after)

    def samples(
        self, rolled: RolledTokens, places: Tensor, number: int, draws: Sequence[torch.Generator], scores: Scores
    ) -> TokenSamples:
        """The draws of a step of decoding, or the image's tokens, some of which are masked again."""
        trajectory = rolled.trajectory
        final = trajectory.steps[-1].after[places]
        condition = rolled.inputs.map(lambda tensor: tensor[places])
        advantages = scores.advantages.to(final.device)
        common = (final, tuple(places.tolist()), -1, condition, advantages, scores.rewards)
        if self.objective == "grpo":
            step = trajectory.steps[rolled.asked[number]]
            own = step.before[places], step.masked[places], step.drawn[places]
            return TokenSamples(*common, *own, self.sampling.temperature)
        length, codes = final.shape[1], self.generator.tokenizer.codes
        uniform = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in draws])
        order = torch.stack([torch.rand(length, generator=generator) for generator in draws])
        fractions = masked_fraction((number + uniform) / self.times, self.sampling.mask_schedule)
        masked = draw_masks(fractions, order).to(final.device)
        return TokenSamples(*common, final.masked_fill(masked, codes), masked, final, self.sampling.temperature)

    def predict(self, module: nn.Module, samples: TokenSamples) -> Tensor:
        """Log-probabilities of the masked tokens, float32 `(M, codes)`."""
        logits: Tensor = module(samples.before, samples.condition, samples.masked)
        return (logits.float() / samples.temperature).log_softmax(-1)

    def losses(self, samples: TokenSamples, predictions: Predictions) -> Losses:
        """The objective."""
        return TOKEN_OBJECTIVES[self.objective](samples, predictions, self.options)
