"""Training a diffusion generator: the Task that the loop sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.lookup import look_up
from medloom.core.types import Batch
from medloom.generators.base_task import LossTask, normal_draws
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.level_errors import LevelErrors
from medloom.generators.tensors import ConditionTensors
from medloom.generators.training_data import TrainingData, condition_tensors, repeats
from medloom.processes.paths import apply_noise_offset
from medloom.training.options import LoopOptions

ERRORS: Mapping[str, Callable[..., Tensor]] = {"l2": F.mse_loss, "l1": F.l1_loss}


@dataclass(frozen=True)
class DiffusionObjective:
    """How errors of predictions are added up.

    Attributes:
        error: l2 (squared) or l1 (absolute).
        balance: how far small regions of the mask count as much as large ones; see `region_weights`.
        level_balance: how far noise levels count alike, whatever their errors; see `LevelErrors`.
    """

    error: str = "l2"
    balance: float = 0.0
    level_balance: float = 0.0

    def __post_init__(self) -> None:
        look_up(ERRORS, self.error, "noise.loss")

    @property
    def by_region(self) -> bool:
        """Whether it asks for regions."""
        return bool(self.balance)

    def losses(self, prediction: Tensor, target: Tensor, regions: Tensor | None) -> Tensor:
        """The error of each sample.

        Args:
            prediction: float32 `(N, C, *spatial)`; target: the same.
            regions: `(N, R, *spatial)`, the share of each place in each region; None for a model without masks.

        Returns:
            `(N,)`.
        """
        error = ERRORS[self.error]
        errors = error(prediction, target, reduction="none")
        if regions is not None and self.balance:
            errors = errors * region_weights(regions, self.balance)
        return errors.flatten(1).mean(1)


def region_weights(regions: Tensor, balance: float) -> Tensor:
    """Weights of positions, mean 1 in each image: regions of a mask count by their area to the power 1 - balance.

    They depend on the mask alone, which conditions the network, and so change no minimiser of a squared error; they do
    change how soon a region of few pixels is learnt.

    Args:
        regions: `(N, R, *spatial)`, the share of each place in each region; they sum to 1 where there is a mask.
        balance: 0 for places alike, 1 for regions alike.

    Returns:
        `(N, 1, *spatial)`; 1 everywhere in an image without a mask, and about 1 beyond a mask, in padding say.
    """
    areas = regions.flatten(2).mean(2).clamp(min=1e-6) ** -balance
    weights = torch.einsum("nr,nr...->n...", areas, regions)[:, None]
    beyond = regions.sum(1, keepdim=True) == 0
    covered = (~beyond).flatten(1).sum(1).clamp(min=1)
    inside = (weights.flatten(1).sum(1) / covered).reshape(-1, *[1] * (weights.ndim - 1))
    weights = torch.where(beyond, inside, weights)
    means = weights.flatten(1).mean(1).reshape(-1, *[1] * (weights.ndim - 1))
    return torch.where(means > 0, weights / means.clamp(min=1e-12), torch.ones_like(weights))


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
        objective: DiffusionObjective | None = None,
    ) -> None:
        super().__init__(generator, data, validation, options, dropout, device, render, text_factor)
        self.objective = objective or DiffusionObjective()
        self.level_errors = LevelErrors(self.objective.level_balance, device)

    def after_step(self, step: int) -> None:
        """What a step's samples showed about errors at their noise levels weights those of the next."""
        self.level_errors.advance()

    def state(self) -> Mapping[str, Tensor]:
        """The mean errors by noise level."""
        return self.level_errors.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the mean errors by noise level."""
        self.level_errors.load_state(state)

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
        losses = example.weight * self.objective.losses(prediction.float(), example.target.float(), regions)
        # Held-out losses stay as they are: weights that change would make two validations incomparable.
        if not (self.objective.level_balance and model.training):
            return losses
        log_snr = 2 * (path.alpha(batch.time).log() - path.sigma(batch.time).log())
        weights = self.level_errors.weights(log_snr)
        self.level_errors.add(log_snr, losses)
        return weights * losses
