"""Networks of the GAN: shapes, what each input does, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.discriminators import ConditionalDiscriminator, PatchDiscriminator
from medloom.networks.gan_generators import NETWORKS, ImageNetwork, ImageNetworkConfig, load_image_network, make_network

CONFIG = ImageNetworkConfig(
    widths=(8, 16),
    blocks=1,
    attention=(False, True),
    head_width=8,
    context_width=6,
    pooled_width=6,
    style_width=5,
    spatial_channels=3,
    region_styles=2,
    coordinates=True,
)


def draw(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=torch_generator(name))


def network_of(config: ImageNetworkConfig) -> ImageNetwork:
    with initial_weights(0, "network"):
        network = make_network(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch_generator(name)))
    return network.eval()


def inputs(dims: int, size: int = 8) -> dict[str, Tensor]:
    return {
        "x": draw(2, 1, *[size] * dims),
        "style": draw(2, 5),
        "context": draw(2, 4, 6),
        "context_mask": torch.ones(2, 4, dtype=torch.bool),
        "pooled": draw(2, 6),
        "spatial": (draw(2, 3, *[size] * dims) > 0).float(),
    }


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_output_has_the_input_s_size(kind: str, dims: int, patch: int) -> None:
    network = network_of(replace(CONFIG, kind=kind, dims=dims, patch=patch))
    assert network(**inputs(dims)).shape == (2, 1, *[8] * dims)
    assert network.config.divisor == 2 * patch


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("fusion", ["cross-attention", "affine", "none"])
@pytest.mark.parametrize("spatial", ["channels", "spade"])
def test_every_input_changes_the_output_where_it_is_fused(kind: str, fusion: str, spatial: str) -> None:
    network = network_of(replace(CONFIG, kind=kind, fusion=fusion, spatial_fusion=spatial))
    given = inputs(2)
    plain = network(**given)
    heard = {name for name in ("x", "style", "context", "pooled", "spatial") if not _same(network, given, name, plain)}
    expected = {"x", "style", "spatial"}
    expected |= {"affine": {"pooled"}, "cross-attention": {"pooled", "context"}, "none": set()}[fusion]
    assert heard == expected


def _same(network: ImageNetwork, given: dict[str, Tensor], name: str, plain: Tensor) -> bool:
    changed = {**given, name: 1 - given[name] if name == "spatial" else given[name].flip(0)}
    return torch.equal(network(**changed), plain)


@pytest.mark.parametrize("kind", NETWORKS)
def test_images_of_a_batch_do_not_mix(kind: str) -> None:
    network, given = network_of(replace(CONFIG, kind=kind, fusion="cross-attention")), inputs(2)
    alone = network(**{name: value[1:] for name, value in given.items()})
    torch.testing.assert_close(network(**given)[1:], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_loaded_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    network = network_of(replace(CONFIG, kind=kind))
    network.save_pretrained(tmp_path)
    loaded = load_image_network(tmp_path).eval()
    assert loaded.config == network.config and torch.equal(loaded(**inputs(2)), network(**inputs(2)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_checkpointed_gradients_are_the_same(kind: str) -> None:
    gradients = []
    for again in (False, True):
        network = network_of(replace(CONFIG, kind=kind, gradient_checkpointing=again)).train()
        network(**inputs(2)).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*gradients)


def test_a_network_conditioned_only_on_an_image() -> None:
    config = ImageNetworkConfig(inputs=1, outputs=4, widths=(8, 16), blocks=1, attention=(False, False), fusion="none")
    assert network_of(config)(draw(2, 1, 8, 8)).shape == (2, 4, 8, 8)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(UserError, match="allowed are resnet, unet"):
        ImageNetworkConfig(kind="dynunet")


def discriminator_of(dims: int = 2, norm: str = "group", spatial: int = 2, pooled: int = 6) -> ConditionalDiscriminator:
    with initial_weights(0, "discriminator"):
        return ConditionalDiscriminator(dims, 1, spatial, pooled, 4, 1, 2, norm)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["group", "spectral"])
def test_patches_are_judged_at_every_scale(dims: int, norm: str) -> None:
    judge = discriminator_of(dims, norm)
    assert judge.smallest() == 12
    logits = judge(draw(2, 1, *[16] * dims), draw(2, 2, *[16] * dims), draw(2, 6))
    assert [tuple(scale.shape) for scale in logits] == [(2, 1, *[6] * dims), (2, 1, *[2] * dims)]
    smallest = [tuple(s.shape[2:]) for s in judge(draw(1, 1, *[12] * dims), draw(1, 2, *[12] * dims), draw(1, 6))]
    assert smallest[-1] == (1,) * dims


@pytest.mark.parametrize("changed", ["image", "mask", "text"])
def test_it_sees_image_mask_and_text(changed: str) -> None:
    judge = discriminator_of().eval()
    given = {"image": draw(2, 1, 16, 16), "mask": draw(2, 2, 16, 16), "text": draw(2, 6)}
    other = {**given, changed: given[changed].flip(0)}
    for before, after in zip(judge(*given.values()), judge(*other.values()), strict=True):
        assert (before - after).abs().max() > 1e-4


def test_without_mask_and_text_it_is_the_patch_discriminator() -> None:
    judge, images = discriminator_of(spatial=0, pooled=0), draw(2, 1, 16, 16)
    assert isinstance(judge.patches[0], PatchDiscriminator)
    assert torch.equal(judge(images, None, None)[0], judge.patches[0](images))
    halved = torch.nn.functional.avg_pool2d(images, 2)
    assert torch.equal(judge(images, None, None)[1], judge.patches[1](halved))


def test_the_projection_by_hand() -> None:
    judge = discriminator_of()
    images, masks, pooled = draw(1, 1, 16, 16), draw(1, 2, 16, 16), draw(1, 6)
    features = judge.features(images, masks)
    known = torch.nn.functional.layer_norm(pooled, (6,))[0] / 6**0.5
    direction = judge.projections[1].weight @ known
    last = features[1][-1][0]
    # The 3 x 3 features lie under a kernel of 4 with a border of 1: its first place covers all three, its second too.
    expected = judge.patches[1].judge(features[1][-1])[0, 0, 0, 0] + (direction[:, None, None] * last).sum(0).mean()
    torch.testing.assert_close(judge.logits(features, pooled)[1][0, 0, 0, 0], expected)
