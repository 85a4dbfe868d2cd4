"""Sampling that starts from an image or is constrained by it: partial noise, inversion, and editable regions.

Partial noise needs no function of its own: sampling starts at a lower noise level (`levels.from_strength`) from the
image with that much noise (Meng et al. 2022, SDEdit).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from medloom.processes.levels import NoiseLevel
from medloom.processes.paths import ProbabilityPath
from medloom.processes.steps import Denoise

# Fixed-point iterations per inversion step; further ones change latents by less than rounding does.
REFINEMENTS = 3
# Fraction of the way to noise at which instructions are compared: findings are undecided there, and outlines decided.
PROBED = 0.7
# A mean difference counts as far as it exceeds so many of its standard errors over noises.
ERRORS = 1.0
# Of an image's largest difference: places that differ by less are outside the region, those by twice as much inside.
EDGE = 0.1
# Differences are smoothed by a pixel on each side for so many pixels of the image.
SMOOTHED = 64
# Half a grey level of 255 of images in [-1, 1].
NOTHING = 1 / 255


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
def changed_region(
    edited: Denoise, unchanged: Denoise, clean: Tensor, path: ProbabilityPath, noises: Sequence[Tensor]
) -> Tensor:
    """Where an instruction makes a difference to one for no change, in an image with noise (cf. Couairon et al. 2023).

    Args:
        edited: the network with the instruction.
        unchanged: with the one for no change.
        clean: the data, `(N, C, *spatial)`.
        path: the path that the network was trained on.
        noises: two or more, standard normal, of the shape of the data; a difference counts as far as its mean over them
            exceeds its standard error.

    Returns:
        `(N, 1, *spatial)`; see `region_of`.
    """
    t = torch.full((len(clean),), path.time_at(PROBED), dtype=path.time_dtype, device=clean.device)
    alpha, sigma = path.levels(t, clean)
    noisy = (alpha * clean + sigma * noise for noise in noises)
    differences = torch.stack([path.to_x0(edited(x, t), x, t) - path.to_x0(unchanged(x, t), x, t) for x in noisy])
    error = differences.std(0) / len(noises) ** 0.5
    return region_of((differences.mean(0).abs() - ERRORS * error).clamp(min=0))


def region_of(differences: Tensor) -> Tensor:
    """Where images differ: 0 up to a tenth of the largest smoothed difference of an image, 1 from two tenths on.

    A tenth counts as at least half a grey level of 255.

    Args:
        differences: `(N, C, *spatial)`, of images in [-1, 1] or of latents.

    Returns:
        `(N, 1, *spatial)` in [0, 1].
    """
    pool = avg_pool3d if differences.ndim == 5 else avg_pool2d
    radius = max(1, min(differences.shape[2:]) // SMOOTHED)
    sizes = differences.abs().mean(1, keepdim=True)
    for _ in range(2):
        sizes = pool(sizes, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
    most = sizes.flatten(1).amax(1).view(-1, *[1] * (sizes.ndim - 1))
    least = (EDGE * most).clamp(min=NOTHING)
    return (sizes / least - 1).clamp(0, 1)


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
