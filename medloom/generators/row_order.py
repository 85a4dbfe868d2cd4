"""Which rows a training step sees: a function of (run seed, step) alone, so that a resumed run sees the same."""

from collections.abc import Sequence

from medloom.core.seeds import numpy_generator


class RowOrder:
    """Whole passes over the rows, each in an order of its own.

    Attributes:
        seed: the run's seed.
        total: number of rows.
        batch: rows a step, over all processes and micro-batches.
    """

    def __init__(self, seed: int, total: int, batch: int) -> None:
        self.seed = seed
        self.total = total
        self.batch = batch
        self._last: tuple[int, list[int]] | None = None

    def rows(self, step: int) -> list[int]:
        """The rows of a step, over all processes."""
        first = step * self.batch
        return [self._order(place // self.total)[place % self.total] for place in range(first, first + self.batch)]

    def micro_batches(self, step: int, rank: int, processes: int, accumulate: int) -> list[Sequence[int]]:
        """One process's rows of a step, in `accumulate` equal parts."""
        return _share(self.rows(step), rank, processes, accumulate)

    def micro_repeats(self, step: int, rank: int, processes: int, accumulate: int) -> list[Sequence[int]]:
        """For each row of `micro_batches`, how often it stood before in the step, over all processes."""
        return _share(repeats(self.rows(step)), rank, processes, accumulate)

    def _order(self, epoch: int) -> list[int]:
        if self._last is None or self._last[0] != epoch:
            self._last = (epoch, numpy_generator(self.seed, "order", epoch).permutation(self.total).tolist())
        return self._last[1]


def repeats(rows: Sequence[int]) -> list[int]:
    """How often each row stood before in a sequence: a step of few rows sees one row several times."""
    return [sum(other == row for other in rows[:place]) for place, row in enumerate(rows)]


def _share(values: Sequence[int], rank: int, processes: int, accumulate: int) -> list[Sequence[int]]:
    share = len(values) // processes
    own = values[rank * share : (rank + 1) * share]
    size = share // accumulate
    return [own[start : start + size] for start in range(0, share, size)]


def spread_rows(total: int, count: int) -> list[int]:
    """Up to `count` of `total` rows, evenly over all of them: tables are often sorted by modality."""
    wanted = min(total, count)
    return [place * total // wanted for place in range(wanted)]
