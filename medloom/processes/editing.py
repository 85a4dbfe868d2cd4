"""Sampling that starts from an image, or is held to it: partial noise, inversion, and regions where it may change."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.processes.paths import DDPM, ProbabilityPath
from medloom.processes.steps import Denoise

STARTS = ("noise", "prior", "inversion")
# Fixed-point iterations of a step of an inversion; more change latents by less than rounding does.
REFINEMENTS = 3


def check_start(start: str, strength: float) -> None:
    """Refuse a start that is not known.

    Raises:
        UserError: unknown, or a strength that is not above 0 and at most 1, or goes with a start that has none.
    """
    look_up(dict.fromkeys(STARTS), start, "--start")
    if not 0 < strength <= 1:
        raise UserError(f"--strength {strength}: a share of the way to noise, above 0 and at most 1.")
    if start == "noise" and strength != 1:
        raise UserError("--strength goes with --start prior or inversion; sampling from noise has all of it.")


def held(
    denoise: Denoise, path: ProbabilityPath, clean: Tensor, strength: float = 1.0, region: Tensor | None = None
) -> Denoise:
    """A denoiser of which samples stay with `clean` where they may not change.

    Above the level `strength` samples are `clean` with noise (Meng et al. 2022, SDEdit): the network is not asked.
    Below it the data that its predictions imply are those of `clean` outside of the region.

    Args:
        denoise: the network with its guidance.
        path: what it was trained on.
        clean: the data to stay with, `(N, C, *spatial)`.
        strength: share of the way to noise, in (0, 1].
        region: share of each place that may change, `(N, 1, *spatial)`, or None for all.
    """

    def kept(x: Tensor, t: Tensor) -> Tensor:
        if float(path.share(t).max()) > strength:
            return _implied(path, clean, x, t)
        prediction = denoise(x, t)
        if region is None:
            return prediction
        data = path.to_x0(prediction, x, t)
        return _implied(path, clean + region * (data - clean), x, t)

    return kept


def _implied(path: ProbabilityPath, data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The prediction that takes noisy samples to `data`."""
    alpha, sigma = path.levels(t, x)
    return path.target(data, (x - alpha * data) / sigma, t)


@torch.no_grad()
def invert(
    denoise: Denoise, clean: Tensor, path: ProbabilityPath, times: Sequence[float], strength: float = 1.0
) -> Tensor:
    """What a sampler has to start from so that first-order sampling leads back to `clean` (Song et al. 2021, DDIM).

    Each step solves the sampler's step for its start, by fixed-point iteration (Pan et al. 2023, AIDI).

    Args:
        denoise: the network with its guidance.
        clean: the data, `(N, C, *spatial)`.
        path: what the network was trained on.
        times: at which the sampler asks the network, from noise to data, in the path's own unit.
        strength: share of the way to noise at which to stop.

    Returns:
        `(N, C, *spatial)`, at the first of the times. With a strength below 1, sampling `held` to `clean` and the same
        strength comes by where the inversion came to.
    """
    x, alpha, sigma = clean, *_end(path)
    for t in _ascending(path, times, strength, len(clean), clean.device):
        next_alpha, next_sigma = float(path.alpha(t)[0]), float(path.sigma(t)[0])
        guess = x
        for _ in range(REFINEMENTS):
            noise = path.to_noise(denoise(guess, t), guess, t).to(x)
            guess = next_alpha * (x - sigma * noise) / alpha + next_sigma * noise
        x, alpha, sigma = guess, next_alpha, next_sigma
    first = torch.tensor([max(times)], device=clean.device).to(_dtype(path))
    return path.add_noise(clean, (x - alpha * clean) / sigma, first)


def _dtype(path: ProbabilityPath) -> torch.dtype:
    return torch.long if isinstance(path, DDPM) else torch.float32


def _end(path: ProbabilityPath) -> tuple[float, float]:
    """The level at which samplers of first order stop: of discrete diffusion the first, not the data themselves."""
    if not isinstance(path, DDPM):
        return 1.0, 0.0
    first = torch.zeros(1, dtype=torch.long)
    return float(path.alpha(first)), float(path.sigma(first))


def _ascending(
    path: ProbabilityPath, times: Sequence[float], strength: float, count: int, device: torch.device
) -> list[Tensor]:
    """The times of a batch that lie below the strength, the lowest first; one at least."""
    batches = [torch.full((count,), time, device=device).to(_dtype(path)) for time in sorted(times)]
    return [t for t in batches if float(path.share(t)[0]) <= strength] or batches[:1]
