"""DPM-Solver++ of second order, for any path that has noise levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medloom.processes.predictions import x0_from
from medloom.processes.steps import Callback, Denoise, deterministic, evaluate

NoiseLevel = tuple[float, float]


def dpm_solver_2m(
    denoise: Denoise,
    x: Tensor,
    kind: str,
    levels: Sequence[NoiseLevel],
    times: Sequence[float],
    dtype: torch.dtype,
    callback: Callback | None,
) -> Tensor:
    """DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    A last step to sigma 0 is of first order.

    Args:
        denoise: the network with its guidance.
        x: samples at the first level, `(N, C, *spatial)`.
        kind: what the network predicts: `epsilon`, `v` or `flow`.
        levels: (alpha, sigma) of each visited level and of the last.
        times: what `denoise` is given at each level but the last.
        dtype: dtype of the times.
        callback: called with each Step.

    Returns:
        The samples at the last level.
    """
    before: Tensor | None = None
    h_before = 0.0
    ends = [*times[1:], 0]
    for index, (time, level, then) in enumerate(zip(times, levels, levels[1:], strict=False)):
        x0 = x0_from(kind, evaluate(denoise, x, time, dtype), x, *level)
        h = _log_snr(then) - _log_snr(level)
        direction = x0
        if before is not None and then[1] > 0:
            # x0 + (x0 - before) h / (2 h_before), algorithm 2, line 9 with r = h_before / h; in place, since whole
            # volumes are sampled and the memory of a step is counted in copies of them.
            direction = before.neg_().add_(x0).mul_(h / (2 * h_before)).add_(x0)
        x_next = (then[1] / level[1] * x).sub_(direction, alpha=then[0] * math.expm1(-h))  # line 10
        if callback:
            callback(deterministic(index, time, ends[index], x, x_next))
        x, before, h_before = x_next, x0, h
    return x


def _log_snr(level: NoiseLevel) -> float:
    alpha, sigma = level
    return math.log(alpha / sigma) if sigma > 0 else math.inf
