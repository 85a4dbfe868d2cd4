"""Guidance over an ordered list of condition parts, and the dropout in training that makes it possible.

With e_i the prediction given parts 1..i:  e = e_0 + sum_i s_i (e_i - e_{i-1})  (Brooks et al. 2023, InstructPix2Pix,
eq. 3, for any number of parts; one part is Ho and Salimans 2022).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.processes.steps import Denoise

Conditions = TypeVar("Conditions")


def nested_subsets(parts: Sequence[str]) -> list[frozenset[str]]:
    """The parts retained in e_0, e_1, ..., e_k: none, the first, the first two, ... all."""
    return [frozenset(parts[:count]) for count in range(len(parts) + 1)]


def draw_subset(u: Tensor, parts: Sequence[str], rate: float) -> list[frozenset[str]]:
    """The parts that training drops from each sample; what remains is always one of the nested subsets.

    Args:
        u: uniforms `(N,)` in [0, 1), one per sample.
        parts: the k parts in guidance order.
        rate: probability of each proper subset; with probability 1 - k rate nothing is dropped.

    Raises:
        UserError: k rate is not between 0 and 1.
    """
    if not 0 <= rate * len(parts) <= 1:
        raise UserError(f"condition dropout {rate} for {len(parts)} parts; allowed: 0 to 1/{max(len(parts), 1)}.")
    retained = [min(int(value / rate), len(parts)) if rate else len(parts) for value in u.tolist()]
    return [frozenset(parts[count:]) for count in retained]


def guidance_coefficients(parts: Sequence[str], scales: Mapping[str, float]) -> list[tuple[frozenset[str], float]]:
    """The subsets of parts to evaluate, with the factor of each prediction; the factors sum to 1.

    Args:
        parts: the parts present, in guidance order.
        scales: scale s_i by part; a part that is not named has scale 1, which needs no evaluation of its own.

    Returns:
        Pairs (parts retained, c): c_0 = 1 - s_1, c_i = s_i - s_{i+1}, c_k = s_k; pairs with c = 0 are omitted.

    Raises:
        UserError: a scale of an absent part, or one that is negative or not finite.
    """
    for name, scale in scales.items():
        look_up(dict.fromkeys(parts), name, "condition part with a guidance scale")
        if not (isinstance(scale, float | int) and math.isfinite(scale) and scale >= 0):
            raise UserError(f"guidance scale of {name} is {scale}; allowed: a finite number, 0 or more.")
    ladder = [1.0, *(float(scales.get(part, 1.0)) for part in parts), 0.0]
    factors = [here - after for here, after in pairwise(ladder)]
    return [(subset, factor) for subset, factor in zip(nested_subsets(parts), factors, strict=True) if factor != 0]


def guide(
    predict: Callable[[Tensor, Tensor, Conditions], Tensor], conditions: Conditions, coefficients: Sequence[float]
) -> Denoise:
    """A denoiser that evaluates all K subsets in one batch and sums the weighted predictions.

    Args:
        predict: the network: (x, t, conditions) with first axis K N to predictions with first axis K N.
        conditions: the conditions of the K subsets, one subset after another in one batch.
        coefficients: the factor of each subset, from `guidance_coefficients`.
    """
    count = len(coefficients)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        predictions = predict(torch.cat([x] * count), torch.cat([t] * count), conditions).to(x.dtype)
        terms = zip(coefficients, predictions.chunk(count), strict=True)
        return torch.stack([factor * prediction for factor, prediction in terms]).sum(dim=0)

    return denoise
