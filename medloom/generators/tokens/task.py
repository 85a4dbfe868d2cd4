"""Training a token generator: the Task that the loop sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.types import Batch
from medloom.generators.base_task import LossTask
from medloom.generators.tensors import ConditionTensors
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.options import TokenOptions
from medloom.generators.training_data import TrainingData, condition_tensors, repeats
from medloom.processes.token_decoding import draw_masks, masked_fraction
from medloom.training.options import LoopOptions

# Fractions of masked tokens at which the loss on held-out rows is logged.
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class TokenBatch(Batch):
    """Tokens `(N, 1, *grid)`, and which of them are masked.

    Attributes:
        condition: the conditions' tensors.
        masked: bool `(N, L)`.
        order: uniforms float32 `(N, L)`: the tokens are masked in their order.
    """

    condition: ConditionTensors
    masked: Tensor
    order: Tensor


class TokenTask(LossTask[TokenGenerator, TokenBatch]):
    """Cross-entropy on masked tokens (Chang et al. 2022, eq. 3), on cached tokens.

    Attributes:
        tokens: mask schedule and label smoothing.
        coarse: of a second stage, the coarser tokens of the training and the validation rows `(rows, *coarse grid)`.
    """

    def __init__(
        self,
        generator: TokenGenerator,
        data: TrainingData,
        validation: TrainingData,
        options: LoopOptions,
        dropout: float,
        device: torch.device,
        render: Callable[[TokenGenerator, Path, int], None],
        text_factor: float = 1.0,
        tokens: TokenOptions | None = None,
        coarse: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
    ) -> None:
        super().__init__(generator, data, validation, options, dropout, device, render, text_factor)
        self.tokens = tokens or TokenOptions()
        self.coarse = coarse

    def _prepare(self) -> None:
        super()._prepare()
        if self.generator.first is not None:
            self.generator.first.model.requires_grad_(False).eval()
            self.generator.first.tokenizer.requires_grad_(False).eval()

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> TokenBatch:
        """Tokens, which of them are masked, and the conditions' tensors; see GeneratorTask."""
        repeated = repeats(rows) if repeated is None else repeated
        generators, uniforms = self.draws(rows, step, repeated)
        length = self.generator.model.network.length
        # Sorted where training is: a core takes longer to sort them than a GPU takes for the network.
        order = torch.stack([torch.rand(length, generator=generator) for generator in generators]).to(self.device)
        priors = data.draw_priors(self.options.seed, step, rows, repeated)
        dropout = self.dropout if dropout is None else dropout
        condition = condition_tensors(self.generator, data, rows, uniforms[:, 1], dropout, None, priors)
        if self.coarse is not None:
            own = self.coarse[0 if data is self.data else 1]
            coarse = torch.from_numpy(np.stack([own[row] for row in rows]).astype(np.int64))
            condition = replace(condition, coarse_tokens=coarse)
        fractions = masked_fraction(uniforms[:, 0], self.tokens.schedule).to(self.device)
        return TokenBatch(
            data.images(rows).to(self.device, non_blocking=True),
            tuple(rows),
            step if isinstance(step, int) else -1,
            condition.to(self.device),
            draw_masks(fractions, order),
            order,
        )

    def _losses(self, model: nn.Module, batch: TokenBatch) -> Tensor:
        """Mean cross-entropy over each sample's masked tokens, `(N,)`."""
        tokens, masked = batch.images.round().long().flatten(1), batch.masked
        logits = model(tokens.masked_fill(masked, self.generator.tokenizer.codes), batch.condition, masked)
        smoothing = self.tokens.smoothing if model.training else 0.0
        errors = F.cross_entropy(logits.float(), tokens[masked], reduction="none", label_smoothing=smoothing)
        sums = torch.zeros(len(tokens), device=errors.device).index_add_(0, masked.nonzero()[:, 0], errors)
        return sums / masked.sum(1)

    def _validated(self, rows: Sequence[int]) -> dict[str, float]:
        """The loss on held-out rows, over the mask schedule and at fixed fractions of masked tokens."""
        losses: list[float] = []
        at: dict[float, list[float]] = {fraction: [] for fraction in FRACTIONS}
        model = self.generator.model
        for batch in self.validation_batches(rows):
            losses += self._losses(model, batch).tolist()
            for fraction, found in at.items():
                masked = draw_masks(torch.full((len(batch.rows),), fraction, device=self.device), batch.order)
                found += self._losses(model, replace(batch, masked=masked)).tolist()
        shown = {f"validation/loss at {fraction:.0%} masked": float(np.mean(found)) for fraction, found in at.items()}
        return {"validation/loss": float(np.mean(losses)), **shown}
