"""Watching how images come to be: what a model expects of them after each step of sampling."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class SamplingStep:
    """One step of sampling a batch.

    Attributes:
        index: 0 for the first.
        total: how many steps there are.
        estimate: computes the images as the model expects them after this step, float32 `(N, C, *size)` in [-1, 1] on
            the CPU; tokens that are still masked are grey. It costs a pass of the decoder, where there is one.
    """

    index: int
    total: int
    estimate: Callable[[], Tensor]


Watch = Callable[[SamplingStep], None]
