"""Training a token generator: the Task that the loop sees."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.types import Batch
from medloom.generators.base_task import ConditionedTask
from medloom.generators.row_order import repeats
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.options import TokenOptions
from medloom.generators.tokens.storage import save_generator
from medloom.generators.training_data import INPUTS, TrainingData, condition_tensors
from medloom.processes.token_masking import draw_masks, masked_share
from medloom.training.options import LoopOptions

# Shares of masked tokens at which the loss on held-out rows is told.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


class TokenTask(ConditionedTask[TokenGenerator]):
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
        text_rate: float = 1.0,
        tokens: TokenOptions | None = None,
        coarse: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
    ) -> None:
        super().__init__(generator, data, validation, options, dropout, device, render, text_rate)
        self.tokens = tokens or TokenOptions()
        self.coarse = coarse

    def _freeze(self) -> None:
        super()._freeze()
        if self.generator.first is not None:
            self.generator.first.model.requires_grad_(False).eval()
            self.generator.first.tokeniser.requires_grad_(False).eval()

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
        """Tokens `(N, 1, *grid)`, which of them are masked, and the condition's tensors; see ConditionedTask."""
        repeated = repeats(rows) if repeated is None else repeated
        generators, uniforms = self.draws(rows, step, repeated)
        length = self.generator.model.network.length
        # Sorted where training is: a core takes longer to sort them than a GPU takes for the network.
        order = torch.stack([torch.rand(length, generator=generator) for generator in generators]).to(self.device)
        priors = data.draw_priors(self.options.seed, step, rows, repeated)
        rate = self.dropout if dropout is None else dropout
        extra = {
            "masked": draw_masks(masked_share(uniforms[:, 0], self.tokens.schedule).to(self.device), order),
            "order": order,
            **condition_tensors(self.generator, data, rows, uniforms[:, 1], rate, None, priors),
        }
        if self.coarse is not None:
            own = self.coarse[0 if data is self.data else 1]
            extra["coarse"] = torch.from_numpy(np.stack([own[row] for row in rows]).astype(np.int64))
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in extra.items()}
        number = step if isinstance(step, int) else -1
        images = data.images(rows).to(self.device, non_blocking=True)
        return Batch(images, tuple(rows), tuple(data.told(rows)), number, moved)

    def _losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over each sample's masked tokens, `(N,)`."""
        tokens, masked = batch.images.round().long().flatten(1), batch.extra["masked"]
        inputs = {name: batch.extra.get(name) for name in (*INPUTS, "coarse")}
        codes = self.generator.tokeniser.codes
        logits = model(tokens.masked_fill(masked, codes), inputs, masked)
        smoothing = self.tokens.smoothing if model.training else 0.0
        errors = F.cross_entropy(logits.float(), tokens[masked], reduction="none", label_smoothing=smoothing)
        sums = torch.zeros(len(tokens), device=errors.device).index_add_(0, masked.nonzero()[:, 0], errors)
        return sums / masked.sum(1)

    def _validated(self, rows: Sequence[int]) -> dict[str, float]:
        """The loss on held-out rows, over the mask schedule and at fixed shares of masked tokens."""
        losses: list[float] = []
        at: dict[float, list[float]] = {share: [] for share in SHARES}
        model = self.generator.model
        for batch in self.validation_batches(rows):
            losses += self._losses(model, batch).tolist()
            for share, found in at.items():
                masked = draw_masks(torch.full((len(batch.rows),), share, device=self.device), batch.extra["order"])
                changed = Batch(
                    batch.images, batch.rows, batch.conditions, batch.step, {**batch.extra, "masked": masked}
                )
                found += self._losses(model, changed).tolist()
        shown = {f"validation/loss at {share:.0%} masked": float(np.mean(found)) for share, found in at.items()}
        return {"validation/loss": float(np.mean(losses)), **shown}
