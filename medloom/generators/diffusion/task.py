"""Training a diffusion generator: the Task that the loop sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medloom.core.types import Batch
from medloom.generators.base_task import LossTask, normal_draws
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.objective import Objective
from medloom.generators.row_order import repeats
from medloom.generators.tensors import ConditionTensors
from medloom.generators.training_data import TrainingData, condition_tensors
from medloom.processes.paths import apply_noise_offset
from medloom.training.options import LoopOptions


@dataclass(frozen=True, eq=False)
class DiffusionBatch(Batch):
    """Images or latents with their noise and times.

    Attributes:
        condition: the conditions' tensors.
        time: `(N,)`, in the path's unit.
        noise: standard normal, of the shape of what is denoised.
        posterior: standard normal draws of latents, with an autoencoder.
        offset: standard normal `(N, C)`, with a noise offset.
    """

    condition: ConditionTensors
    time: Tensor
    noise: Tensor
    posterior: Tensor | None = None
    offset: Tensor | None = None


class DiffusionTask(LossTask[DiffusionGenerator, DiffusionBatch]):
    """Denoising score matching or flow matching on cached images or latents.

    Attributes:
        objective: what errors of predictions cost.
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
        text_factor: float = 1.0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(generator, data, validation, options, dropout, device, render, text_factor)
        self.objective = objective or Objective()

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> DiffusionBatch:
        """Targets with their noise and times, and the conditions' tensors; see GeneratorTask."""
        repeated = repeats(rows) if repeated is None else repeated
        generators, uniforms = self.draws(rows, step, repeated)
        crops = data.draw_crops(self.options.seed, step, rows, repeated)
        targets = data.images(rows, crops)
        priors = data.draw_priors(self.options.seed, step, rows, repeated, crops)
        generator, shape = self.generator, self.generator.latent_shape
        noise = normal_draws(generators, shape)
        dropout = self.dropout if dropout is None else dropout
        condition = condition_tensors(generator, data, rows, uniforms[:, 1], dropout, crops, priors)
        posterior = normal_draws(generators, shape) if generator.autoencoder is not None else None
        offset = normal_draws(generators, shape[:1]) if generator.path.noise_offset else None

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        return DiffusionBatch(
            moved(targets),
            tuple(rows),
            step if isinstance(step, int) else -1,
            condition.to(self.device),
            moved(generator.path.draw_time(uniforms[:, 0].clamp(1e-9, 1 - 1e-9))),
            moved(noise),
            None if posterior is None else moved(posterior),
            None if offset is None else moved(offset),
        )

    def _losses(self, model: nn.Module, batch: DiffusionBatch) -> Tensor:
        """Weighted error of each sample, `(N,)`."""
        path, clean, noise = self.generator.path, batch.images, batch.noise
        if self.generator.autoencoder is not None and batch.posterior is not None:
            clean = self.generator.autoencoder.sample(clean, batch.posterior)
        if batch.offset is not None:
            noise = apply_noise_offset(noise, batch.offset, path.noise_offset)
        example = path.example(clean, noise, batch.time)
        output = model(example.noisy, path.time_embedding_value(batch.time), batch.condition)
        prediction = path.predicted(output, example.noisy, batch.time)
        regions = None
        if self.objective.by_region and batch.condition.mask_labels is not None:
            regions = self.generator.model.regions(batch.condition.mask_labels, clean)
        return example.weight * self.objective.losses(prediction.float(), example.target.float(), regions)
