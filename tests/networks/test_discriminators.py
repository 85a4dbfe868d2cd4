"""The patch discriminator: shapes, normalisation, and that freezing leaves nothing behind."""

import pytest
import torch

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.discriminators import (
    NORMS,
    PatchDiscriminator,
    frozen,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


def make(norm: str = "spectral", dims: int = 2, layers: int = 2) -> PatchDiscriminator:
    with initial_weights(0, "discriminator"):
        return PatchDiscriminator(dims, 1, 4, layers, norm)


def draw(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(0, "images")) * 2 - 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
def test_features_and_logits_have_the_documented_shapes(norm, dims):
    discriminator = make(norm, dims)
    images = draw(2, 1, *[16] * dims)
    assert [tuple(f.shape) for f in discriminator.features(images)] == [
        (2, 4, *[8] * dims),
        (2, 8, *[4] * dims),
        (2, 16, *[3] * dims),
    ]
    assert discriminator(images).shape == (2, 1, *[2] * dims)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_images_leave_one_patch(layers):
    discriminator, smallest = make(layers=layers), 3 * 2**layers
    discriminator.require_size((smallest, smallest))
    assert discriminator(draw(1, 1, smallest, smallest)).shape == (1, 1, 1, 1)


def test_a_patch_of_three_layers_is_70_pixels_wide():
    discriminator = make("spectral", layers=3).eval()
    images = draw(1, 1, 160, 160).requires_grad_()
    logits = discriminator(images)
    logits[0, 0, 9, 9].backward()
    touched = images.grad[0, 0].abs().sum(0).nonzero()
    assert int(touched.max() - touched.min()) + 1 == 70


def test_the_spectral_norm_bounds_every_layer():
    discriminator = make()
    for _ in range(30):
        discriminator(draw(1, 1, 16, 16))
    for block in discriminator.blocks:
        largest = torch.linalg.matrix_norm(block[0].weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1.0, abs=0.05)


def test_images_of_a_batch_do_not_mix():
    discriminator = make("group").eval()
    images = draw(3, 1, 16, 16)
    torch.testing.assert_close(discriminator(images)[1:2], discriminator(images[1:2]))


def test_a_frozen_module_passes_gradients_on_and_changes_nothing_of_its_own():
    discriminator = make("spectral").train()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    images = draw(2, 1, 16, 16).requires_grad_()
    with frozen(discriminator):
        loss = hinge_generator_loss(discriminator(images))
    loss.backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in discriminator.parameters())
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert discriminator.training


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert float(hinge_discriminator_loss(real, fake)) == pytest.approx(0.5 * (0.5 + 1.0))
    assert float(hinge_generator_loss(fake)) == pytest.approx(1.0)


def test_it_learns_to_separate_two_kinds_of_images():
    discriminator = make("group")
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-3, betas=(0.5, 0.9))
    real = draw(8, 1, 16, 16)
    fake = torch.nn.functional.avg_pool2d(real, 5, 1, 2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = hinge_discriminator_loss(discriminator(real), discriminator(fake))
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(discriminator(real).mean()) > float(discriminator(fake).mean()) + 1.0


def test_mistakes_are_named():
    with pytest.raises(UserError, match="allowed: spectral, group"):
        make("batch")
    with pytest.raises(UserError, match="at least 12 pixels"):
        make().require_size((32, 8))
