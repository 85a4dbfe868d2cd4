"""Sampling that starts from an image or is constrained by it: partial noise, inversion, and editable regions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medloom.processes.paths import DDPM, ProbabilityPath
from medloom.processes.steps import Denoise

# Fixed-point iterations per inversion step; further ones change latents by less than rounding does.
REFINEMENTS = 3


def held(
    denoise: Denoise, path: ProbabilityPath, clean: Tensor, strength: float = 1.0, region: Tensor | None = None
) -> Denoise:
    """A denoiser whose samples equal `clean` wherever they must not change.

    Above the level `strength`, samples are `clean` with noise (Meng et al. 2022, SDEdit) and the network is not
    evaluated. Below it, the data implied by its predictions are replaced by `clean` outside of the region.

    Args:
        denoise: the network with its guidance.
        path: the path that it was trained on.
        clean: the data to preserve, `(N, C, *spatial)`.
        strength: fraction of the way to noise, in (0, 1].
        region: editable fraction of each position, `(N, 1, *spatial)`, or None to edit everything.
    """

    def constrained(x: Tensor, t: Tensor) -> Tensor:
        if float(path.fraction(t).max()) > strength:
            return _implied(path, clean, x, t)
        prediction = denoise(x, t)
        if region is None:
            return prediction
        data = path.to_x0(prediction, x, t)
        return _implied(path, clean + region * (data - clean), x, t)

    return constrained


def _implied(path: ProbabilityPath, data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The prediction that takes noisy samples to `data`."""
    alpha, sigma = path.levels(t, x)
    return path.target(data, (x - alpha * data) / sigma, t)


@torch.no_grad()
def invert(
    denoise: Denoise, clean: Tensor, path: ProbabilityPath, times: Sequence[float], strength: float = 1.0
) -> Tensor:
    """The start from which first-order sampling leads back to `clean` (Song et al. 2021, DDIM).

    Fixed-point iteration solves each step of the sampler for its start (Pan et al. 2023, AIDI).

    Args:
        denoise: the network with its guidance.
        clean: the data, `(N, C, *spatial)`.
        path: the path that the network was trained on.
        times: times at which the sampler evaluates the network, from noise to data, in the path's own unit.
        strength: fraction of the way to noise at which to stop.

    Returns:
        `(N, C, *spatial)`, at the first of the times. With a strength below 1, sampling that is `held` to `clean` at
        the same strength passes through the end of the inversion.
    """
    dtype = torch.long if isinstance(path, DDPM) else torch.float32
    x, alpha, sigma = clean, 1.0, 0.0
    if isinstance(path, DDPM):
        # First-order samplers of discrete diffusion stop at the first level, not at the data.
        first = torch.zeros(1, dtype=torch.long)
        alpha, sigma = float(path.alpha(first)), float(path.sigma(first))
    batches = [torch.full((len(clean),), time, device=clean.device).to(dtype) for time in sorted(times)]
    below = [t for t in batches if float(path.fraction(t)[0]) <= strength]
    for t in below or batches[:1]:
        next_alpha, next_sigma = float(path.alpha(t)[0]), float(path.sigma(t)[0])
        guess = x
        for _ in range(REFINEMENTS):
            noise = path.to_noise(denoise(guess, t), guess, t).to(x)
            guess = next_alpha * (x - sigma * noise) / alpha + next_sigma * noise
        x, alpha, sigma = guess, next_alpha, next_sigma
    noisiest = torch.tensor([max(times)], device=clean.device).to(dtype)
    return path.add_noise(clean, (x - alpha * clean) / sigma, noisiest)
