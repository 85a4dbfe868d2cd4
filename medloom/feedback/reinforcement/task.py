"""Reinforcement as a Task: each iteration generates images, has them rewarded, and learns from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.image import Image
from medloom.core.seeds import MAX_SEED, numpy_generator, torch_generator
from medloom.core.types import Condition, Phase
from medloom.feedback.reinforcement.advantages import centred, scaled
from medloom.feedback.reinforcement.objectives import Predictions
from medloom.feedback.reinforcement.options import ReinforcementOptions
from medloom.feedback.reinforcement.policy import Policy, Scores
from medloom.feedback.reinforcement.samples import PolicySamples
from medloom.generators.training_data import RowOrder
from medloom.networks.ema import WeightCopy

if TYPE_CHECKING:
    from accelerate import Accelerator

# By which of the policy that generates more is kept each iteration, up to `hold` (Zheng et al. 2025, appendix).
HOLD_STEP = 0.001
OLD = "old."
Rewarding = Callable[[Sequence[Image], Sequence[Condition]], NDArray[np.float64]]


class ReinforcementTask:
    """A generator that learns from rewards of its own images.

    What is generated is a function of (seed, iteration, prompt) and of the weights that generate, which are part of the
    state: a run that is resumed generates the images of an iteration again, and learns the same.

    Attributes:
        policy: what is trained.
        conditions: that images are generated for.
        reward: of images, NaN where there is none.
        options: how.
        seed: of all that is drawn.
        accelerator: of the run.
        evaluate: measures the generator, `(out, step)` to metrics.
    """

    prefetches = False

    def __init__(
        self,
        policy: Policy[Any, Any],
        conditions: Sequence[Condition],
        reward: Rewarding,
        options: ReinforcementOptions,
        seed: int,
        accelerator: "Accelerator",
        evaluate: Callable[[Path, int], Mapping[str, float]],
    ) -> None:
        self.policy, self.conditions, self.reward, self.options = policy, conditions, reward, options
        self.seed, self.accelerator, self.evaluate = seed, accelerator, evaluate
        self.order = RowOrder(seed, range(len(conditions)), options.prompts)
        self._prepare()
        self.old, self.reference = WeightCopy(self.module), WeightCopy(self.module)

    @property
    def module(self) -> nn.Module:
        """The generator's model, all but the policy's network frozen."""
        model: nn.Module = self.policy.generator.model
        return model

    def _prepare(self) -> None:
        generator = self.policy.generator
        for part in (generator.model, generator.autoencoder, generator.tokenizer):
            if part is not None:
                # Without dropout: a changed weight is then all that changes a probability.
                part.requires_grad_(False).eval()
        self.policy.network.requires_grad_(True)

    def phases(self) -> Sequence[Phase[PolicySamples]]:
        """One phase: the objective."""
        return [Phase("objective", self.module, self._loss, self.options.learning_rate, weight_decay=0.0)]

    def _loss(self, model: nn.Module, samples: PolicySamples) -> tuple[Tensor, Mapping[str, Tensor]]:
        policy = self.policy
        with torch.no_grad():
            with self.old.applied():
                old = policy.predict(self.module, samples)
            reference = old
            if policy.options.kl:
                with self.reference.applied():
                    reference = policy.predict(self.module, samples)
        losses = policy.losses(samples, Predictions(policy.predict(model, samples), old, reference))
        rewards = samples.rewards.nanmean() if samples.rewards.isfinite().any() else torch.zeros(())
        return losses.values.mean(), {**losses.logged, "reward": rewards}

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[PolicySamples]]:
        """For each update its part of the iteration's images, asked about `times` times."""
        updates, known = self.options.updates, -1
        chunks: list[tuple[Any, Scores, Tensor, list[int]]] = []
        for step in count(first_step):
            iteration, update = divmod(step, updates)
            if iteration != known:
                chunks, known = self._roll(iteration, rank, processes), iteration
            yield [
                batch
                for rolled, scores, places, seeds in chunks
                for batch in self._asked(rolled, scores, places[update::updates], seeds, step)
            ]

    def _asked(
        self, rolled: Any, scores: Scores, places: Tensor, seeds: Sequence[int], step: int
    ) -> Iterator[PolicySamples]:
        for number in range(self.policy.passes):
            draws = [torch_generator(self.seed, "asked", step, number, seeds[place]) for place in places.tolist()]
            yield self.policy.samples(rolled, places, number, draws, scores.of(places))

    def _roll(self, iteration: int, rank: int, processes: int) -> list[tuple[Any, Scores, Tensor, list[int]]]:
        """This process's images of an iteration, in chunks: as generated, scores, order, and seeds."""
        group, size = self.options.group, self.options.batch
        ((rows, repeated),) = self.order.micro_batches(iteration, rank, processes, 1)
        pairs = [
            (self.conditions[row], self._seed(iteration, row, again, member))
            for row, again in zip(rows, repeated, strict=True)
            for member in range(group)
        ]
        rolled, rewards = [], []
        with self.old.applied(), self.accelerator.autocast():
            for start in range(0, len(pairs), size):
                conditions, seeds = (list(part) for part in zip(*pairs[start : start + size], strict=True))
                draw = numpy_generator(self.seed, "window", iteration)
                rolled.append((self.policy.roll(conditions, seeds, draw), seeds))
                rewards.append(self.reward(self.policy.images(conditions, seeds, rolled[-1][0]), conditions))
        found = np.concatenate(rewards)
        differences = centred(found.reshape(len(rows), group))
        advantages = scaled(differences, self._deviation(differences), self.policy.options.advantage_clip).ravel()
        chunks = []
        for number, (own, seeds) in enumerate(rolled):
            part = slice(number * size, number * size + len(seeds))
            scores = Scores(torch.from_numpy(found[part]).float(), torch.from_numpy(advantages[part]).float())
            # Each update has images of every prompt.
            order = numpy_generator(self.seed, "update", iteration, number).permutation(len(seeds))
            chunks.append((own, scores, torch.from_numpy(order), seeds))
        return chunks

    def _seed(self, iteration: int, row: int, again: int, member: int) -> int:
        return int(numpy_generator(self.seed, "rollout", iteration, row, again, member).integers(MAX_SEED))

    def _deviation(self, differences: NDArray[np.float64]) -> float:
        """The standard deviation over the images of all processes."""
        sums = torch.tensor([np.square(differences).sum(), differences.size], dtype=torch.float32)
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums.to(self.accelerator.device), reduction="sum").cpu()
        return float((sums[0] / sums[1]).sqrt())

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """What `evaluate` measures."""
        metrics = self.evaluate(out, step)
        self._prepare()
        return metrics

    def ema(self) -> nn.Module:
        """The generator's model, the network alone of which changes."""
        return self.module

    def after_step(self, step: int) -> None:
        """At the end of an iteration the policy that generates follows the weights."""
        iteration, rest = divmod(step, self.options.updates)
        if not rest:
            self.old.blend(min(HOLD_STEP * iteration, self.options.hold))

    def state(self) -> Mapping[str, Tensor]:
        """The weights that generate."""
        return {f"{OLD}{name}": value for name, value in self.old.shadow.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the weights that generate."""
        self.old.load({name.removeprefix(OLD): value for name, value in state.items() if name.startswith(OLD)})

    def save_model(self, folder: Path) -> None:
        """Write the generator."""
        self.policy.generator.save(folder)
