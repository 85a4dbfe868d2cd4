"""Columns of a clinical table as context tokens: numbers as numbers, categories and missing cells by embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medloom.core.table_column import TableColumn

# A number bends at these standard scores, and goes on straight beyond them.
KNOTS = (-1.0, 0.0, 1.0)
MISSING = 0


class TableEncoder(nn.Module):
    """One token a column (Gorishniy et al. 2021, FT-Transformer; piecewise linear numbers as in Gorishniy et al. 2022).

    A missing cell has an embedding of its own in each column, which guidance's dropout uses too.
    """

    def __init__(self, columns: Sequence[TableColumn], width: int) -> None:
        super().__init__()
        self.categories = [len(column.categories) for column in columns]
        # A number has two entries: missing and known; a category one more than it has values.
        self.values = nn.ModuleList(nn.Embedding(1 + max(count, 1), width) for count in self.categories)
        self.numbers = nn.ModuleList(
            nn.Linear(1 + len(KNOTS), width, bias=False) if not count else nn.Identity() for count in self.categories
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Encode.

        Args:
            cells: float32 `(N, K)`: standard scores and places of categories, NaN where missing.

        Returns:
            Tokens `(N, K, D)`.
        """
        known = ~torch.isnan(cells)
        filled = cells.nan_to_num(0.0)
        tokens: list[Tensor] = []
        for place, count in enumerate(self.categories):
            cell, there = filled[:, place], known[:, place]
            index = torch.where(there, cell.long() + 1 if count else 1, MISSING)
            token = self.values[place](index)
            if not count:
                token = token + self.numbers[place](_hinges(cell)) * there[:, None]
            tokens.append(token)
        return torch.stack(tokens, dim=1)


def _hinges(score: Tensor) -> Tensor:
    """A standard score `(N,)` and how far it is above each knot, `(N, 1 + knots)`."""
    return torch.stack([score, *(torch.relu(score - knot) for knot in KNOTS)], dim=1)
