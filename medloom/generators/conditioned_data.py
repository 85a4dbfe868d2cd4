"""What a training step of any family needs of its rows: images, masks, and conditions as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medloom.core.table_column import NOT_KNOWN
from medloom.core.types import Condition
from medloom.data.cache import RaggedTexts
from medloom.generators.conditioned import ConditionedGenerator
from medloom.generators.prompt import keep, prompt_of
from medloom.processes.guidance import draw_subset, nested_subsets

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The tensors of a batch that the networks take.
INPUTS = ("ids", "tokens", "pooled", "mask", "modality", "view", "table", "labels")


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


def condition_tensors(
    generator: ConditionedGenerator, data: TrainingData, rows: Sequence[int], uniforms: Tensor, dropout: float
) -> dict[str, Tensor]:
    """The conditions of some rows as tensors, each less a nested subset of its parts that is drawn.

    Args:
        generator: whose networks read them.
        data: the rows' data.
        rows: which.
        uniforms: float64 `(N,)` in [0, 1): what is dropped.
        dropout: share of each nested subset.
    """
    parts = generator.parts
    dropped = draw_subset(uniforms, parts, dropout)
    kept = [frozenset(parts) - gone for gone in dropped]
    conditions = [keep(data.conditions[row], own, parts) for row, own in zip(rows, kept, strict=True)]
    tensors = _text_tensors(generator, data.texts, conditions)
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


def _text_tensors(
    generator: ConditionedGenerator, texts: RaggedTexts, conditions: Sequence[Condition]
) -> dict[str, Tensor]:
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
