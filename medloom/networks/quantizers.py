"""Latents to codes and back: nearest codes of a codebook, learnt by averages or gradients, or a fixed grid."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.seeds import torch_generator

# Weight of the loss that draws latents to their codes, relative to codes to latents (van den Oord et al. 2017).
COMMITMENT = 0.25
# Decay of the moving average of a code (same paper, appendix A.1).
DECAY = 0.99
# Steps between two searches for unused codes.
LOOK_EVERY = 50
# Codes used less than this fraction of uniform use count as dead.
DEAD = 0.03
LEAST_SIZE = 1e-5


class Codebook(nn.Module):
    """Learnt codes (van den Oord et al. 2017): by gradients, or as moving averages of the latents assigned to them.

    Dead codes move to randomly drawn latents (Dhariwal et al. 2020, Jukebox, section 4.1). Several processes add up
    their counts.

    Attributes:
        codes: number of codes.
        width: channels of a latent.
        codebook: float32 `(codes, width)`: a parameter, or a buffer if codes are averages.
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
        # How often each code was used since the last search for dead codes.
        self.register_buffer("hits", torch.zeros(codes))
        self._assigned: list[tuple[Tensor, Tensor]] = []

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise latents `(N, D, *grid)`: quantised latents with straight-through gradients, tokens and a cost."""
        z = z.float()
        tokens = self.tokens(z)
        quantised = self.lookup(tokens)
        cost = COMMITMENT * F.mse_loss(z, quantised.detach())
        if not self.averaged:
            cost = cost + F.mse_loss(quantised, z.detach())
        if self.training:
            self._assigned.append((_flat(z.detach()), tokens.flatten()))
        return z + (quantised - z).detach(), tokens, cost

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """Latents `(N, D, *grid)` to the nearest codes int64 `(N, *grid)`, computed in single precision."""
        with torch.autocast(z.device.type, enabled=False):
            flat, codebook = _flat(z.float()), self.codebook.float()
            distances = codebook.square().sum(1) - 2 * flat @ codebook.T
        return distances.argmin(1).reshape(z.shape[0], *z.shape[2:])

    def lookup(self, tokens: Tensor) -> Tensor:
        """Tokens int64 `(N, *grid)` to latents `(N, D, *grid)`."""
        return F.embedding(tokens, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def update(self, step: int, seed: int) -> None:
        """Update the averages with the latents of the step, and move dead codes to latents.

        Args:
            step: optimiser step, from 1.
            seed: of the run.
        """
        if not self._assigned:
            return
        latents, tokens = (torch.cat(parts) for parts in zip(*self._assigned, strict=True))
        self._assigned.clear()
        counts = _over_processes(torch.bincount(tokens, minlength=self.codes).float())
        self.hits += counts
        if self.averaged:
            sums = torch.zeros_like(self.sums).index_add_(0, tokens, latents)
            self.sizes.lerp_(counts, 1 - DECAY)
            self.sums.lerp_(_over_processes(sums), 1 - DECAY)
            # Laplace smoothing, as in the authors' code, so that an unused code does not diverge.
            total = self.sizes.sum()
            sizes = (self.sizes + LEAST_SIZE) / (total + self.codes * LEAST_SIZE) * total
            self.codebook.copy_(self.sums / sizes[:, None])
        if step == 1 or step % LOOK_EVERY == 0:
            # Dead codes move to randomly drawn latents.
            dead = self.hits < DEAD * self.hits.sum() / self.codes
            order = torch.randperm(len(latents), generator=torch_generator(seed, "codes", step)).to(latents.device)
            count = int(dead.sum())
            # A step with fewer latents than dead codes repeats them.
            chosen = latents[order.repeat(-(-count // len(order)))[:count]].clone() if count else latents[:0]
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                chosen = chosen.contiguous()
                torch.distributed.broadcast(chosen, 0)
            self.codebook[dead] = chosen
            if self.averaged:
                mean = self.sizes.mean()
                self.sizes[dead] = mean
                self.sums[dead] = chosen * mean
            self.hits.zero_()


class FiniteScalars(nn.Module):
    """Rounds each channel of a latent to a few levels (Mentzer et al. 2023, FSQ): a fixed grid of codes.

    Attributes:
        codes: number of codes.
        width: channels of a latent.
        levels: of each channel, 2 or more; their product is the number of codes.
    """

    basis: Tensor
    counts: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.codes, self.width = math.prod(levels), len(levels)
        self.register_buffer("counts", torch.tensor(levels), persistent=False)
        steps = [math.prod(levels[:channel]) for channel in range(len(levels))]
        self.register_buffer("basis", torch.tensor(steps), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Codebook; the cost is 0."""
        bounded = self._bounded(z.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / _along(self.counts // 2, z).float(), self.tokens(z), z.new_zeros(())

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """See Codebook."""
        digits = self._bounded(z.float()).round().long() + _along(self.counts // 2, z)
        return (digits * _along(self.basis, z)).sum(1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """See Codebook."""
        tokens = tokens[:, None]
        digits = tokens // _along(self.basis, tokens) % _along(self.counts, tokens)
        half = _along(self.counts // 2, tokens)
        return (digits - half).float() / half

    def update(self, step: int, seed: int) -> None:
        """Does nothing: the codes are fixed."""

    def _bounded(self, z: Tensor) -> Tensor:
        """Bound latents to the levels of each channel (section 3.1, with the authors' shift for even numbers)."""
        counts = _along(self.counts, z).float()
        half = (counts - 1) * (1 + 1e-3) / 2
        offset = torch.where(counts % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Values per channel, shaped to broadcast over `(N, C, *grid)`."""
    return values.to(like.device).view(1, -1, *[1] * (like.ndim - 2))


def _flat(z: Tensor) -> Tensor:
    """`(N, D, *grid)` to `(N * grid, D)`."""
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def _over_processes(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
