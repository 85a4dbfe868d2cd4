"""Sampling that starts from an image or is held to it."""

import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.generators.sampling import Edit
from medloom.processes.editing import changed_region, held, invert, region_of
from medloom.processes.levels import from_strength
from medloom.processes.paths import DDPM, ProbabilityPath, RectifiedFlow
from medloom.processes.samplers import SAMPLERS, first_order, samplers_for

PATHS = (DDPM(), DDPM("cosine", 200, "v"), RectifiedFlow(shift=3.0))
SHAPE = (2, 1, 4, 4)


def draws(name: str) -> Tensor:
    return torch.randn(SHAPE, generator=torch_generator(name))


def network(path: ProbabilityPath):
    """The exact denoiser of data with mean 0.3 and standard deviation 0.5 in each pixel."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = path.levels(t, x)
        data = 0.3 + alpha * 0.25 * (x - alpha * 0.3) / (alpha**2 * 0.25 + sigma**2)
        return path.target(data, (x - alpha * data) / sigma, t)

    return denoise


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_sampling_undoes_an_inversion(path: ProbabilityPath, strength: float) -> None:
    clean, denoise = 0.5 * draws("clean"), network(path)
    _, sampler, chosen = first_order(path)
    levels = from_strength(chosen(path, 40), path, strength)
    back = sampler(denoise, invert(denoise, clean, path, levels), path, levels)
    # Where nothing of the data is left, the last step is found less exactly.
    assert (back - clean).abs().max() < (0.02 if strength == 1 else 2e-3)
    assert (sampler(denoise, draws("other"), path, chosen(path, 40)) - clean).abs().max() > 0.3


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_little_strength_keeps_the_image_and_all_of_it_forgets_it(path: ProbabilityPath) -> None:
    clean, denoise, noise = 0.5 * draws("clean"), network(path), draws("noise")
    distances = []
    for strength in (0.02, 0.3, 0.9):
        for name in samplers_for(path):
            _, sampler, chosen = SAMPLERS[name]
            levels = from_strength(chosen(path, 20), path, strength)
            start = levels[0].alpha * clean + levels[0].sigma * noise
            made = sampler(denoise, start, path, levels, noise_fn=lambda step: draws(f"step {step}"))
            distances.append((strength, float((made - clean).abs().mean())))
    means = {s: sum(d for other, d in distances if other == s) / len(samplers_for(path)) for s, _ in distances}
    assert means[0.02] < 0.1 < means[0.3] < means[0.9]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_nothing_changes_outside_of_a_region(path: ProbabilityPath) -> None:
    clean, denoise, noise = 0.5 * draws("clean"), network(path), draws("noise")
    region = torch.zeros(2, 1, 4, 4)
    region[..., :2] = 1
    for name in samplers_for(path):
        _, sampler, levels = SAMPLERS[name]
        constrained = held(denoise, path, clean, region)
        made = sampler(constrained, noise, path, levels(path, 20), noise_fn=lambda step: draws(f"step {step}"))
        change = (made - clean).abs()
        # Discrete diffusion ends at its first level, with 3 % of noise.
        assert change[..., 2:].max() < 0.1 < change[..., :2].max()


@pytest.mark.parametrize("strength", [0.5, 0.2], ids=["clear", "faint"])
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_region_is_where_two_networks_differ_on_average(path: ProbabilityPath, strength: float) -> None:
    """One adds a square; what it makes of noise elsewhere differs too, but in no direction."""
    clean = torch.zeros(2, 1, 32, 32)
    plain = network(path)
    square = torch.zeros(1, 1, 32, 32)
    square[..., 6:14, 6:14] = strength

    def adds(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = path.levels(t, x)
        wrong = 0.1 * torch.randn(x.shape, generator=torch_generator("wrong", int(x.sum() * 1e3) % 1000))
        data = path.to_x0(plain(x, t), x, t) + square + wrong
        return path.target(data, (x - alpha * data) / sigma, t)

    noises = [torch.randn(clean.shape, generator=torch_generator("noise", k)) for k in range(6)]
    region = changed_region(adds, plain, clean, path, noises)
    assert region.shape == (2, 1, 32, 32)
    elsewhere = region[..., 18:, 18:]
    assert region[..., 8:12, 8:12].min() == 1 and elsewhere.mean() < 0.01
    assert elsewhere.max() < (0.3 if strength == 0.5 else 0.5)
    assert changed_region(plain, plain, clean, path, noises).abs().max() == 0


def test_a_region_is_soft_and_empty_where_nothing_differs() -> None:
    differences = torch.zeros(2, 2, 1, 16, 16, 16)[:, 0]
    differences[0, :, 6:10, 6:10, 6:10] = 0.5
    region = region_of(differences)
    assert region.shape == differences.shape and region[0, 0, 7, 7, 7] == 1 and region[0, 0, 0, 0, 0] == 0
    assert ((region[0] > 0) & (region[0] < 1)).any() and region[1].max() == 0
    # Less than half a grey level is nothing.
    assert region_of(differences / 255)[0].max() == 0


def test_what_cannot_be_is_refused() -> None:
    for start, strength, message in (
        ("middle", 1.0, "--start"),
        ("prior", 0.0, "above 0 and at most 1"),
        ("noise", 0.5, "goes with --start prior or inversion"),
    ):
        with pytest.raises(UserError, match=message):
            Edit(start, strength)
