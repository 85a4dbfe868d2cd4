"""What chance and the modality explain: values that are exchanged among images, and the range of a metric over that."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.metrics.uncertainty import Interval

Value = TypeVar("Value", bound=np.generic)


def shuffled_within(values: NDArray[Value], groups: NDArray[np.generic], rng: np.random.Generator) -> NDArray[Value]:
    """The values, `(n,)`, exchanged at random among the rows of each group."""
    shuffled = values.copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        shuffled[rows] = values[rng.permutation(rows)]
    return shuffled


def range_over(values: Sequence[float], n: int) -> Interval:
    """The mean of a metric over shuffles, and the range of 95 % of them; it describes shuffles of `n` rows."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high), n)
