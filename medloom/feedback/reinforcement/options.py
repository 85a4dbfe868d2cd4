"""Options of reinforcement."""

from dataclasses import dataclass, field

from medloom.core.limits import check_limits, limited
from medloom.feedback.reinforcement.objectives import ObjectiveOptions
from medloom.training.options import LoopOptions


@dataclass(frozen=True)
class ReinforcementOptions:
    """How a generator is reinforced within a round.

    Attributes:
        objective: nft, filtered or grpo; by default the one that won the comparison for the model's family.
        iterations: how often images are generated and learnt from.
        prompts: conditions an iteration.
        group: images a condition, which are compared with each other.
        updates: optimiser steps an iteration, each on its part of the images.
        times: noise levels, steps of the sampler or fractions of masked tokens at which an image is learnt from.
        steps: of the sampler while it learns; images are sampled without guidance.
        learning_rate: of the network.
        hold: how much of the policy that generates is kept at most from one iteration to the next; it begins at 0.
        ema: decay of the moving average of the weights, which is saved as the model.
        batch: images that are sampled, or learnt from, at a time.
        settings: of the objective.
    """

    objective: str | None = None
    iterations: int = limited(30, at_least=1)
    prompts: int = limited(32, at_least=1)
    group: int = limited(16, at_least=2)
    updates: int = limited(2, at_least=1)
    times: int = limited(2, at_least=1, at_most=4)
    steps: int = limited(10, at_least=2)
    learning_rate: float = limited(3e-4, above=0)
    hold: float = limited(0.5, at_least=0, below=1, setting=True)
    ema: float = limited(0.9, at_least=0, below=1, setting=True)
    batch: int = limited(64, at_least=1)
    settings: ObjectiveOptions = field(default_factory=ObjectiveOptions)

    def __post_init__(self) -> None:
        check_limits(self, "policy")

    @property
    def images(self) -> int:
        """Images an iteration."""
        return self.prompts * self.group

    def loop(self, iterations: int, seed: int, precision: str, checkpoint_every: int) -> LoopOptions:
        """The training loop for so many iterations; its steps are updates."""
        return LoopOptions(
            steps=iterations * self.updates,
            batch=max(1, self.images // self.updates),
            learning_rate=self.learning_rate,
            warmup=0,
            schedule="constant",
            weight_decay=0.0,
            ema=self.ema,
            precision=precision,
            seed=seed,
            log_every=1,
            validate_every=iterations * self.updates,
            checkpoint_every=checkpoint_every * self.updates,
            keep_best=0,
        )
