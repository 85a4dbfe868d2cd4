"""Training a GAN: the Task that the loop sees, with a phase for the generator and one for its adversary."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medloom.core.types import Phase
from medloom.generators.base_task import GeneratorTask
from medloom.generators.gan.adversary import Shown, compressed, expanded
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.objective import GANObjective
from medloom.generators.gan.pairing import GANBatch, Pairing, require_pairs
from medloom.generators.gan.pool import ImagePool
from medloom.generators.training_data import TrainingData, repeats
from medloom.training.options import LoopOptions

# Both sides' (Radford et al. 2016; pix2pix and CycleGAN).
BETAS = (0.5, 0.999)
# Channels of masks, which the pool keeps as one number a pixel.
MASKED = ("spatial", "masks")


class GANTask(GeneratorTask[GANGenerator, GANBatch]):
    """A generator against discriminators, or without them.

    Pairs, noise, condition dropout and the pool's choices are functions of (run seed, step, row).

    Attributes:
        pairing: how images and masks meet.
        objective: of both phases; holds the adversary.
        pool: images generated before, for the adversary.
    """

    def __init__(
        self,
        generator: GANGenerator,
        pairing: Pairing,
        objective: GANObjective,
        data: TrainingData,
        validation: TrainingData,
        options: LoopOptions,
        dropout: float,
        device: torch.device,
        render: Callable[[GANGenerator, Path, int], None],
        text_factor: float = 1.0,
    ) -> None:
        """Make the task.

        Raises:
            UserError: training rows that do not make a step.
        """
        require_pairs(pairing, data)
        self.pairing = pairing
        self.objective = objective
        self._made: dict[int, tuple[Shown, Shown]] = {}
        super().__init__(generator, data, validation, options, dropout, device, render, text_factor)
        adversary, spec, model = objective.adversary, generator.spec, generator.model
        shapes: dict[str, tuple[Sequence[int], torch.dtype]] = {"images": (spec.shape, torch.float32)}
        if adversary is not None and adversary.images.takes_spatial:
            shapes["spatial"] = (spec.size, torch.int16)
        if adversary is not None and adversary.masks is not None:
            shapes["masks"] = (spec.size, torch.int16)
        if model.fused:
            shapes["pooled"] = ((model.network.config.pooled_width,), torch.float32)
        size = objective.options.pool if adversary is not None else 0
        self.pool = ImagePool(size, options.seed, shapes, device)

    @property
    def module(self) -> nn.Module:
        """The generator, and, unpaired, its inverse."""
        return self.pairing.module

    def phases(self) -> Sequence[Phase[GANBatch]]:
        """The generator's, then the adversary's where there is one, each with a learning rate of its own."""
        options = self.options
        phases = [
            Phase(
                "generator",
                self.module,
                self._generator_loss,
                options.learning_rate,
                betas=BETAS,
                weight_decay=options.weight_decay,
                learning_rate_factors=dict.fromkeys(("text.", "model.text."), self.text_factor),
            )
        ]
        if self.objective.adversary is not None:
            rate = self.objective.options.discriminator_learning_rate
            judging = Phase(
                "discriminator",
                self.objective.adversary,
                self._discriminator_loss,
                rate,
                betas=BETAS,
                weight_decay=0.0,
            )
            phases.append(judging)
        return phases

    def after_step(self, step: int) -> None:
        """Forget the step's images."""
        self._made.clear()

    def state(self) -> Mapping[str, Tensor]:
        """The pool."""
        return self.pool.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the pool."""
        self.pool.load_state(state)

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> GANBatch:
        """Images, and what the pairing draws for them; see GeneratorTask."""
        repeated = repeats(rows) if repeated is None else repeated
        dropout = self.dropout if dropout is None else dropout
        images, own, other = self.pairing.draw(data, rows, repeated, step, dropout)
        return GANBatch(
            images.to(self.device, non_blocking=True),
            tuple(rows),
            step if isinstance(step, int) else -1,
            own.to(self.device),
            None if other is None else other.to(self.device),
        )

    def _generator_loss(self, module: nn.Module, batch: GANBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        made = self.pairing.make(module, batch)
        # The adversary's phase follows in the same step and judges the same images.
        self._made[id(batch)] = (made.real.map(torch.detach), made.fake.map(torch.detach))
        return self.objective.generator(made)

    def _discriminator_loss(self, module: nn.Module, batch: GANBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        real, fake = self._made[id(batch)]
        # Of the step's images some are replaced by earlier ones.
        given = {name: compressed(value) if name in MASKED else value for name, value in fake.tensors().items()}
        shown = self.pool.exchange(given, batch.rows, batch.step)
        channels = len(self.generator.model.mask_classes) + 1
        back = {name: expanded(value, channels) if name in MASKED else value for name, value in shown.items()}
        return self.objective.discriminator(module, real, Shown(**back), batch.step)

    def _validated(self, rows: Sequence[int]) -> dict[str, float]:
        """The terms that need no adversary, at fixed noise."""
        if not self.pairing.check(self.validation):
            return {}
        sums: dict[str, float] = {}
        for batch in self.validation_batches(rows):
            total, parts = self.objective.faithful(self.pairing.make(self.module, batch))
            for name, value in {"loss": total, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch.rows)
        return {f"validation/{name}": value / len(rows) for name, value in sums.items()}
