"""Training a diffusion generator: the Task that the loop sees."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medloom.core.seeds import torch_generator
from medloom.core.types import Batch, Phase
from medloom.generators.conditioned_data import INPUTS, TrainingData, condition_tensors
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.objective import Objective
from medloom.generators.diffusion.storage import save_generator
from medloom.generators.row_order import RowOrder, repeats, spread_rows
from medloom.processes.predictions import apply_noise_offset
from medloom.training.options import LoopOptions

VALIDATION_IMAGES = 256
VALIDATION_BATCH = 32
VALIDATION_PATCHES = 16


class DiffusionTask:
    """Denoising score matching or flow matching on cached images or latents.

    Data order, times, noise and condition dropout are functions of (run seed, step, row).

    Attributes:
        generator: what is trained; only its `model` changes.
        data: the training rows; validation: the validation rows.
        options: of the loop.
        dropout: share of each nested subset of the condition that is dropped.
        device: where batches go.
        text_rate: factor on the learning rate of the text encoder.
        objective: what errors of predictions cost.
        render: draws the fixed validation conditions, `(generator, out, step)`.
    """

    def __init__(
        self,
        generator: DiffusionGenerator,
        data: TrainingData,
        validation: TrainingData,
        options: LoopOptions,
        dropout: float,
        device: torch.device,
        render: Callable[[DiffusionGenerator, Path, int], None],
        text_rate: float = 1.0,
        objective: Objective | None = None,
    ) -> None:
        self.generator = generator
        self.data = data
        self.validation = validation
        self.options = options
        self.dropout = dropout
        self.device = device
        self.render = render
        self.text_rate = text_rate
        self.objective = objective or Objective()
        self.order = RowOrder(options.seed, len(data.usable), options.batch)
        self._freeze()

    def _freeze(self) -> None:
        """Leave exactly the trained weights with gradients."""
        model = self.generator.model
        if self.generator.autoencoder is not None:
            self.generator.autoencoder.requires_grad_(False).eval()
        model.train()
        model.text.requires_grad_(self.generator.train_text)
        model.text.train(self.generator.train_text)

    def phases(self) -> Sequence[Phase]:
        """One phase: all trained networks together."""
        options = self.options
        return [
            Phase(
                "loss",
                self.generator.model,
                self._loss,
                options.learning_rate,
                weight_decay=options.weight_decay,
                rates={"text.": self.text_rate},
            )
        ]

    def ema(self) -> nn.Module:
        """The trained networks."""
        return self.generator.model

    def after_step(self, step: int) -> None:
        """Nothing changes outside of the weights."""

    def state(self) -> Mapping[str, Tensor]:
        """No state beyond the weights."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """No state beyond the weights."""

    def save_model(self, folder: Path) -> None:
        """Write the generator."""
        save_generator(self.generator, folder)

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[Batch]]:
        """This process's micro-batches of each step: its share of the step's rows, in order."""
        for step in count(first_step):
            where = (step, rank, processes, self.options.accumulate)
            parts = zip(self.order.micro_batches(*where), self.order.micro_repeats(*where), strict=True)
            yield [
                self.batch(self.data, [self.data.usable[place] for place in part], step, repeated=repeated)
                for part, repeated in parts
            ]

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> Batch:
        """A batch of some rows: targets with their noise and times, and the condition's tensors.

        Args:
            data: the rows' data.
            rows: which.
            step: optimiser step, or a name for batches outside of training.
            dropout: in place of the task's own.
            repeated: how often each row stood before in the step, so that its noise is another each time.
        """
        repeated = repeats(rows) if repeated is None else repeated
        keys = [(row, repeat) if repeat else (row,) for row, repeat in zip(rows, repeated, strict=True)]
        generators = [torch_generator(self.options.seed, "row", step, *key) for key in keys]
        uniforms = torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in generators])
        crops = data.draw_crops(self.options.seed, step, rows, repeated)
        targets = data.images(rows, crops)
        priors = data.draw_priors(self.options.seed, step, rows, repeated, crops)
        shape = self.generator.latent_shape
        extra = {
            "time": self.generator.path.draw_time(uniforms[:, 0].clamp(1e-9, 1 - 1e-9)),
            "noise": _draws(generators, shape),
            **condition_tensors(
                self.generator, data, rows, uniforms[:, 1], self.dropout if dropout is None else dropout, crops, priors
            ),
        }
        if self.generator.autoencoder is not None:
            extra["posterior"] = _draws(generators, shape)
        if self.generator.path.noise_offset:
            extra["offset"] = _draws(generators, shape[:1])
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in extra.items()}
        conditions = tuple(data.told(rows, crops))
        number = step if isinstance(step, int) else -1
        return Batch(targets.to(self.device, non_blocking=True), tuple(rows), conditions, number, moved)

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._losses(model, batch).mean(), {}

    def _losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Weighted error of each sample, `(N,)`."""
        path, extra = self.generator.path, batch.extra
        clean = batch.images
        if self.generator.autoencoder is not None:
            clean = self.generator.autoencoder.sample(clean, extra["posterior"])
        noise = extra["noise"]
        if path.noise_offset:
            noise = apply_noise_offset(noise, extra["offset"], path.noise_offset)
        time = extra["time"]
        noisy = path.add_noise(clean, noise, time)
        inputs = {name: extra.get(name) for name in INPUTS}
        prediction = path.predicted(model(noisy, path.time_embedding_value(time), inputs), noisy, time)
        target = path.target(clean, noise, time).float()
        regions = None
        if self.objective.by_region and "labels" in extra:
            regions = self.generator.model.regions(extra["labels"], clean)
        return path.weight(time) * self.objective.losses(prediction.float(), target, regions)

    @torch.no_grad()
    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """The loss on held-out rows at fixed times and noise, and the fixed conditions rendered to `out`."""
        model = self.generator.model
        model.eval()
        rows = self._validation_rows()
        again = repeats(rows)
        losses: list[float] = []
        # Volumes take no more memory than a micro-batch of training does.
        volumes = self.generator.spec.spatial_dims == 3
        size = self.options.batch // self.options.accumulate if volumes else VALIDATION_BATCH
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            batch = self.batch(self.validation, rows[part], "validation", dropout=0.0, repeated=again[part])
            losses += self._losses(model, batch).tolist()
        self.render(self.generator, out, step)
        self._freeze()
        return {"validation/loss": float(np.mean(losses))} if losses else {}

    def _validation_rows(self) -> list[int]:
        """Rows evenly over all of them; of few whole images, several patches each."""
        usable = self.validation.usable
        rows = [usable[place] for place in spread_rows(len(usable), VALIDATION_IMAGES)]
        return rows * -(-VALIDATION_PATCHES // len(rows)) if rows and self.validation.patches is not None else rows


def _draws(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal draws `(N, *shape)`, row k from generator k."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
