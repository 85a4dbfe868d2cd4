"""Terms of the GAN's losses against values by hand and closed forms; the pool of earlier images."""

import numpy as np
import pytest
import torch
from gan_rows import CPU

from medloom.core.seeds import torch_generator
from medloom.generators.gan.losses import (
    correlation_loss,
    discriminator_loss,
    feature_loss,
    generator_loss,
    mask_loss,
    r1_penalty,
)
from medloom.generators.gan.pool import ImagePool

REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 0.5])


def draw(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(name))


def test_lsgan_by_hand() -> None:
    # Discriminator: ((2 - 1)^2 + (0.5 - 1)^2) / 2 and (1 + 0.25) / 2, halved together; generator: (4 + 0.25) / 2.
    assert float(discriminator_loss("lsgan", [REAL], [FAKE])) == pytest.approx(0.5 * (0.625 + 0.625))
    assert float(generator_loss("lsgan", [FAKE])) == pytest.approx(2.125)


def test_hinge_by_hand() -> None:
    # Discriminator: max(0, 1 - x) is 0 and 0.5, max(0, 1 + y) is 0 and 1.5.
    assert float(discriminator_loss("hinge", [REAL], [FAKE])) == pytest.approx(0.5 * (0.25 + 0.75))
    assert float(generator_loss("hinge", [FAKE])) == pytest.approx(0.25)


def test_scales_count_alike_whatever_their_number_of_patches() -> None:
    many = torch.full((1, 1, 10, 10), 3.0)
    assert float(generator_loss("lsgan", [many, torch.ones(1, 1, 1, 1)])) == pytest.approx(0.5 * (4.0 + 0.0))


def test_correlation_against_numpy() -> None:
    made, real = draw(3, 1, 6, 6), draw(3, 1, 6, 6, name="y")
    pairs = zip(made.flatten(1).numpy(), real.flatten(1).numpy(), strict=True)
    expected = np.mean([1 - np.corrcoef(x, y)[0, 1] for x, y in pairs])
    assert float(correlation_loss(made, real)) == pytest.approx(expected, abs=1e-5)
    assert float(correlation_loss(3 * real + 1, real)) == pytest.approx(0.0, abs=1e-5)
    assert float(correlation_loss(-real, real)) == pytest.approx(2.0, abs=1e-5)


def test_a_flat_image_has_no_correlation_and_a_gradient_that_is_finite() -> None:
    made, real = torch.zeros(1, 1, 4, 4, requires_grad=True), draw(1, 1, 4, 4)
    loss = correlation_loss(made, real)
    loss.backward()
    assert (
        float(loss.detach()) == 1.0
        and made.grad is not None
        and made.grad.isfinite().all()
        and made.grad.abs().max() > 0
    )


def test_features_are_compared_at_every_scale_and_layer() -> None:
    made = [[torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 2, 2)], [torch.zeros(1, 2, 2, 2), torch.zeros(1, 4, 1, 1)]]
    real = [[layer + shift for layer, shift in zip(layers, (1.0, 3.0), strict=True)] for layers in made]
    assert float(feature_loss(made, real)) == pytest.approx(2.0)


def test_r1_of_a_line_is_its_slope_squared() -> None:
    images, slope = draw(5, 1, 4, 4).requires_grad_(), draw(1, 4, 4, name="slope")
    logits = (images * slope).sum((1, 2, 3)).reshape(5, 1, 1, 1)
    assert r1_penalty([logits], images).item() == pytest.approx(float(slope.square().sum()), rel=1e-5)


def test_r1_of_a_square_is_the_image_s_own_length_and_it_has_a_gradient() -> None:
    images, scale = draw(5, 1, 4, 4).requires_grad_(), torch.tensor(2.0, requires_grad=True)
    logits = 0.5 * scale * images.square().sum((1, 2, 3)).reshape(5, 1, 1, 1)
    penalty = r1_penalty([logits], images)
    length = float(images.detach().square().sum((1, 2, 3)).mean())
    assert penalty.item() == pytest.approx(4.0 * length, rel=1e-5)
    penalty.backward()
    assert float(scale.grad) == pytest.approx(4.0 * length, rel=1e-5)


def test_r1_of_patches_that_do_not_overlap_is_the_mean_of_theirs() -> None:
    images, slopes = draw(3, 1, 4, 4).requires_grad_(), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    logits = slopes * torch.nn.functional.avg_pool2d(images, 2) * 4
    # Each patch sums four pixels with one slope.
    assert r1_penalty([logits], images).item() == pytest.approx(float((4 * slopes.square()).mean()), rel=1e-5)


def test_cross_entropy_of_a_mask_by_hand() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    assert float(mask_loss(logits, torch.ones(1, 2, 2, dtype=torch.long))) == pytest.approx(np.log(4))


def pool_of(size: int, seed: int = 0) -> ImagePool:
    return ImagePool(size, seed, {"images": ((2,), torch.float32), "labels": ((1,), torch.int16)}, CPU)


def entries(*values: int) -> dict[str, torch.Tensor]:
    images = torch.tensor([[value, value] for value in values], dtype=torch.float32)
    return {"images": images, "labels": images[:, :1].long()}


def test_a_pool_is_filled_first_and_then_gives_back_what_it_held() -> None:
    pool = pool_of(3)
    shown = [pool.exchange(entries(value), [value], step) for step, value in enumerate(range(40))]
    values = [int(entry["images"][0, 0]) for entry in shown]
    assert values[:3] == [0, 1, 2]
    assert all(torch.equal(entry["images"][0, :1].long(), entry["labels"][0]) for entry in shown)
    old = [value for step, value in enumerate(values[3:], 3) if value != step]
    assert 10 < len(old) < 27 and all(value < step for step, value in enumerate(values[3:], 3) if value != step)
    # What was given back was taken out: no image is shown from the pool twice.
    assert len(old) == len(set(old))


def test_the_choice_is_a_function_of_seed_step_and_row() -> None:
    def show(seed: int, rows: tuple[int, ...]) -> list[float]:
        pool = pool_of(2, seed)
        return [
            float(x)
            for step in range(20)
            for x in pool.exchange(entries(2 * step, 2 * step + 1), rows, step)["images"][:, 0]
        ]

    assert show(0, (4, 9)) == show(0, (4, 9))
    assert show(0, (4, 9)) != show(1, (4, 9)) and show(0, (4, 9)) != show(0, (5, 9))


def test_a_pool_is_restored() -> None:
    first, second = pool_of(3), pool_of(3)
    for step in range(9):
        first.exchange(entries(step), [0], step)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    after = [[pool.exchange(entries(step), [0], step)["images"] for step in range(9, 30)] for pool in (first, second)]
    assert all(torch.equal(x, y) for x, y in zip(*after, strict=True))


def test_no_pool_shows_what_it_is_given() -> None:
    pool = pool_of(0)
    assert torch.equal(pool.exchange(entries(3, 4), [0, 1], 7)["images"], entries(3, 4)["images"])
    assert pool.state() == {}
