"""Training a generator: what the Tasks of all families share; the loop sees only the Task protocol."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.seeds import torch_generator
from medloom.core.types import Batch, Phase
from medloom.generators.base import AnyGenerator
from medloom.generators.training_data import RowOrder, TrainingData, repeats, spread_rows
from medloom.training.options import LoopOptions

VALIDATION_IMAGES = 256
VALIDATION_BATCH = 32
VALIDATION_PATCHES = 16

Trained = TypeVar("Trained", bound=AnyGenerator)
OwnBatch = TypeVar("OwnBatch", bound=Batch)


class GeneratorTask(ABC, Generic[Trained, OwnBatch]):
    """A generator trained on cached rows.

    Data order and all that is drawn are functions of (run seed, step, row).

    Attributes:
        generator: what is trained; only its `model` changes.
        data: the training rows; validation: the validation rows.
        options: of the loop.
        dropout: probability of each nested subset of the condition to be dropped.
        device: where batches go.
        text_factor: factor on the learning rate of the text encoder.
        render: renders the fixed validation conditions, `(generator, out, step)`.
    """

    prefetches = True

    def __init__(
        self,
        generator: Trained,
        data: TrainingData,
        validation: TrainingData,
        options: LoopOptions,
        dropout: float,
        device: torch.device,
        render: Callable[[Trained, Path, int], None],
        text_factor: float = 1.0,
    ) -> None:
        self.generator = generator
        self.data = data
        self.validation = validation
        self.options = options
        self.dropout = dropout
        self.device = device
        self.render = render
        self.text_factor = text_factor
        self.order = RowOrder(options.seed, data.usable, options.batch)
        self._prepare()

    @property
    def module(self) -> nn.Module:
        """Everything that the generator's phase trains."""
        model: nn.Module = self.generator.model
        return model

    def _prepare(self) -> None:
        """Leave exactly the trained weights with gradients, in training mode."""
        for frozen in (self.generator.autoencoder, self.generator.tokenizer):
            if frozen is not None:
                frozen.requires_grad_(False).eval()
        self.module.train()
        text = self.generator.model.text
        text.requires_grad_(self.generator.train_text)
        text.train(self.generator.train_text)

    @abstractmethod
    def phases(self) -> Sequence[Phase[OwnBatch]]:
        """The optimisers' parts of a step."""

    def ema(self) -> nn.Module:
        """The networks that generate images."""
        model: nn.Module = self.generator.model
        return model

    def after_step(self, step: int) -> None:
        """Nothing changes outside of the weights."""

    def state(self) -> Mapping[str, Tensor]:
        """No state beyond the weights."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """No state beyond the weights."""

    def save_model(self, folder: Path) -> None:
        """Write the generator."""
        self.generator.save(folder)

    @abstractmethod
    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> OwnBatch:
        """A batch of some rows, with all that is drawn and the conditions' tensors.

        Args:
            data: the rows' data.
            rows: which.
            step: optimiser step, or a name for batches outside of training.
            dropout: instead of the task's own.
            repeated: how often each row stood before in the step, so that its noise is another each time.
        """

    @abstractmethod
    def _validated(self, rows: Sequence[int]) -> Mapping[str, float]:
        """Metrics of held-out rows."""

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[OwnBatch]]:
        """This process's micro-batches of each step: its part of the step's rows, in order."""
        for step in count(first_step):
            parts = self.order.micro_batches(step, rank, processes, self.options.accumulate)
            yield [self.batch(self.data, part, step, repeated=repeated) for part, repeated in parts]

    @torch.no_grad()
    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """The loss on held-out rows at fixed draws, and the fixed conditions rendered to `out`."""
        self.module.eval()
        # Rows evenly over all of them; of few whole images, several patches each.
        usable = self.validation.usable
        rows = [usable[place] for place in spread_rows(len(usable), VALIDATION_IMAGES)]
        if rows and self.validation.patches is not None:
            rows *= -(-VALIDATION_PATCHES // len(rows))
        metrics = self._validated(rows) if rows else {}
        self.render(self.generator, out, step)
        self._prepare()
        return metrics

    def validation_batches(self, rows: Sequence[int]) -> Iterator[OwnBatch]:
        """Batches of held-out rows, with the whole condition."""
        again = repeats(rows)
        # Volumes take no more memory than a micro-batch of training does.
        volumes = self.generator.spec.spatial_dims == 3
        size = self.options.batch // self.options.accumulate if volumes else VALIDATION_BATCH
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield self.batch(self.validation, rows[part], "validation", dropout=0.0, repeated=again[part])


class LossTask(GeneratorTask[Trained, OwnBatch]):
    """A generator trained by one loss, all of its networks together."""

    @abstractmethod
    def _losses(self, model: nn.Module, batch: OwnBatch) -> Tensor:
        """The loss of each sample, `(N,)`."""

    def phases(self) -> Sequence[Phase[OwnBatch]]:
        """One phase: all trained networks together."""
        options = self.options
        return [
            Phase(
                "loss",
                self.module,
                self._loss,
                options.learning_rate,
                weight_decay=options.weight_decay,
                learning_rate_factors={"text.": self.text_factor},
            )
        ]

    def draws(
        self, rows: Sequence[int], step: int | str, repeated: Sequence[int]
    ) -> tuple[list[torch.Generator], Tensor]:
        """A generator a row, a function of (run seed, step, row), and two uniforms of each, float64 `(N, 2)`."""
        keys = [(row, repeat) if repeat else (row,) for row, repeat in zip(rows, repeated, strict=True)]
        generators = [torch_generator(self.options.seed, "row", step, *key) for key in keys]
        return generators, torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in generators])

    def _loss(self, model: nn.Module, batch: OwnBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._losses(model, batch).mean(), {}

    def _validated(self, rows: Sequence[int]) -> dict[str, float]:
        """Metrics of held-out rows."""
        model = self.generator.model
        losses = [loss for batch in self.validation_batches(rows) for loss in self._losses(model, batch).tolist()]
        return {"validation/loss": float(np.mean(losses))}

    def image_losses(self, data: TrainingData, rows: Sequence[int], name: str) -> NDArray[np.float64]:
        """The loss of each of some rows, with the whole condition, at draws that are a function of row and name.

        Args:
            data: the rows' data.
            rows: which.
            name: of the draws.
        """
        found: list[float] = []
        for start in range(0, len(rows), VALIDATION_BATCH):
            batch = self.batch(data, rows[start : start + VALIDATION_BATCH], name, dropout=0.0)
            found += self._losses(self.generator.model, batch).tolist()
        return np.array(found)


def normal_draws(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal draws `(N, *shape)`, row k from generator k."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
