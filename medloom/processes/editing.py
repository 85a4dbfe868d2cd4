"""Sampling that starts from an image or is constrained by it: partial noise, inversion, and editable regions.

Partial noise needs no function of its own: sampling starts at a lower noise level (`levels.from_strength`) from the
image with that much noise (Meng et al. 2022, SDEdit).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medloom.processes.levels import NoiseLevel
from medloom.processes.paths import ProbabilityPath
from medloom.processes.steps import Denoise

# Fixed-point iterations per inversion step; further ones change latents by less than rounding does.
REFINEMENTS = 3


def held(denoise: Denoise, path: ProbabilityPath, clean: Tensor, region: Tensor) -> Denoise:
    """A denoiser whose samples equal `clean` outside of a region.

    There the data implied by its predictions are replaced by `clean`.

    Args:
        denoise: the network with its guidance.
        path: the path that it was trained on.
        clean: the data to preserve, `(N, C, *spatial)`.
        region: editable fraction of each position, `(N, 1, *spatial)`.
    """

    def constrained(x: Tensor, t: Tensor) -> Tensor:
        data = clean + region * (path.to_x0(denoise(x, t), x, t) - clean)
        alpha, sigma = path.levels(t, x)
        # The prediction that takes noisy samples to these data.
        return path.target(data, (x - alpha * data) / sigma, t)

    return constrained


@torch.no_grad()
def invert(denoise: Denoise, clean: Tensor, path: ProbabilityPath, levels: Sequence[NoiseLevel]) -> Tensor:
    """The start from which first-order sampling leads back to `clean` (Song et al. 2021, DDIM).

    Fixed-point iteration solves each step of the sampler for its start (Pan et al. 2023, AIDI).

    Args:
        denoise: the network with its guidance.
        clean: the data, `(N, C, *spatial)`.
        path: the path that the network was trained on.
        levels: the levels that the sampler visits, from noise to data.

    Returns:
        `(N, C, *spatial)`, at the first of the levels.
    """
    x, (_, alpha, sigma) = clean, levels[-1]
    for level in reversed(levels[:-1]):
        t = torch.full((len(clean),), level.time, dtype=path.time_dtype, device=clean.device)
        guess = x
        for _ in range(REFINEMENTS):
            noise = path.to_noise(denoise(guess, t), guess, t).to(x)
            guess = level.alpha * (x - sigma * noise) / alpha + level.sigma * noise
        x, alpha, sigma = guess, level.alpha, level.sigma
    return x
