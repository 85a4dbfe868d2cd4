"""Masking tokens, decoding them in a few parallel steps, and the log-probabilities of the draws.

Each step draws all masked tokens at once and masks those again of which the network is least certain. For
reinforcement learning the draws are the policy, given the masks, and the masking belongs to the environment. All
randomness of a sample comes from its own seed. Training masks a random fraction of tokens (Chang et al. 2022).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up
from medloom.core.seeds import torch_generator

# Tokens int64 (N, L), masked ones at the code after the last, and the fraction of steps done, to logits (N, L, codes).
Logits = Callable[[Tensor, float], Tensor]
TINY = 1e-20
BITS32 = 2**32 - 1
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: spreads consecutive numbers far apart
# Name -> fraction of masked tokens at a time from 0 (all masked) to 1 (none).
SCHEDULES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda u: torch.cos(u * (math.pi / 2)),
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u**2,
    "root": lambda u: 1 - u.sqrt(),
}


@dataclass(frozen=True)
class DecodingOptions:
    """How tokens are decoded.

    Attributes:
        steps: number of parallel steps.
        temperature: of the draws; above 1 for more variety.
        annealing: fraction by which the temperature falls, linearly over the steps; 0 keeps it constant.
        top_k: draw from this many most likely codes; 0 for all.
        top_p: draw from the most likely codes whose probabilities sum to this (nucleus sampling); 1 for all.
        cutoff: exclude codes less likely than this fraction of the uniform probability, 1 / codes (the epsilon sampling
            of Hewitt et al. 2022); 0 excludes none.
        remasking: temperature of the noise added to the network's confidence when tokens are masked again; it falls to
            0 over the steps.
        schedule: how the fraction of masked tokens falls: cosine, linear, square or root.
    """

    steps: int = limited(8, at_least=1)
    temperature: float = limited(1.0, above=0)
    annealing: float = limited(0.0, at_least=0, at_most=1)
    top_k: int = limited(0, at_least=0)
    top_p: float = limited(1.0, above=0, at_most=1)
    cutoff: float = limited(0.0, at_least=0)
    remasking: float = limited(4.5, at_least=0)
    schedule: str = limited("cosine", words=SCHEDULES)

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            UserError: for the first invalid value.
        """
        check_limits(self, form="--sampling {}={}")

    def temperature_at(self, step: int) -> float:
        """The temperature of a step's draws, always above 0."""
        return self.temperature * (1 - self.annealing * step / self.steps)


@dataclass(frozen=True)
class TokenStep:
    """One step of a batch.

    Attributes:
        index: 0 for the first.
        before: tokens int64 `(N, L)`; masked ones have the code after the last.
        masked: bool `(N, L)`, true for the tokens that this step draws.
        drawn: int64 `(N, L)`, the draws; other tokens as before.
        log_probabilities: float32 `(N, L)` of the draws, 0 for other tokens.
        after: int64 `(N, L)`, some tokens masked again.
    """

    index: int
    before: Tensor
    masked: Tensor
    drawn: Tensor
    log_probabilities: Tensor
    after: Tensor


def masked_fraction(u: Tensor, schedule: str) -> Tensor:
    """The fraction of masked tokens, in [0, 1].

    Args:
        u: float, times in [0, 1]; uniformly drawn in training.
        schedule: a name in SCHEDULES.

    Raises:
        UserError: an unknown schedule.
    """
    return look_up(SCHEDULES, schedule, "mask schedule")(u).clamp(0, 1)


def draw_masks(fractions: Tensor, uniforms: Tensor) -> Tensor:
    """Masks of the given fractions, with at least one token each.

    Args:
        fractions: float `(N,)` in [0, 1].
        uniforms: float `(N, L)`; the tokens with the smallest values are masked.

    Returns:
        bool `(N, L)`, true for masked tokens.
    """
    length = uniforms.shape[1]
    counts = (fractions * length).ceil().clamp(1, length)
    return uniforms.argsort(dim=1).argsort(dim=1) < counts[:, None]


def masked_counts(masked: int, steps: int, schedule: str) -> list[int]:
    """The number of tokens still masked after each step: strictly falling, 0 after the last.

    Args:
        masked: masked tokens before the first step.
        steps: number of steps.
        schedule: a name in SCHEDULES.

    Raises:
        UserError: more steps than tokens, or no step.
    """
    if not 1 <= steps <= masked:
        raise UserError(f"--steps {steps}: each step decodes at least one of {masked} tokens; give 1 to {masked}.")
    times = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    wanted = (masked_fraction(times, schedule) * masked).floor().long().tolist()
    counts: list[int] = []
    before = masked
    for index, count in enumerate(wanted):
        # Decode at least one token per step, and leave one for each remaining step.
        before = min(max(count, steps - 1 - index), before - 1)
        counts.append(before)
    return counts


def require_tokens(tokens: Tensor, codes: int, what: str) -> None:
    """Refuse tokens that are not codes of a codebook.

    Raises:
        UserError: names the range of the tokens and the codebook's size.
    """
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < codes:
        raise UserError(
            f"{what} has tokens from {int(tokens.min())} to {int(tokens.max())}, but the codebook has {codes} codes;"
            " another tokenizer encoded them."
        )


def decode(
    logits: Logits,
    start: Tensor,
    codes: int,
    seeds: Sequence[int],
    options: DecodingOptions,
    callback: Callable[[TokenStep], object] | None = None,
) -> Tensor:
    """Draw the masked tokens of a batch of grids; the others stay.

    Args:
        logits: the network with its guidance.
        start: int64 `(N, L)`; masked tokens have the value `codes`, equally many in each row.
        codes: size of the codebook.
        seeds: one integer per row.
        options: see DecodingOptions.
        callback: called with each step.

    Returns:
        int64 `(N, L)` without masked tokens.

    Raises:
        UserError: more steps than masked tokens.
    """
    tokens = start
    counts = masked_counts(int((start[0] == codes).sum()), options.steps, options.schedule)
    for index, left in enumerate(counts):
        masked = tokens == codes
        scores = log_probabilities(logits(tokens, index / options.steps), options, index)
        drawn = torch.where(masked, _draw(scores, seeds, index), tokens)
        of_drawn = scores.gather(2, drawn[..., None])[..., 0].masked_fill(~masked, 0.0)
        # Mask those again whose log-probability plus Gumbel noise is lowest.
        generators = [torch_generator("remask", index, seed) for seed in seeds]
        uniforms = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in generators])
        gumbel = -(-(uniforms.to(of_drawn).clamp(TINY, 1 - 1e-7)).log()).log()
        noise = options.remasking * (1 - (index + 1) / options.steps)
        confidence = (of_drawn + noise * gumbel).masked_fill(~masked, math.inf)
        again = (confidence.argsort(dim=1).argsort(dim=1) < left) & masked
        after = drawn.masked_fill(again, codes)
        if callback is not None:
            callback(TokenStep(index, tokens, masked, drawn, of_drawn, after))
        tokens = after
    return tokens


def rescored(logits: Logits, steps: Sequence[TokenStep], options: DecodingOptions) -> list[Tensor]:
    """A network's log-probabilities of a trajectory's draws, float32 `(N, L)` per step, with gradients.

    Args:
        logits: the network with its guidance; it may differ from the one that drew the trajectory.
        steps: the trajectory.
        options: the options with which it was decoded.
    """
    found = []
    for step in steps:
        scores = log_probabilities(logits(step.before, step.index / options.steps), options, step.index)
        of_drawn = scores.gather(2, step.drawn[..., None])[..., 0]
        found.append(torch.where(step.masked, of_drawn, torch.zeros_like(of_drawn)))
    return found


def log_probabilities(logits: Tensor, options: DecodingOptions, step: int) -> Tensor:
    """Logits `(N, L, codes)` as the float32 log-probabilities that a step draws from; -inf for excluded codes."""
    scores = logits.float() / options.temperature_at(step)
    if 0 < options.top_k < scores.shape[-1]:
        least = scores.topk(options.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    if options.top_p < 1:
        # The most likely codes whose probabilities sum to top_p (Holtzman et al. 2020): a code stays as long as the
        # codes before it have not reached the sum.
        ordered, order = scores.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        beyond = probabilities.cumsum(dim=-1) - probabilities >= options.top_p
        scores = torch.full_like(scores, -math.inf).scatter(-1, order, ordered.masked_fill(beyond, -math.inf))
    if options.cutoff:
        scores = scores.masked_fill(~as_likely(scores, options.cutoff), -math.inf)
    return scores.log_softmax(dim=-1)


def as_likely(logits: Tensor, cutoff: float) -> Tensor:
    """Codes at least as likely as `cutoff` times the uniform probability, and always the most likely one: bool.

    Guidance also enlarges differences between codes that neither prediction considers possible. A code that is unlikely
    under the condition itself should stay excluded (Li et al. 2023, contrastive decoding, plausibility constraint).
    """
    scores = logits.float().log_softmax(dim=-1)
    return scores >= scores.amax(dim=-1, keepdim=True).clamp(max=math.log(cutoff / logits.shape[-1]))


def _draw(scores: Tensor, seeds: Sequence[int], step: int) -> Tensor:
    """Draw codes from log-probabilities `(N, L, codes)` as the largest sum with Gumbel noise (Maddison et al. 2014).

    Two images of one seed get the same code wherever their probabilities are alike, whatever the order of the codes:
    the arms of a what-if then differ by the change, and less by chance. Row k is a function of seed k and the step.
    """
    # Row by row: the noise has one number per code.
    drawn: list[Tensor] = []
    for row, seed in zip(scores, seeds, strict=True):
        key = torch.randint(BITS32 + 1, (len(row),), generator=torch_generator("draw", step, seed))
        drawn.append((row + gumbel_noise(key.to(row.device), row.shape[-1])).argmax(-1))
    return torch.stack(drawn)


def gumbel_noise(keys: Tensor, count: int) -> Tensor:
    """Standard Gumbel noise float32 `(*keys.shape, count)`: a function of each key and index, equal on any device.

    Args:
        keys: int64 in 0..2^32 - 1.
        count: numbers per key.
    """
    numbers = torch.arange(count, device=keys.device) * GOLDEN
    mixed = _mixed(_mixed(keys)[..., None] + numbers & BITS32)
    # 23 bits and a half are exact in float32, and never 0 or 1.
    uniform = ((mixed >> 9).float() + 0.5) * 2.0**-23
    return -(-uniform.log()).log()


def _mixed(x: Tensor) -> Tensor:
    """Hash 32-bit integers so that each bit of the result depends on all bits (Wellons 2018, prospected hashes)."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        # Both factors are below 2^31, so no product overflows int64.
        x = (x ^ (x >> shift)) * factor & BITS32
    return x ^ (x >> 15)
