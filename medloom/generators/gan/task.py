"""Training a GAN: the Task that the loop sees, with a phase for the generator and one for its adversary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from medloom.core.types import Batch, Phase
from medloom.generators.gan.adversary import Shown, compressed, expanded
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.objective import Objective
from medloom.generators.gan.pairing import Pairing, require_pairs
from medloom.generators.gan.pool import ImagePool
from medloom.generators.gan.storage import save_generator
from medloom.generators.row_order import RowOrder, repeats, spread_rows
from medloom.generators.training_data import TrainingData
from medloom.training.options import LoopOptions

# Both sides' (Radford et al. 2016; pix2pix and CycleGAN).
BETAS = (0.5, 0.999)
VALIDATION_IMAGES = 256
VALIDATION_BATCH = 32
VALIDATION_PATCHES = 16
# Channels of masks, which the pool keeps as one number a place.
MASKED = ("spatial", "masks")


class GANTask:
    """A generator against discriminators, or without them.

    Data order, pairs, noise, condition dropout and the pool's choices are functions of (run seed, step, row).

    Attributes:
        generator: what is trained.
        pairing: how images and masks meet.
        objective: of both phases; holds the adversary.
        data: the training rows; validation: the validation rows.
        options: of the loop.
        dropout: share of each nested subset of the condition that is dropped.
        device: where batches go.
        text_rate: factor on the learning rate of the text encoder.
        render: draws the fixed validation conditions, `(generator, out, step)`.
        pool: earlier images for the adversary.
    """

    def __init__(
        self,
        generator: GANGenerator,
        pairing: Pairing,
        objective: Objective,
        data: TrainingData,
        validation: TrainingData,
        options: LoopOptions,
        dropout: float,
        device: torch.device,
        render: Callable[[GANGenerator, Path, int], None],
        text_rate: float = 1.0,
    ) -> None:
        """Make the task.

        Raises:
            UserError: training rows of which no step can be drawn.
        """
        require_pairs(pairing, data)
        self.generator = generator
        self.pairing = pairing
        self.objective = objective
        self.data = data
        self.validation = validation
        self.options = options
        self.dropout = dropout
        self.device = device
        self.render = render
        self.text_rate = text_rate
        self.order = RowOrder(options.seed, len(data.usable), options.batch)
        self.pool = self._new_pool()
        self._made: dict[int, tuple[Shown, Shown]] = {}
        self._prepare()

    def _new_pool(self) -> ImagePool:
        """An empty pool of what the adversary is shown."""
        adversary, spec, model = self.objective.adversary, self.generator.spec, self.generator.model
        shapes: dict[str, tuple[Sequence[int], torch.dtype]] = {"images": (spec.shape, torch.float32)}
        if adversary is not None and adversary.images.takes_spatial:
            shapes["spatial"] = (spec.size, torch.int16)
        if adversary is not None and adversary.masks is not None:
            shapes["masks"] = (spec.size, torch.int16)
        if model.fused:
            shapes["pooled"] = ((model.network.config.pooled_width,), torch.float32)
        size = self.objective.options.pool if adversary is not None else 0
        return ImagePool(size, self.options.seed, shapes, self.device)

    def _prepare(self) -> None:
        """Leave exactly the trained weights with gradients, and all in training mode."""
        self.pairing.module.train()
        text = self.generator.model.text
        text.requires_grad_(self.generator.train_text)
        text.train(self.generator.train_text)

    def phases(self) -> Sequence[Phase]:
        """The generator's, then the adversary's where there is one, each with a rate of its own."""
        options = self.options
        rates = dict.fromkeys(("text.", "model.text."), self.text_rate)
        phases = [
            Phase(
                "generator",
                self.pairing.module,
                self._generator_loss,
                options.learning_rate,
                betas=BETAS,
                weight_decay=options.weight_decay,
                rates=rates,
            )
        ]
        if self.objective.adversary is not None:
            rate = self.objective.options.discriminator_rate
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

    def ema(self) -> nn.Module:
        """The networks that make images."""
        return self.generator.model

    def after_step(self, step: int) -> None:
        """Forget the step's images."""
        self._made.clear()

    def state(self) -> Mapping[str, Tensor]:
        """The pool."""
        return self.pool.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the pool."""
        self.pool.load_state(state)

    def save_model(self, folder: Path) -> None:
        """Write the generator."""
        save_generator(self.generator, folder)

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[Batch]]:
        """This process's micro-batches of each step: its share of the step's rows, in order."""
        for step in count(first_step):
            where = (step, rank, processes, self.options.accumulate)
            parts = zip(self.order.micro_batches(*where), self.order.micro_repeats(*where), strict=True)
            yield [
                self.batch(self.data, [self.data.usable[place] for place in part], repeated, step)
                for part, repeated in parts
            ]

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        repeated: Sequence[int],
        step: int | str,
        dropout: float | None = None,
    ) -> Batch:
        """A batch of some rows: images, and what the pairing draws for them.

        Args:
            data: the rows' data.
            rows: which.
            repeated: how often each row stood before in the step.
            step: optimiser step, or a name for batches outside of training.
            dropout: in place of the task's own.
        """
        share = self.dropout if dropout is None else dropout
        images, extra = self.pairing.draw(data, rows, repeated, step, share)
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in extra.items()}
        conditions = tuple(data.conditions[row] for row in rows)
        number = step if isinstance(step, int) else -1
        return Batch(images.to(self.device, non_blocking=True), tuple(rows), conditions, number, moved)

    def _generator_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        made = self.pairing.make(module, batch)
        # The adversary's phase follows in the same step and judges the same images.
        self._made[id(batch)] = (made.real.map(torch.detach), made.fake.map(torch.detach))
        return self.objective.generator(made)

    def _discriminator_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        real, fake = self._made[id(batch)]
        return self.objective.discriminator(module, real, self._pooled(fake, batch), batch.step)

    def _pooled(self, fake: Shown, batch: Batch) -> Shown:
        """The step's images, or earlier ones in place of some."""
        given = {name: compressed(value) if name in MASKED else value for name, value in fake.tensors().items()}
        shown = self.pool.exchange(given, batch.rows, batch.step)
        channels = len(self.generator.model.mask_classes) + 1
        back = {name: expanded(value, channels) if name in MASKED else value for name, value in shown.items()}
        return Shown(**back)

    @torch.no_grad()
    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """The terms that need no adversary on held-out rows at fixed noise; the fixed conditions rendered to `out`."""
        self.pairing.module.eval()
        figures = self._figures() if self.pairing.check(self.validation) else {}
        self.render(self.generator, out, step)
        self._prepare()
        return figures

    def _figures(self) -> dict[str, float]:
        rows = self._validation_rows()
        again = repeats(rows)
        # Volumes take no more memory than a micro-batch of training does.
        volumes = self.generator.spec.spatial_dims == 3
        size = self.options.batch // self.options.accumulate if volumes else VALIDATION_BATCH
        sums: dict[str, float] = {}
        for start in range(0, len(rows), size):
            part, repeated = rows[start : start + size], again[start : start + size]
            batch = self.batch(self.validation, part, repeated, "validation", dropout=0.0)
            total, parts = self.objective.faithful(self.pairing.make(self.pairing.module, batch))
            for name, value in {"loss": total, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(part)
        return {f"validation/{name}": value / len(rows) for name, value in sums.items()}

    def _validation_rows(self) -> list[int]:
        """Rows evenly over all of them; of few whole images, several patches each."""
        usable = self.validation.usable
        rows = [usable[place] for place in spread_rows(len(usable), VALIDATION_IMAGES)]
        return rows * -(-VALIDATION_PATCHES // len(rows)) if self.validation.patches is not None else rows
