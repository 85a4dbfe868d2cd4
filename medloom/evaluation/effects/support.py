"""Rows of a what-if with and without support in training."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from medloom.data.prompts.support import is_extrapolation


class Asked(Protocol):
    """A row of a what-if in one arm."""

    @property
    def support(self) -> int | None:
        """See `Effect`."""


Row = TypeVar("Row", bound=Asked)


def is_beyond(row: Asked) -> bool:
    """Whether a row is an extrapolation: too few training patients are near it."""
    return is_extrapolation(row.support)


def within_support(rows: Sequence[Row]) -> list[Row]:
    """The rows of an arm that are no extrapolation; none if all those are that the arm changes."""
    within = [row for row in rows if not is_beyond(row)]
    return within if len(within) == len(rows) or any(row.support is not None for row in within) else []
