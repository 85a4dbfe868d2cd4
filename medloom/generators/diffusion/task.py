"""Training a diffusion generator: the Task that the loop sees."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.seeds import torch_generator
from medloom.core.table_column import NOT_KNOWN
from medloom.core.types import Batch, Condition, Phase
from medloom.data.cache import RaggedTexts
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.prompt import keep, prompt_of
from medloom.generators.diffusion.storage import save_generator
from medloom.generators.row_order import RowOrder, spread_rows
from medloom.processes.guidance import draw_subset, nested_subsets
from medloom.processes.predictions import apply_noise_offset
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The tensors of a batch that the networks take.
INPUTS = ("ids", "tokens", "pooled", "mask", "modality", "view", "table", "labels")
VALIDATION_IMAGES = 256
VALIDATION_BATCH = 32


@dataclass(frozen=True)
class TrainingData:
    """Everything a step needs, on disk or in memory, by row.

    Attributes:
        targets: images `(rows, C, *size)` in [-1, 1], or posterior moments `(rows, 2 C, *latent)` of an autoencoder.
        usable: the rows that are trained on.
        conditions: one a row.
        texts: token ids or embeddings of every text that the rows can give.
        labels: label maps int16 `(rows, *size)`, or None.
        cells: columns of the clinical table float32 `(rows, K)`, NaN where missing, or None.
    """

    targets: "NDArray[Any]"
    usable: Sequence[int]
    conditions: Sequence[Condition]
    texts: RaggedTexts
    labels: "NDArray[np.int16] | None" = None
    cells: Tensor | None = None


def all_prompts(conditions: Sequence[Condition], modality_as: str, parts: Sequence[str]) -> list[str]:
    """Every text that training can ask for: that of each nested subset of each condition."""
    subsets = nested_subsets(parts)
    return sorted({prompt_of(keep(c, kept, parts), modality_as, parts) for c in conditions for kept in subsets})


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
    ) -> None:
        self.generator = generator
        self.data = data
        self.validation = validation
        self.options = options
        self.dropout = dropout
        self.device = device
        self.render = render
        self.text_rate = text_rate
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
            parts = self.order.micro_batches(step, rank, processes, self.options.accumulate)
            yield [self.batch(self.data, [self.data.usable[place] for place in part], step) for part in parts]

    def batch(self, data: TrainingData, rows: Sequence[int], step: int | str, dropout: float | None = None) -> Batch:
        """A batch of some rows: targets with their noise and times, and the condition's tensors.

        Args:
            data: the rows' data.
            rows: which.
            step: optimiser step, or a name for batches outside of training.
            dropout: in place of the task's own.
        """
        generators = [torch_generator(self.options.seed, "row", step, row) for row in rows]
        uniforms = torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in generators])
        targets = torch.from_numpy(np.stack([data.targets[row] for row in rows]).astype(np.float32))
        shape = self.generator.latent_shape
        extra = {
            "time": self.generator.path.draw_time(uniforms[:, 0].clamp(1e-9, 1 - 1e-9)),
            "noise": _draws(generators, shape),
            **self._condition_tensors(data, rows, uniforms[:, 1], self.dropout if dropout is None else dropout),
        }
        if self.generator.autoencoder is not None:
            extra["posterior"] = _draws(generators, shape)
        if self.generator.path.noise_offset:
            extra["offset"] = _draws(generators, shape[:1])
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in extra.items()}
        conditions = tuple(data.conditions[row] for row in rows)
        number = step if isinstance(step, int) else -1
        return Batch(targets.to(self.device, non_blocking=True), tuple(rows), conditions, number, moved)

    def _condition_tensors(
        self, data: TrainingData, rows: Sequence[int], uniforms: Tensor, dropout: float
    ) -> dict[str, Tensor]:
        generator, parts = self.generator, self.generator.parts
        dropped = draw_subset(uniforms, parts, dropout)
        kept = [frozenset(parts) - gone for gone in dropped]
        conditions = [keep(data.conditions[row], own, parts) for row, own in zip(rows, kept, strict=True)]
        tensors = self._text_tensors(data.texts, conditions)
        if generator.model.condition is not None:
            names = [None if generator.modality_as == "text" else condition.modality for condition in conditions]
            modality, view = generator.model.condition.indices(names, [condition.view for condition in conditions])
            tensors |= {"modality": modality, "view": view}
        if generator.columns and data.cells is not None:
            untold = torch.tensor(["table" not in own for own in kept])
            tensors["table"] = data.cells[list(rows)].masked_fill(untold[:, None], NOT_KNOWN)
        if data.labels is not None:
            labels = torch.from_numpy(np.stack([data.labels[row] for row in rows]).astype(np.int64))
            gone = torch.tensor(["mask" not in own for own in kept])
            tensors["labels"] = labels.masked_fill(gone.view(-1, *[1] * (labels.ndim - 1)), -1)
        return tensors

    def _text_tensors(self, texts: RaggedTexts, conditions: Sequence[Condition]) -> dict[str, Tensor]:
        generator = self.generator
        prompts = [prompt_of(condition, generator.modality_as, generator.parts) for condition in conditions]
        tokens, mask, pooled = texts.rows([texts.index[prompt] for prompt in prompts])
        if not generator.train_text:
            return {
                "tokens": torch.from_numpy(tokens.astype(np.float32)),
                "pooled": torch.from_numpy(pooled.astype(np.float32)),
                "mask": torch.from_numpy(mask),
            }
        ids = torch.from_numpy(tokens[..., 0].astype(np.int64))
        pad = generator.model.text.tokenizer.pad_token_id
        return {"ids": ids.masked_fill(~torch.from_numpy(mask), pad), "mask": torch.from_numpy(mask)}

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._losses(model, batch).mean(), {}

    def _losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Weighted squared error of each sample, `(N,)`."""
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
        prediction = model(noisy, path.time_embedding_value(time), inputs)
        errors = F.mse_loss(prediction.float(), path.target(clean, noise, time).float(), reduction="none")
        return path.weight(time) * errors.flatten(1).mean(1)

    @torch.no_grad()
    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """The loss on held-out rows at fixed times and noise, and the fixed conditions rendered to `out`."""
        model = self.generator.model
        model.eval()
        usable = self.validation.usable
        rows = [usable[place] for place in spread_rows(len(usable), VALIDATION_IMAGES)]
        losses: list[float] = []
        for start in range(0, len(rows), VALIDATION_BATCH):
            batch = self.batch(self.validation, rows[start : start + VALIDATION_BATCH], "validation", dropout=0.0)
            losses += self._losses(model, batch).tolist()
        self.render(self.generator, out, step)
        self._freeze()
        return {"validation/loss": float(np.mean(losses))} if losses else {}


def _draws(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal draws `(N, *shape)`, row k from generator k."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
