"""A diffusion generator as a policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from medloom.core.types import Condition
from medloom.feedback.reinforcement.objectives import DIFFUSION_OBJECTIVES, Losses, ObjectiveOptions, Predictions
from medloom.feedback.reinforcement.policy import Policy, Scores
from medloom.feedback.reinforcement.samples import DiffusionSamples, Transition
from medloom.generators.base_task import normal_draws
from medloom.generators.diffusion.generator import DiffusionGenerator, DiffusionTrajectory
from medloom.generators.sampling import DiffusionSampling
from medloom.processes.paths import DDPM

# Strength of the noise of a stochastic step: that of DDPM, and of Flow-GRPO.
ETA_DDPM, ETA_FLOW = 1.0, 0.7


@dataclass(frozen=True, eq=False)
class RolledImages:
    """Generated images or latents.

    Attributes:
        trajectory: how they were sampled.
        times: at which the network is asked about them, in the path's unit; none where it is asked about steps.
    """

    trajectory: DiffusionTrajectory
    times: Sequence[float]


class DiffusionPolicy(Policy[RolledImages, DiffusionSamples]):
    """A diffusion generator in pixels or latents, of any path.

    Args:
        generator: what is trained.
        objective: nft, filtered or grpo.
        options: of the objective.
        steps: of the sampler.
        times: how often the network is asked about each image in an update: at so many noise levels, or of grpo at so
            many steps of the sampler, which alone add noise.
    """

    objectives = tuple(DIFFUSION_OBJECTIVES)
    generator: DiffusionGenerator

    def __init__(
        self, generator: DiffusionGenerator, objective: str, options: ObjectiveOptions, steps: int, times: int
    ) -> None:
        super().__init__(generator, objective, options)
        self.sampling: DiffusionSampling = replace(
            generator.sampling, steps=steps, guidance=1.0, guidance_by_part={}, negative=None
        )
        self.times = times

    @property
    def network(self) -> nn.Module:
        """The denoiser; what reads the condition stays as it is."""
        denoiser: nn.Module = self.generator.model.denoiser
        return denoiser

    @property
    def passes(self) -> int:
        """So many noise levels, or stochastic steps."""
        return self.times

    def roll(self, conditions: Sequence[Condition], seeds: Sequence[int], draw: np.random.Generator) -> RolledImages:
        """Generate images: of grpo with a window of steps that add noise, at a place that is drawn."""
        path, steps = self.generator.path, self.sampling.steps
        window = None
        if self.objective == "grpo":
            # The last step of a flow adds no noise, and the one before it (of others the last one) hardly any.
            last = steps - self.times - (1 if isinstance(path, DDPM) else 2)
            first = int(draw.integers(max(0, last) + 1))
            window = range(first, first + self.times)
        rolled = self.generator.trajectory(conditions, seeds, self.sampling, window)
        levels = [] if window is not None else self.generator.levels(self.sampling)[:-1]
        return RolledImages(rolled, [level.time for level in levels])

    def model_images(self, rolled: RolledImages) -> Tensor:
        """The images, decoded from latents."""
        with torch.no_grad():
            return self.generator.decode(rolled.trajectory.clean)

    def samples(
        self, rolled: RolledImages, places: Tensor, number: int, draws: Sequence[torch.Generator], scores: Scores
    ) -> DiffusionSamples:
        """Clean images noised again to a level of the sampler, or the steps that the sampler made."""
        trajectory, path = rolled.trajectory, self.generator.path
        clean, condition = trajectory.clean[places], trajectory.inputs.map(lambda tensor: tensor[places])
        common = (clean, tuple(places.tolist()), -1, condition, scores.advantages.to(clean), scores.rewards, path)
        if trajectory.steps:
            step = trajectory.steps[number]
            time = torch.full((len(clean),), step.now.time, dtype=path.time_dtype, device=clean.device)
            transition = Transition(step.now, step.then, ETA_DDPM if isinstance(path, DDPM) else ETA_FLOW)
            return DiffusionSamples(*common, step.x[places], time, transition=transition, x_next=step.x_next[places])
        noise = normal_draws(draws, clean.shape[1:]).to(clean)
        # One of equally many levels a pass, so that each image is asked about at levels from noise to data.
        uniform = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in draws])
        place = ((number + uniform) / self.times * len(rolled.times)).long().clamp(max=len(rolled.times) - 1)
        time = torch.tensor(rolled.times, dtype=path.time_dtype)[place].to(clean.device)
        return DiffusionSamples(*common, path.add_noise(clean, noise, time), time, noise)

    def predict(self, module: nn.Module, samples: DiffusionSamples) -> Tensor:
        """The prediction, float32."""
        path = self.generator.path
        output = module(samples.noisy, path.time_embedding_value(samples.time), samples.condition)
        return path.predicted(output, samples.noisy, samples.time).float()

    def losses(self, samples: DiffusionSamples, predictions: Predictions) -> Losses:
        """The objective."""
        return DIFFUSION_OBJECTIVES[self.objective](samples, predictions, self.options)
