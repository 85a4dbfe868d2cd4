"""From encoded text, modality, view and table to the context tokens and the pooled vector that a denoiser takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.table_column import TableColumn
from medloom.networks.table import TableEncoder
from medloom.networks.weights import load_network, save_network

ABSENT = 0


@dataclass(frozen=True)
class ConditionConfig:
    """Shape of the condition encoder.

    Attributes:
        text_width: width of the text encoder's embeddings.
        width: width of context tokens and of the pooled vector.
        modalities: names, in the order of their embeddings.
        views: names, in the order of their embeddings.
        sum_tokens: whether the pooled vector also has the sum of the text's tokens. A text encoder that is trained from
            scratch tells them apart long before its end token does.
        columns: of the clinical table, in the order of their tokens.
    """

    text_width: int
    width: int
    modalities: tuple[str, ...]
    views: tuple[str, ...] = ()
    sum_tokens: bool = False
    columns: tuple[TableColumn, ...] = ()

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]] = (), **values: Any) -> "ConditionConfig":
        """From the values of config.json."""
        return cls(**values, columns=tuple(TableColumn.from_dict(column) for column in columns))


class ConditionEncoder(nn.Module):
    """Projects text tokens, and adds one token for the modality, one for the view and one a column of the table.

    An absent modality or view has an embedding of its own (index 0), and a missing cell has one too, so that conditions
    can be dropped for guidance.
    """

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        self.text = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width))
        self.pooled = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width))
        self.modality = nn.Embedding(1 + len(config.modalities), config.width)
        self.view = nn.Embedding(1 + len(config.views), config.width)
        self.table = TableEncoder(config.columns, config.width) if config.columns else None

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        pooled: Tensor,
        modality: Tensor,
        view: Tensor,
        table: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Combine the parts.

        Args:
            tokens: text embeddings `(N, L, T)`; mask: bool `(N, L)`; pooled: `(N, T)`.
            modality: int64 `(N,)`, 0 where absent; view: the same.
            table: float32 `(N, K)`, for an encoder with K columns; see `TableEncoder`.

        Returns:
            Context `(N, 2 + K + L, D)`, its mask bool `(N, 2 + K + L)`, and the pooled vector `(N, D)`.
        """
        own = torch.stack([self.modality(modality), self.view(view)], dim=1)
        if self.table is not None:
            if table is None:
                raise ValueError("this encoder was built with columns of a table and got none")
            own = torch.cat([own, self.table(table)], dim=1)
        text = self.text(tokens)
        context = torch.cat([own.to(text.dtype), text], dim=1)
        counts = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, own.shape[1]), mask], dim=1)
        summary = self.pooled(pooled) + own.sum(1).to(text.dtype)
        if self.config.sum_tokens:
            weight = mask.to(text.dtype)[..., None]
            summary = summary + (text * weight).sum(1) / weight.sum(1).clamp(min=1).sqrt()
        return context, counts, summary

    def indices(self, modalities: Sequence[str | None], views: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Embedding indices of names; None is absent.

        Raises:
            UserError: a name that was never trained on; lists the known ones.
        """
        return (
            _indices(modalities, self.config.modalities, "modality"),
            _indices(views, self.config.views, "view"),
        )

    def cells(self, tables: Sequence[Mapping[str, Any]]) -> Tensor:
        """Cells of tables by column name as float32 `(N, K)`; an absent column is missing.

        Raises:
            UserError: a category that was never trained on, or a text for a number.
        """
        columns = self.config.columns
        rows = [[column.encode(table.get(column.name)) for column in columns] for table in tables]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(tables), len(columns))

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "ConditionEncoder":
        """Read what `save_pretrained` wrote."""
        return load_network(folder, ConditionConfig.from_json, cls)

    def extended(self, modalities: Sequence[str], views: Sequence[str]) -> "ConditionEncoder":
        """A copy that also knows further modalities and views; a new one starts as the mean of the known ones."""
        config = ConditionConfig(
            self.config.text_width,
            self.config.width,
            tuple(dict.fromkeys([*self.config.modalities, *modalities])),
            tuple(dict.fromkeys([*self.config.views, *views])),
            self.config.sum_tokens,
            self.config.columns,
        )
        grown = ConditionEncoder(config)
        state = dict(self.state_dict())
        for name in ("modality.weight", "view.weight"):
            old = state[name]
            new = old.mean(0, keepdim=True).expand(len(grown.state_dict()[name]) - len(old), -1)
            state[name] = torch.cat([old, new])
        grown.load_state_dict(state)
        return grown


def _indices(names: Sequence[str | None], known: Sequence[str], what: str) -> Tensor:
    table: Mapping[str, int] = {name: number for number, name in enumerate(known, 1)}
    unknown = sorted({name for name in names if name is not None and name not in table})
    if unknown:
        listed = ", ".join(known) if known else "none"
        raise UserError(f"{what} {unknown[0]!r} was never trained on; known: {listed}.")
    return torch.tensor([ABSENT if name is None else table[name] for name in names], dtype=torch.long)
