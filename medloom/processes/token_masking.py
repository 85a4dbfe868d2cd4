"""Which tokens are masked: in training a random share, in decoding fewer after each step (Chang et al. 2022)."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up

# Name -> share of tokens that are masked at a time from 0 (all of them) to 1 (none).
SCHEDULES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda u: torch.cos(u * (math.pi / 2)),
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u**2,
    "root": lambda u: 1 - u.sqrt(),
}


def masked_share(u: Tensor, schedule: str) -> Tensor:
    """The share of tokens that are masked, in [0, 1].

    Args:
        u: float, times in [0, 1]; uniform ones in training.
        schedule: a name in SCHEDULES.

    Raises:
        UserError: an unknown schedule.
    """
    return look_up(SCHEDULES, schedule, "mask schedule")(u).clamp(0, 1)


def draw_masks(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Masks of the given shares, at least one token each.

    Args:
        shares: float `(N,)` in [0, 1].
        uniforms: float `(N, L)`, by whose order tokens are masked.

    Returns:
        bool `(N, L)`, true where a token is masked.
    """
    length = uniforms.shape[1]
    counts = (shares * length).ceil().clamp(1, length)
    ranks = uniforms.argsort(dim=1).argsort(dim=1)
    return ranks < counts[:, None]


def masked_counts(masked: int, steps: int, schedule: str) -> list[int]:
    """How many tokens are still masked after each step: fewer each time, none after the last.

    Args:
        masked: tokens that are masked before the first step.
        steps: how many steps there are.
        schedule: a name in SCHEDULES.

    Raises:
        UserError: more steps than tokens, or no step.
    """
    if not 1 <= steps <= masked:
        raise UserError(
            f"--steps {steps}: of {masked} tokens at least one is decoded in each step; give 1 to {masked}."
        )
    times = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    wanted = (masked_share(times, schedule) * masked).floor().long().tolist()
    counts: list[int] = []
    before = masked
    for index, count in enumerate(wanted):
        # At least one token a step, and one left for each of the steps to come.
        before = min(max(count, steps - 1 - index), before - 1)
        counts.append(before)
    return counts


def require_tokens(tokens: Tensor, codes: int, what: str) -> None:
    """Refuse tokens that are no codes of a codebook.

    Raises:
        UserError: names the largest one, and the codebook's size.
    """
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < codes:
        raise UserError(
            f"{what} has tokens from {int(tokens.min())} to {int(tokens.max())}, and the codebook {codes} codes;"
            " they were made by another tokenizer."
        )
