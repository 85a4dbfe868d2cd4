"""Training a diffusion generator: the Task that the loop sees."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medloom.core.types import Batch
from medloom.generators.base_task import ConditionedTask
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.objective import Objective
from medloom.generators.diffusion.storage import save_generator
from medloom.generators.row_order import repeats
from medloom.generators.training_data import INPUTS, TrainingData, condition_tensors
from medloom.processes.predictions import apply_noise_offset
from medloom.training.options import LoopOptions


class DiffusionTask(ConditionedTask[DiffusionGenerator]):
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
        text_rate: float = 1.0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(generator, data, validation, options, dropout, device, render, text_rate)
        self.objective = objective or Objective()

    def save_model(self, folder: Path) -> None:
        """Write the generator."""
        save_generator(self.generator, folder)

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> Batch:
        """Targets with their noise and times, and the condition's tensors; see ConditionedTask."""
        repeated = repeats(rows) if repeated is None else repeated
        generators, uniforms = self.draws(rows, step, repeated)
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


def _draws(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal draws `(N, *shape)`, row k from generator k."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
