"""Whole arrays from windows: the same as from the whole where a network allows it, without seams, of any size."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.mask_spec import NO_MASK, MaskSpec, numbered
from medloom.core.seeds import torch_generator
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.generators.base import ImageGenerator
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import DiffusionSampling
from medloom.generators.training_facts import TrainingFacts
from medloom.generators.volumes import Tiling, WholeMask, Window, blended
from medloom.processes.paths import DDPM, ProbabilityPath, RectifiedFlow
from medloom.processes.samplers import SAMPLERS, default_sampler

SIZES = [(23, 17, 12), (8, 8, 8), (9, 30, 8), (16, 16, 16)]
WINDOW = (8, 8, 8)


def noise(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=torch_generator(name))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_the_whole_and_overlap_at_least_so_much(size: tuple[int, ...], overlap: float) -> None:
    for axis, along, window in zip(size, Tiling(WINDOW, overlap).starts(size), WINDOW, strict=True):
        assert along[0] == 0 and along[-1] == axis - window
        shared = [here + window - after for here, after in pairwise(along)]
        assert all(count >= round(overlap * window) for count in shared) and len(set(along)) == len(along)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_network_that_looks_at_each_place_alone_gives_what_it_gives_for_the_whole(
    size: tuple[int, ...], batch: int
) -> None:
    whole = noise(2, *size)

    def predict(windows: list[Window]) -> Tensor:
        return torch.stack([torch.tanh(window.of(whole)) for window in windows])

    torch.testing.assert_close(blended(predict, size, Tiling(WINDOW, 0.3, batch)), torch.tanh(whole))


def test_what_differs_from_window_to_window_is_blended_without_a_seam() -> None:
    """Windows that disagree by a constant: no step between neighbours is larger than the slope of the weights."""
    size, tiling = (64, 64), Tiling((16, 16), 0.25)

    def predict(windows: list[Window]) -> Tensor:
        values = [
            torch.full((1, 16, 16), float(torch.rand((), generator=torch_generator(str(w.start))))) for w in windows
        ]
        return torch.stack(values)

    smooth = blended(predict, size, tiling)[0]
    # Overlaps are of 4 to 5 pixels; a hard edge would step by up to 1 at once.
    assert 0.3 < max(float(smooth.diff(dim=axis).abs().max()) for axis in (0, 1)) < 0.6
    pasted = blended(predict, size, Tiling((16, 16), 0.0))[0]
    assert max(float(pasted.diff(dim=axis).abs().max()) for axis in (0, 1)) > 0.8


def test_no_window_and_no_share() -> None:
    with pytest.raises(UserError, match="overlap (is )?1.0"):
        Tiling(WINDOW, 1.0)
    with pytest.raises(ValueError, match="has to be padded"):
        Tiling(WINDOW).starts((7, 8, 8))


class Towards:
    """The best denoiser of images that are all alike: a wave over the whole volume, of which a window knows its part.

    With a bias that is another in each window it stands for a network that guesses differently about each.
    """

    def __init__(self, path: ProbabilityPath, mask: WholeMask, bias: float = 0.0) -> None:
        self.path, self.mask, self.bias = path, mask, bias
        grid = torch.meshgrid(*(torch.linspace(0, 3, axis) for axis in mask.frame), indexing="ij")
        self.target = 0.6 * torch.sin(sum(grid))[None]

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        def predict(windows: list[Window]) -> Tensor:
            parts = torch.stack([window.of(x[0]) for window in windows])
            goals = torch.stack([window.of(self.target) for window in windows])
            wrong = [float(torch.rand((), generator=torch_generator(str(w.start)))) - 0.5 for w in windows]
            goals = goals + self.bias * torch.tensor(wrong).view(-1, 1, 1, 1, 1)
            time = t.expand(len(windows))
            alpha, sigma = self.path.levels(time, parts)
            return self.path.target(goals, (parts - alpha * goals) / sigma, time)

        return blended(predict, self.mask.frame, self.mask.tiling)[None]


def sampled(denoise: Towards) -> Tensor:
    path, (_, sampler, levels) = denoise.path, SAMPLERS[default_sampler(denoise.path)]
    return denoise.mask.cropped(sampler(denoise, noise(1, 1, *denoise.mask.frame), path, levels(path, 10))[0])


@pytest.mark.parametrize("path", [RectifiedFlow(), DDPM(steps=250), DDPM(prediction="v")])
@pytest.mark.parametrize("size", [(20, 13, 9), (5, 12, 8)])
def test_sampling_in_windows_equals_sampling_the_whole(path: ProbabilityPath, size: tuple[int, ...]) -> None:
    labels = np.zeros(size, np.int16)
    windows = sampled(Towards(path, WholeMask(labels, Tiling(WINDOW, 0.25, 3))))
    frame = tuple(max(axis, 8) for axis in size)
    whole = sampled(Towards(path, WholeMask(labels, Tiling(frame))))
    assert windows.shape == (1, *size)
    torch.testing.assert_close(windows, whole, atol=2e-5, rtol=0)


def test_sampling_in_windows_that_disagree_leaves_no_seam() -> None:
    """Across the edges of windows neighbours differ no more than elsewhere; windows sampled apart do."""
    labels, tiling = np.zeros((48, 48, 16), np.int16), Tiling((16, 16, 16), 0.25)
    mask = WholeMask(labels, tiling)
    made = sampled(Towards(RectifiedFlow(), mask, bias=0.2))[0]
    edges = sorted(
        {edge - 1 for start in tiling.starts(mask.frame)[0] for edge in (start, start + 16) if 0 < edge < 48}
    )
    steps = made.diff(dim=0).abs().mean(dim=(1, 2))
    elsewhere = [place for place in range(47) if all(abs(place - edge) > 1 for edge in edges)]
    assert edges and float(steps[edges].max()) <= 1.2 * float(steps[elsewhere].max())
    pasted = sampled(Towards(RectifiedFlow(), WholeMask(labels, Tiling((16, 16, 16), 0.0)), bias=0.2))[0]
    hard = pasted.diff(dim=0).abs().mean(dim=(1, 2))
    assert float(hard.max()) > 1.5 * float(steps.max())


def test_a_volume_smaller_than_the_window_lies_in_its_middle() -> None:
    labels = np.full((5, 12, 8), 3, np.int16)
    mask = WholeMask(labels, Tiling(WINDOW))
    assert mask.frame == (8, 12, 8) and mask.inside == Window((1, 0, 0), (5, 12, 8))
    seen = mask.labels_of([Window((0, 4, 0), WINDOW)])[0]
    assert (seen[1:6] == 3).all() and (seen[:1] == NO_MASK).all() and (seen[6:] == NO_MASK).all()
    place = mask.positions_of([Window((0, 4, 0), WINDOW)])[0]
    torch.testing.assert_close(place, torch.tensor([[-1.4, 1.8], [-1 / 3, 1.0], [-1.0, 1.0]]))


CLASSES = (1, 2)


@pytest.fixture(scope="module")
def generator() -> DiffusionGenerator:
    """A tiny network with random weights in every branch, trained on nothing."""
    spec = ImageSpec(WINDOW, 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)}, patch=True, orientation="RAS")
    network = DenoiserOptions(
        widths=(16, 16), attention=(False, True), head_width=16, patch=1, mask="channels", mask_classes=CLASSES,
        condition_width=16,
    )  # fmt: skip
    text = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=16)
    facts = TrainingFacts(["CT: lungs"], ["CT"], masks=MaskSpec(numbered(CLASSES)))
    made = build_generator(spec, facts, None, network, text, NoiseOptions(), 0)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if not parameter.any():
                parameter.copy_(0.1 * noise(*parameter.shape, name=name))
    return made


def whole_mask(size: tuple[int, ...], **tiling: object) -> WholeMask:
    labels = np.zeros(size, np.int16)
    labels[2:5, 3:6], labels[5:, :3] = 1, 2
    return WholeMask(labels, Tiling(WINDOW, **tiling))


LUNGS = Condition("lungs", "CT")
SAMPLING = DiffusionSampling(steps=3)


def test_a_whole_of_one_window_is_the_patch(generator: DiffusionGenerator) -> None:
    mask = whole_mask(WINDOW)
    whole = generator.sample_windows(LUNGS, 5, mask, SAMPLING)
    only = [Window((0, 0, 0), WINDOW)]
    patch = generator.sample_patches([LUNGS], [5], mask.labels_of(only), mask.positions_of(only), SAMPLING)
    assert whole.shape == (1, *WINDOW)
    torch.testing.assert_close(whole, patch[0], atol=1e-5, rtol=0)


def test_an_image_depends_on_its_seed_and_not_on_the_batch_of_windows(generator: DiffusionGenerator) -> None:
    one, many = (generator.sample_windows(LUNGS, 5, whole_mask((13, 9, 8), batch=b), SAMPLING) for b in (1, 4))
    torch.testing.assert_close(one, many, atol=1e-4, rtol=0)
    other = generator.sample_windows(LUNGS, 6, whole_mask((13, 9, 8)), SAMPLING)
    assert one.shape == other.shape == (1, 13, 9, 8) and (one - other).abs().mean() > 0.05


@pytest.mark.parametrize("part", ["mask", "text"])
def test_mask_and_text_are_guided_apart_in_volumes(generator: DiffusionGenerator, part: str) -> None:
    """With scale 0 a part is not followed; with a scale of its own the image changes, for windows and patches alike."""
    changed = {
        "mask": whole_mask((13, 9, 8)),
        "text": WholeMask(np.ascontiguousarray(whole_mask((13, 9, 8)).labels[::-1]), Tiling(WINDOW)),
    }
    texts = {"mask": ("lungs", "a heart"), "text": ("lungs", "lungs")}[part]
    masks = {"mask": (changed["mask"], changed["mask"]), "text": (changed["mask"], changed["text"])}[part]

    def made(which: int, **scales: float) -> Tensor:
        sampling = DiffusionSampling(steps=3, guidance=1.0, guidance_by_part=scales)
        return generator.sample_windows(Condition(texts[which], "CT"), 1, masks[which], sampling)

    unheard = "text" if part == "mask" else "mask"
    silent = {unheard: 0.0} if unheard == "text" else {"mask": 0.0, "modality": 0.0, "text": 0.0}
    torch.testing.assert_close(made(0, **silent), made(1, **silent), atol=1e-5, rtol=0)
    assert (made(0) - made(1)).abs().max() > 1e-4
    assert (made(0, **{unheard: 4.0}) - made(0)).abs().max() > 1e-4


def test_the_network_sees_where_a_patch_lies_in_the_whole(generator: DiffusionGenerator) -> None:
    labels = torch.zeros((1, *WINDOW), dtype=torch.long)
    positions = torch.tensor([[[-1.0, 0.0]] * 3, [[0.0, 1.0]] * 3])
    first, last = (generator.sample_patches([LUNGS], [1], labels, each[None], SAMPLING) for each in positions)
    assert (first - last).abs().max() > 1e-4


def test_families_that_generate_one_size_say_so(generator: DiffusionGenerator) -> None:
    with pytest.raises(UserError, match="a diffusion generates images of"):
        ImageGenerator.sample_windows(generator, LUNGS, 0, whole_mask(WINDOW))
    with pytest.raises(UserError, match="a diffusion generates whole images of"):
        ImageGenerator.sample_patches(generator, [LUNGS], [0], torch.zeros(1), torch.zeros(1))
    assert generator.masks == MaskSpec({1: "label 1", 2: "label 2"})
