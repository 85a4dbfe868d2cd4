"""How large a denoiser's errors are at each noise level, so that no level drowns the others."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Log-SNRs at which means are kept; the errors of a sample count at those around it, by a Gaussian of deviation 1.
LOWEST, HIGHEST = -10, 11
# Of what is known, this part remains after a step: means are over about fifty steps.
KEPT = 0.98
# Of levels nearer the data (flow: times below 0.38) errors count as at this one: what grows there is noise that nobody
# can predict, but divided by it, fine texture would be learnt last.
TEXTURE = 1.0
TINY = 1e-12
PREFIX = "level_errors."


class LevelErrors:
    """Running means of errors by log-SNR, and the weights that they give to noise levels.

    Near the data most of the flow's error is noise that no network can predict, and it is twenty to fifty times that of
    the levels at which structures form: counted as it is, its gradients drown theirs. Divided by the mean error of
    their level, errors are of a like size, and the minimiser at each level stays the same (Karras et al. 2024,
    "Analyzing and improving the training dynamics of diffusion models", learn such means by a small network).

    Attributes:
        balance: 0 for errors as they are, 1 for levels that count alike.
        errors: float32 `(L,)`, sums of errors near each level; counts: `(L,)`, of how many.
    """

    def __init__(self, balance: float, device: torch.device) -> None:
        self.balance = balance
        self.levels = torch.arange(LOWEST, HIGHEST + 1, dtype=torch.float32, device=device)
        self.errors, self.counts = torch.zeros_like(self.levels), torch.zeros_like(self.levels)
        self._step = torch.zeros(2, len(self.levels), device=device)

    def weights(self, log_snr: Tensor) -> Tensor:
        """Weights of samples from the errors before this step, so that all micro-batches have the same.

        Args:
            log_snr: `(N,)`.

        Returns:
            float32 `(N,)`; ones in the first step.
        """
        near = self._near(log_snr.clamp(max=TEXTURE))
        # Before the first step these means are 1, and so are the weights.
        means = (self.errors + TINY) / (self.counts + TINY)
        overall = (self.errors.sum() + TINY) / (self.counts.sum() + TINY)
        logs = (near * means.log()).sum(1) / near.sum(1)
        return torch.exp(self.balance * (overall.log() - logs))

    def add(self, log_snr: Tensor, errors: Tensor) -> None:
        """Note the errors of samples, both `(N,)`; they count from the next step on, those that are finite."""
        errors = errors.detach().float()
        known = errors.isfinite()
        near = self._near(log_snr) * known[:, None]
        self._step += torch.stack([near.T @ torch.where(known, errors, 0), near.sum(0)])

    def advance(self) -> None:
        """After a step: what its samples showed, of all processes, joins the means."""
        if not self.balance:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._step)
        self.errors = KEPT * self.errors + self._step[0]
        self.counts = KEPT * self.counts + self._step[1]
        self._step = torch.zeros_like(self._step)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, by name."""
        return {PREFIX + "errors": self.errors, PREFIX + "counts": self.counts} if self.balance else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        if self.balance:
            self.errors = state[PREFIX + "errors"].to(self.levels)
            self.counts = state[PREFIX + "counts"].to(self.levels)

    def _near(self, log_snr: Tensor) -> Tensor:
        """How near samples lie to each level, `(N, L)`."""
        distance = log_snr.float().clamp(LOWEST, HIGHEST)[:, None] - self.levels
        return torch.exp(-distance.square() / 2)
