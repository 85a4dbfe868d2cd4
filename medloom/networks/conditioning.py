"""From encoded text, modality, view and table to the context tokens and the pooled vector of a denoiser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.core.lookup import never_trained
from medloom.core.table_column import TableColumn
from medloom.networks.weights import StoredNetwork

ABSENT = 0
# The encoding of a number has a bend at each of these standard scores and is linear beyond them.
KNOTS = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class ConditionConfig:
    """Shape of the condition encoder.

    Attributes:
        text_width: width of the text encoder's token embeddings.
        width: width of context tokens and of the pooled vector.
        modalities: names, in the order of their embeddings.
        views: names, in the order of their embeddings.
        sum_tokens: whether the pooled vector also includes the sum of the text's tokens. A text encoder that is trained
            from scratch distinguishes its tokens long before its end token distinguishes texts.
        columns: of the clinical table, in the order of their tokens.
        pooled_width: width of the text encoder's pooled vector; None where it is that of its tokens.
    """

    text_width: int
    width: int
    modalities: tuple[str, ...]
    views: tuple[str, ...] = ()
    sum_tokens: bool = False
    columns: tuple[TableColumn, ...] = ()
    pooled_width: int | None = None

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]] = (), **values: Any) -> "ConditionConfig":
        """The config from the values of config.json."""
        return cls(**values, columns=tuple(TableColumn.from_dict(column) for column in columns))


class TableEncoder(nn.Module):
    """Encodes each column as one token (Gorishniy et al. 2021, FT-Transformer).

    Numbers are piecewise linear (Gorishniy et al. 2022). Categories, and a missing cell of any column, have embeddings
    of their own; guidance's dropout uses the latter too.
    """

    def __init__(self, columns: Sequence[TableColumn], width: int) -> None:
        super().__init__()
        self.categories = [len(column.categories) for column in columns]
        # Entries of a number: missing, known; of a category: missing and its values.
        self.values = nn.ModuleList(nn.Embedding(1 + max(count, 1), width) for count in self.categories)
        self.numbers = nn.ModuleList(
            nn.Linear(1 + len(KNOTS), width, bias=False) if not count else nn.Identity() for count in self.categories
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Encode cells.

        Args:
            cells: float32 `(N, K)`: standard scores and indices of categories, NaN where missing.

        Returns:
            Tokens `(N, K, D)`.
        """
        known = ~torch.isnan(cells)
        filled = cells.nan_to_num(0.0)
        tokens: list[Tensor] = []
        for column, count in enumerate(self.categories):
            cell, present = filled[:, column], known[:, column]
            token = self.values[column](torch.where(present, cell.long() + 1 if count else 1, ABSENT))
            if not count:
                # The score, and by how much it exceeds each knot: `(N, 1 + knots)`.
                hinges = torch.stack([cell, *(torch.relu(cell - knot) for knot in KNOTS)], dim=1)
                token = token + self.numbers[column](hinges) * present[:, None]
            tokens.append(token)
        return torch.stack(tokens, dim=1)


class ConditionEncoder(StoredNetwork):
    """Projects text tokens and adds one token for the modality, one for the view and one per column of the table.

    An absent modality or view has an embedding of its own (index 0), and so has a missing cell, so that conditions can
    be dropped for guidance.
    """

    config: ConditionConfig
    config_type = ConditionConfig.from_json

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        self.text = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width))
        pooled = config.pooled_width or config.text_width
        self.pooled = nn.Sequential(nn.LayerNorm(pooled), nn.Linear(pooled, config.width))
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
            tokens: text embeddings `(N, L, T)`.
            mask: bool `(N, L)`, true for valid text tokens.
            pooled: `(N, P)`.
            modality: int64 `(N,)`, 0 if absent.
            view: int64 `(N,)`, 0 if absent.
            table: float32 `(N, K)`, required by an encoder with K columns; see `TableEncoder`.

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
        valid = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, own.shape[1]), mask], dim=1)
        summary = self.pooled(pooled) + own.sum(1).to(text.dtype)
        if self.config.sum_tokens:
            weight = mask.to(text.dtype)[..., None]
            summary = summary + (text * weight).sum(1) / weight.sum(1).clamp(min=1).sqrt()
        return context, valid, summary

    def indices(self, modalities: Sequence[str | None], views: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Embedding indices of names, int64 `(N,)` each; None is absent.

        Raises:
            UserError: a name that the model was never trained on; lists the known ones.
        """
        return (
            _indices(modalities, self.config.modalities, "modality"),
            _indices(views, self.config.views, "view"),
        )

    def cells(self, tables: Sequence[Mapping[str, Cell]]) -> Tensor:
        """Cells of tables, by column name, as float32 `(N, K)`; an absent column is missing.

        Raises:
            UserError: a category that the model was never trained on, or text in a numeric column.
        """
        columns = self.config.columns
        rows = [[column.encode(table.get(column.name)) for column in columns] for table in tables]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(tables), len(columns))

    def extended(
        self, modalities: Sequence[str], views: Sequence[str], columns: Sequence[TableColumn] = ()
    ) -> "ConditionEncoder":
        """A copy that also knows further modalities, views and columns.

        A new modality or view starts as the mean of the known ones; the token of a new column starts at zero.
        """
        grown = ConditionEncoder(
            replace(
                self.config,
                modalities=tuple(dict.fromkeys([*self.config.modalities, *modalities])),
                views=tuple(dict.fromkeys([*self.config.views, *views])),
                columns=(*self.config.columns, *columns),
            )
        )
        known = self.state_dict()
        state = {name: known.get(name, torch.zeros_like(weight)) for name, weight in grown.state_dict().items()}
        for name in ("modality.weight", "view.weight"):
            old = state[name]
            new = old.mean(0, keepdim=True).expand(len(grown.state_dict()[name]) - len(old), -1)
            state[name] = torch.cat([old, new])
        grown.load_state_dict(state)
        return grown


def _indices(names: Sequence[str | None], known: Sequence[str], what: str) -> Tensor:
    table: Mapping[str | None, int] = {None: ABSENT} | {name: number for number, name in enumerate(known, 1)}
    if unknown := sorted({name for name in names if name is not None and name not in table}):
        raise UserError(never_trained(what, unknown[0], known))
    return torch.tensor([table[name] for name in names], dtype=torch.long)
