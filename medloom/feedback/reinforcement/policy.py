"""A generator as a policy: it generates images without guidance, and is asked again about what it generated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from medloom.core.image import Image
from medloom.core.types import Condition
from medloom.feedback.reinforcement.objectives import Losses, ObjectiveOptions, Predictions
from medloom.feedback.reinforcement.samples import PolicySamples
from medloom.generators.base import AnyGenerator, on_cpu

Rolled = TypeVar("Rolled")
Samples = TypeVar("Samples", bound=PolicySamples)


@dataclass(frozen=True, eq=False)
class Scores:
    """What is known of generated images.

    Attributes:
        rewards: float32 `(N,)`, NaN where there is none.
        advantages: float32 `(N,)`.
    """

    rewards: Tensor
    advantages: Tensor

    def of(self, places: Tensor) -> "Scores":
        """Of some of the images."""
        return Scores(self.rewards[places], self.advantages[places])


class Policy(ABC, Generic[Rolled, Samples]):
    """What reinforcement asks of a family of generators.

    Attributes:
        generator: what is trained; only `network` changes.
        objective: name of the objective.
        options: of the objective.
    """

    # Names of the family's objectives, the default first.
    objectives: tuple[str, ...]

    def __init__(self, generator: AnyGenerator, objective: str, options: ObjectiveOptions) -> None:
        self.generator = generator
        self.objective = objective
        self.options = options

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """What is trained: the part of the generator's model that makes the image."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """How often the network is asked about each image in an update."""

    @abstractmethod
    def roll(self, conditions: Sequence[Condition], seeds: Sequence[int], draw: np.random.Generator) -> Rolled:
        """Generate images.

        Args:
            conditions: one an image.
            seeds: one an image.
            draw: of what is common to all images, such as the steps that add noise; all processes draw alike.
        """

    @abstractmethod
    def model_images(self, rolled: Rolled) -> Tensor:
        """The images `(N, C, *size)` in the model's space."""

    @abstractmethod
    def samples(
        self, rolled: Rolled, places: Tensor, number: int, draws: Sequence[torch.Generator], scores: Scores
    ) -> Samples:
        """What the network is asked about some images.

        Args:
            rolled: of `roll`.
            places: which images, int64.
            number: of the pass, from 0 to `passes` - 1.
            draws: a generator an image.
            scores: of these images.
        """

    @abstractmethod
    def predict(self, module: nn.Module, samples: Samples) -> Tensor:
        """The prediction of the generator's model, or of a module that wraps it."""

    @abstractmethod
    def losses(self, samples: Samples, predictions: Predictions) -> Losses:
        """The objective."""

    def images(self, conditions: Sequence[Condition], seeds: Sequence[int], rolled: Rolled) -> list[Image]:
        """The images in the values of their modality, as the generator gives them.

        Raises:
            UserError: values that are not finite.
        """
        generator = self.generator
        return generator.framed(conditions, seeds, on_cpu(self.model_images(rolled)), generator.sampling)
