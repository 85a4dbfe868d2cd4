"""From latents to codes of a codebook and back: nearest codes, learnt by averages or gradients, or a fixed grid."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.seeds import torch_generator

# Weight of what draws latents to their codes, beside that which draws codes to latents (van den Oord et al. 2017).
COMMITMENT = 0.25
# Share of the old average of a code that is kept in each step (the same, appendix A.1).
KEPT = 0.99
# Steps between two looks for codes that no latent has taken.
LOOK_EVERY = 50
# Codes with less than this share of an even use count as dead.
DEAD = 0.03
LEAST_SIZE = 1e-5


class Quantizer(Protocol):
    """Latents to codes.

    Attributes:
        codes: how many there are.
        width: channels of a latent.
    """

    codes: int
    width: int

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents `(N, D, *grid)` to quantised ones, through which gradients pass straight, tokens and a cost."""
        ...

    def tokens(self, z: Tensor) -> Tensor:
        """Latents `(N, D, *grid)` to int64 `(N, *grid)`."""
        ...

    def lookup(self, tokens: Tensor) -> Tensor:
        """Tokens int64 `(N, *grid)` to latents `(N, D, *grid)`."""
        ...

    def update(self, step: int, seed: int) -> None:
        """What changes between steps."""
        ...


class Codebook(nn.Module):
    """Codes that are learnt (van den Oord et al. 2017), by gradients or as averages of the latents that take them.

    Codes that hardly any latent takes are put where latents are (Dhariwal et al. 2020, Jukebox, section 4.1). Several
    processes put their counts together.

    Attributes:
        codebook: float32 `(codes, width)`, a parameter, or, of averages, a buffer.
        averaged: whether codes are averages.
    """

    codebook: Tensor
    hits: Tensor
    sizes: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, averaged: bool = True) -> None:
        super().__init__()
        self.codes, self.width, self.averaged = codes, width, averaged
        start = torch.randn(codes, width)
        if averaged:
            self.register_buffer("codebook", start)
            self.register_buffer("sizes", torch.ones(codes))
            self.register_buffer("sums", start.clone())
        else:
            self.codebook = nn.Parameter(start)
        # How often each code was taken since the last look.
        self.register_buffer("hits", torch.zeros(codes))
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Quantizer."""
        z = z.float()
        tokens = self.tokens(z)
        quantised = self.lookup(tokens)
        cost = COMMITMENT * F.mse_loss(z, quantised.detach())
        if not self.averaged:
            cost = cost + F.mse_loss(quantised, z.detach())
        if self.training:
            self._seen.append((_flat(z.detach()), tokens.flatten()))
        return z + (quantised - z).detach(), tokens, cost

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """The nearest code of each latent, in single precision whatever the rest is in."""
        with torch.autocast(z.device.type, enabled=False):
            flat, codebook = _flat(z.float()), self.codebook.float()
            distances = codebook.square().sum(1) - 2 * flat @ codebook.T
        return distances.argmin(1).reshape(z.shape[0], *z.shape[2:])

    def lookup(self, tokens: Tensor) -> Tensor:
        """See Quantizer."""
        return F.embedding(tokens, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def update(self, step: int, seed: int) -> None:
        """Move averages to what was seen in the step, and dead codes to where latents are.

        Args:
            step: optimiser step, from 1.
            seed: of the run.
        """
        if not self._seen:
            return
        latents, tokens = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        counts = _over_processes(torch.bincount(tokens, minlength=self.codes).float())
        self.hits += counts
        if self.averaged:
            sums = torch.zeros_like(self.sums).index_add_(0, tokens, latents)
            self.sizes.lerp_(counts, 1 - KEPT)
            self.sums.lerp_(_over_processes(sums), 1 - KEPT)
            # Laplace smoothing, as in the authors' code, so that a code that is not taken does not go to infinity.
            total = self.sizes.sum()
            sizes = (self.sizes + LEAST_SIZE) / (total + self.codes * LEAST_SIZE) * total
            self.codebook.copy_(self.sums / sizes[:, None])
        if step == 1 or step % LOOK_EVERY == 0:
            self._revive(latents, torch_generator(seed, "codes", step))

    def _revive(self, latents: Tensor, generator: torch.Generator) -> None:
        """Put codes that were hardly taken at latents that are drawn."""
        dead = self.hits < DEAD * self.hits.sum() / self.codes
        order = torch.randperm(len(latents), generator=generator).to(latents.device)
        count = int(dead.sum())
        # A step of few latents gives each several times.
        chosen = latents[order.repeat(-(-count // len(order)))[:count]].clone() if count else latents[:0]
        chosen = _of_first_process(chosen)
        self.codebook[dead] = chosen
        if self.averaged:
            mean = self.sizes.mean()
            self.sizes[dead] = mean
            self.sums[dead] = chosen * mean
        self.hits.zero_()


class FiniteScalars(nn.Module):
    """Each channel of a latent rounded to a few levels (Mentzer et al. 2023, FSQ): a grid of codes, nothing to learn.

    Attributes:
        levels: of each channel, 2 or more; their product is the number of codes.
    """

    basis: Tensor
    counts: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.codes, self.width = math.prod(levels), len(levels)
        self.register_buffer("counts", torch.tensor(levels), persistent=False)
        steps = [math.prod(levels[:place]) for place in range(len(levels))]
        self.register_buffer("basis", torch.tensor(steps), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Quantizer; the cost is 0."""
        bounded = self._bounded(z.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / self._half(z), self.tokens(z), z.new_zeros(())

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """See Quantizer."""
        places = self._bounded(z.float()).round().long() + _along(self.counts // 2, z)
        return (places * _along(self.basis, z)).sum(1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """See Quantizer."""
        tokens = tokens[:, None]
        places = tokens // _along(self.basis, tokens) % _along(self.counts, tokens)
        half = _along(self.counts // 2, tokens)
        return (places - half).float() / half

    def update(self, step: int, seed: int) -> None:
        """Nothing to do: no code is learnt."""

    def _half(self, z: Tensor) -> Tensor:
        return _along(self.counts // 2, z).float()

    def _bounded(self, z: Tensor) -> Tensor:
        """Within the levels of each channel; equation in section 3.1, with the authors' shift for even numbers."""
        counts = _along(self.counts, z).float()
        half = (counts - 1) * (1 + 1e-3) / 2
        offset = torch.where(counts % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Values of channels, to be broadcast over `(N, C, *grid)`."""
    return values.to(like.device).view(1, -1, *[1] * (like.ndim - 2))


def _flat(z: Tensor) -> Tensor:
    """`(N, D, *grid)` to `(N * grid, D)`."""
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def _over_processes(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def _of_first_process(values: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.contiguous()
        torch.distributed.broadcast(values, 0)
    return values
