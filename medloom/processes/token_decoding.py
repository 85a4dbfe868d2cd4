"""Decoding tokens in a few parallel steps, and the log-probabilities of what was drawn.

In each step all masked tokens are drawn at once; those that the network is least sure of are masked again. The draws
are the policy: their log-probabilities, given the masks, are what reinforcement needs. What is masked again is part of
the environment. All randomness of a sample comes from its own seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.seeds import torch_generator
from medloom.processes.token_masking import SCHEDULES, masked_counts

# Tokens int64 (N, L), masked ones at the code after the last, and the share of steps done, to logits (N, L, codes).
Logits = Callable[[Tensor, float], Tensor]
TINY = 1e-20
BITS32 = 2**32 - 1
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: numbers in a row are far apart


@dataclass(frozen=True)
class DecodingOptions:
    """How tokens are decoded.

    Attributes:
        steps: parallel steps, K.
        temperature: of the draws, T; above 1 for more variety.
        annealing: share of the temperature that is taken away, evenly over the steps; 0 keeps it.
        top_k: most likely codes that a draw chooses from; 0 for all.
        top_p: least probability of the codes that a draw chooses from, most likely ones first; 1 for all.
        cutoff: codes less likely than this share of an even chance, 1 / codes, are left out (the epsilon sampling of
            Hewitt et al. 2022); 0 for none.
        remasking: temperature of the noise on the network's confidence, by which tokens are masked again; it falls to 0
            over the steps.
        schedule: share of tokens that stay masked: cosine, linear, square or root.
    """

    steps: int = 8
    temperature: float = 1.0
    annealing: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    cutoff: float = 0.0
    remasking: float = 4.5
    schedule: str = "cosine"

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            UserError: the first of them.
        """
        if not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature {self.temperature}: it is above 0; 1 draws as the network was trained.")
        if not 0 <= self.annealing <= 1:
            raise UserError(f"--annealing {self.annealing}: a share of the temperature, from 0 to 1.")
        if self.top_k < 0:
            raise UserError(f"--top-k {self.top_k}: a number of codes, or 0 for all.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p}: a probability above 0 and at most 1.")
        if not 0 <= self.cutoff < math.inf:
            raise UserError(f"--cutoff {self.cutoff}: a share of an even chance, 0 or more; 0 leaves no code out.")
        if not 0 <= self.remasking < math.inf:
            raise UserError(f"--remasking {self.remasking}: a temperature, 0 or more.")
        look_up(SCHEDULES, self.schedule, "--mask-schedule")

    def temperature_at(self, step: int) -> float:
        """The temperature of the draws of a step; it never is 0."""
        return self.temperature * (1 - self.annealing * step / self.steps)


@dataclass(frozen=True)
class TokenStep:
    """One step of a batch.

    Attributes:
        index: 0 for the first.
        before: tokens int64 `(N, L)`; masked ones have the code after the last.
        masked: bool `(N, L)`: those that were drawn.
        drawn: int64 `(N, L)`: the draws; elsewhere as before.
        log_probabilities: float32 `(N, L)` of the draws, 0 elsewhere.
        after: int64 `(N, L)`, some masked again.
    """

    index: int
    before: Tensor
    masked: Tensor
    drawn: Tensor
    log_probabilities: Tensor
    after: Tensor


def decode(
    logits: Logits,
    start: Tensor,
    codes: int,
    seeds: Sequence[int],
    options: DecodingOptions,
    callback: Callable[[TokenStep], object] | None = None,
) -> Tensor:
    """Draw the masked tokens of some grids; the others stay.

    Args:
        logits: the network with its guidance.
        start: int64 `(N, L)`; masked tokens have the value `codes`. As many in each row.
        codes: size of the codebook.
        seeds: one integer a row.
        options: see DecodingOptions.
        callback: is given each step.

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
        drawn = torch.where(masked, _draw(scores, _keys(seeds, scores.shape[1], index)), tokens)
        of_drawn = scores.gather(2, drawn[..., None])[..., 0].masked_fill(~masked, 0.0)
        noise = options.remasking * (1 - (index + 1) / options.steps)
        again = _least_sure(of_drawn, masked, left, noise, _uniforms(seeds, scores.shape[1], index))
        after = drawn.masked_fill(again, codes)
        if callback is not None:
            callback(TokenStep(index, tokens, masked, drawn, of_drawn, after))
        tokens = after
    return tokens


def rescored(logits: Logits, steps: Sequence[TokenStep], options: DecodingOptions) -> list[Tensor]:
    """The log-probabilities of a trajectory's draws by a network, float32 `(N, L)` a step, with gradients.

    Args:
        logits: the network with its guidance; another one than it was drawn from, say.
        steps: the trajectory.
        options: that it was decoded with.
    """
    found = []
    for step in steps:
        scores = log_probabilities(logits(step.before, step.index / options.steps), options, step.index)
        of_drawn = scores.gather(2, step.drawn[..., None])[..., 0]
        found.append(torch.where(step.masked, of_drawn, torch.zeros_like(of_drawn)))
    return found


def log_probabilities(logits: Tensor, options: DecodingOptions, step: int) -> Tensor:
    """Logits `(N, L, codes)` as the float32 log-probabilities that a step draws from; -inf for codes left out."""
    scores = logits.float() / options.temperature_at(step)
    if 0 < options.top_k < scores.shape[-1]:
        least = scores.topk(options.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    if options.top_p < 1:
        scores = _nucleus(scores, options.top_p)
    if options.cutoff:
        scores = scores.masked_fill(~as_likely(scores, options.cutoff), -math.inf)
    return scores.log_softmax(dim=-1)


def _nucleus(scores: Tensor, least: float) -> Tensor:
    """The most likely codes whose probabilities sum to `least` (Holtzman et al. 2020)."""
    ordered, order = scores.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    # A code stays where those before it have not reached the sum.
    beyond = probabilities.cumsum(dim=-1) - probabilities >= least
    return torch.full_like(scores, -math.inf).scatter(-1, order, ordered.masked_fill(beyond, -math.inf))


def as_likely(logits: Tensor, cutoff: float) -> Tensor:
    """Codes as likely as `cutoff` of an even chance, and the most likely one in any case: bool, as the logits' shape.

    Guidance enlarges differences of codes that neither prediction takes for possible as well; what the condition itself
    makes unlikely should stay out (Li et al. 2023, contrastive decoding, plausibility constraint).
    """
    scores = logits.float().log_softmax(dim=-1)
    return scores >= scores.amax(dim=-1, keepdim=True).clamp(max=math.log(cutoff / logits.shape[-1]))


def _draw(scores: Tensor, keys: Tensor) -> Tensor:
    """Codes drawn from log-probabilities `(N, L, codes)` by the largest sum with Gumbel noise (Maddison et al. 2014).

    Two images of one seed get one code wherever their probabilities are alike, whatever the order of the codes: so
    the arms of a what-if differ by what was asked, and less by chance.
    """
    # Row by row, since the noise has a number for each code.
    return torch.stack(
        [
            (row + gumbel_noise(key.to(row.device), row.shape[-1])).argmax(-1)
            for row, key in zip(scores, keys, strict=True)
        ]
    )


def gumbel_noise(keys: Tensor, count: int) -> Tensor:
    """Standard Gumbel noise float32 `(*keys.shape, count)` that is a function of each key and number, on any device.

    Args:
        keys: int64 in 0..2^32 - 1.
        count: numbers a key.
    """
    numbers = torch.arange(count, device=keys.device) * GOLDEN
    mixed = _mixed(_mixed(keys)[..., None] + numbers & BITS32)
    # 23 bits and a half are exact in float32, and neither 0 nor 1.
    uniform = ((mixed >> 9).float() + 0.5) * 2.0**-23
    return -(-uniform.log()).log()


def _mixed(x: Tensor) -> Tensor:
    """32-bit integers mixed so that each bit of the result depends on all bits (Wellons 2018, prospected hashes)."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        # Both factors are below 2^31, so that no product leaves int64.
        x = (x ^ (x >> shift)) * factor & BITS32
    return x ^ (x >> 15)


def _keys(seeds: Sequence[int], length: int, step: int) -> Tensor:
    """A random key a place int64 `(N, L)`, row k a function of seed k and the step."""
    generators = [torch_generator("draw", step, seed) for seed in seeds]
    return torch.stack([torch.randint(BITS32 + 1, (length,), generator=generator) for generator in generators])


def _least_sure(scores: Tensor, masked: Tensor, count: int, noise: float, uniforms: Tensor) -> Tensor:
    """The `count` tokens of those drawn whose log-probability with Gumbel noise is least, bool `(N, L)`."""
    gumbel = -(-(uniforms.to(scores).clamp(TINY, 1 - 1e-7)).log()).log()
    confidence = (scores + noise * gumbel).masked_fill(~masked, math.inf)
    ranks = confidence.argsort(dim=1).argsort(dim=1)
    return (ranks < count) & masked


def _uniforms(seeds: Sequence[int], length: int, step: int) -> Tensor:
    """Uniform numbers `(N, L)` for what is masked again, row k a function of seed k and the step."""
    return torch.stack([torch.rand(length, generator=torch_generator("remask", step, seed)) for seed in seeds])
