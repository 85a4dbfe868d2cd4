"""Conditions of a patch: its position in the whole image, and many mask classes at low cost."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.generators.base_model import ConditionalModel
from medloom.networks.blocks import contained, coordinates
from medloom.networks.denoiser import UNet, UNetConfig
from medloom.networks.gan_generators import ImageNetworkConfig, make_network
from medloom.networks.stable_diffusion import StableDiffusionUNet
from medloom.networks.weights import StoredNetwork, widened


def test_overlapping_patches_have_the_same_positions() -> None:
    """The right half of one patch is the left half of the next, and each pixel has one position in both."""
    x = torch.zeros(2, 1, 8, 6)
    position = torch.tensor([[[-1.0, 0.0], [-1.0, 1.0]], [[-0.5, 0.5], [-1.0, 1.0]]])
    found = coordinates(x, position)
    torch.testing.assert_close(found[0, :, 4:], found[1, :, :4])
    torch.testing.assert_close(found[0, 0, :, 0], torch.linspace(-0.9375, -0.0625, 8))
    torch.testing.assert_close(found[:, 1], coordinates(x, position)[:, 1].flip(2).neg())


def test_a_folded_patch_has_the_middle_of_each_block() -> None:
    fine, folded = (coordinates(torch.zeros(1, 1, n, n, n), torch.tensor([[[-1.0, 1.0]] * 3])) for n in (8, 4))
    torch.testing.assert_close(torch.nn.functional.avg_pool3d(fine, 2), folded)


def test_whole_images_have_the_same_positions_as_before() -> None:
    found = coordinates(torch.zeros(2, 3, 5, 4))
    assert found.shape == (2, 2, 5, 4) and found[0, 0, 0, 0] == -1 and found[0, 1, 0, -1] == 1


def test_what_lies_in_padding_is_known_to_the_pixel_and_of_folded_blocks_by_their_part() -> None:
    """Of 8 rows the content fills 5, from the second on; of the columns all."""
    position = torch.tensor([[[-1 - 2 / 5, 1 + 4 / 5], [-1.0, 1.0]], [[-1.0, 1.0], [-1.0, 1.0]]])
    fine = contained(torch.zeros(2, 1, 8, 6), position)
    torch.testing.assert_close(fine[0, 0, :, 0], torch.tensor([0.0, 1, 1, 1, 1, 1, 0, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(fine[1], torch.ones(1, 8, 6))
    folded = contained(torch.zeros(2, 1, 4, 3), position)
    torch.testing.assert_close(folded, torch.nn.functional.avg_pool2d(fine, 2))
    assert torch.equal(contained(torch.zeros(2, 1, 3, 4, 5)), torch.ones(2, 1, 3, 4, 5))
    # It agrees with the coordinates: content lies within -1 and 1.
    inside = (coordinates(torch.zeros(2, 1, 8, 6), position).abs() < 1).all(1, keepdim=True)
    torch.testing.assert_close(fine, inside.float(), atol=1e-5, rtol=0)


SMALL: dict[str, Any] = {"widths": (8, 8), "attention": (False, False), "patch": 2, "fusion": "none"}


def networks(dims: int) -> list[StoredNetwork]:
    unet = UNetConfig(dims=dims, channels=1, coordinates=True, pixel_width=4, **SMALL)
    gans = [
        ImageNetworkConfig(kind=kind, dims=dims, coordinates=True, style_width=3, blocks=1, **SMALL)
        for kind in ("resnet", "unet")
    ]
    with initial_weights(0):
        made: list[StoredNetwork] = [UNet(unet), *(make_network(config) for config in gans)]
        for network in made:
            for parameter in network.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_learns_of_padding_keeps_what_it_knew(dims: int) -> None:
    x, position = torch.randn(2, 1, *[8] * dims, generator=torch_generator("x")), torch.tensor([[[-2.0, 2.0]] * dims])
    for network in networks(dims):
        grown = widened(network, replace(network.config, padding=True)).eval()
        second = torch.zeros(2) if isinstance(network, UNet) else torch.ones(2, 3)
        whole, padded = torch.tensor([[[-1.0, 1.0]] * dims] * 2), torch.cat([position, position])
        for where in (None, whole, padded):
            torch.testing.assert_close(grown(x, second, position=where), network(x, second, position=where))
        assert len(grown.state_dict()) == len(network.state_dict())
        # The new weights are used: what a gradient does to them changes images where there is padding.
        (grown(x, second, position=padded) ** 2).sum().backward()
        name, changed = next((n, p) for n, p in grown.named_parameters() if p.shape != network.state_dict()[n].shape)
        assert changed.grad is not None and changed.grad[:, -1].abs().max() > 0, name
        assert torch.equal(changed[:, -1], torch.zeros_like(changed[:, -1]))


def test_stable_diffusion_has_no_slot_for_a_position() -> None:
    with pytest.raises(ValueError, match="position of a patch"):
        StableDiffusionUNet(torch.nn.Identity())(torch.zeros(1), torch.zeros(1), position=torch.zeros(1))


def stacked(labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Channels of classes one by one, as the definition has them."""
    return torch.stack([labels == label for label in classes], dim=1).float()


@pytest.mark.parametrize("classes", [(1, 2), (255,), tuple(range(1, 101)), (7, 3)])
def test_one_hot_channels_are_those_of_the_definition(classes: tuple[int, ...]) -> None:
    model = ConditionalModel(torch.nn.Identity(), None, classes)
    labels = torch.randint(-1, 258, (2, 6, 5, 4), generator=torch_generator("labels"))
    x = torch.zeros(2, 1, 6, 5, 4)
    channels, regions = model.spatial(labels, x), model.regions(labels, x)
    assert channels is not None and channels.shape[1] == len(classes) + 1
    torch.testing.assert_close(channels[:, :-1], stacked(labels, classes))
    torch.testing.assert_close(channels[:, -1], (labels >= 0).float())
    torch.testing.assert_close(regions[:, :-1], stacked(labels, classes))
    torch.testing.assert_close(regions.sum(1), (labels >= 0).float())


@pytest.mark.parametrize("fusion", ["channels", "spade"])
def test_many_classes_are_brought_to_few_channels_and_remain_distinct(fusion: str) -> None:
    settings = {"dims": 3, "channels": 1, "widths": (8, 8), "attention": (False, False), "patch": 2, "fusion": "affine"}
    maps = {"pooled_width": 4, "spatial_channels": 101, "spatial_fusion": fusion, "region_styles": 4}
    with initial_weights(0):
        wide, narrow = (UNet(UNetConfig(**settings, **maps, spatial_width=width)) for width in (0, 16))
        for unet in (wide, narrow):
            # Branches start silent, and a test on zeros would pass whatever they do.
            for parameter in unet.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
    assert narrow.config.map_channels == 16 and wide.config.map_channels == 105
    weights = [sum(parameter.numel() for parameter in unet.parameters()) for unet in (wide, narrow)]
    assert weights[1] < 0.6 * weights[0]
    x = torch.zeros(2, 1, 8, 8, 8)
    spatial = torch.zeros(2, 101, 8, 8, 8)
    spatial[0, 3], spatial[1, 97] = 1, 1
    made = narrow(x, torch.zeros(2), pooled=torch.ones(2, 4), spatial=spatial)
    assert (made[0] - made[1]).abs().max() > 1e-3
    with pytest.raises(UserError, match="spatial_width needs a spatial condition"):
        UNetConfig(spatial_width=4)
