"""Perceptual distances: their value by hand, and gradients of each option."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.discriminators import PatchDiscriminator, frozen
from medloom.networks.perceptual import PerceptualDistance, load_vision_features, perceptual_distance

STATISTICS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "size": {"height": 32, "width": 32}}
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}


def draw(name: str, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(0, name)) * 2 - 1


def make_vit() -> ViTModel:
    return ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8))


def make_resnet() -> ResNetModel:
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))


def make_clip() -> CLIPModel:
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config={**SMALL, "vocab_size": 64}, vision_config=vision))


@pytest.fixture(params=[make_vit, make_resnet, make_clip], ids=["vit", "resnet", "clip"])
def encoder(request, tmp_path):
    with initial_weights(0, "encoder"):
        request.param().save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "preprocessor_config.json").write_text(json.dumps(STATISTICS))
    return tmp_path / "encoder"


def test_the_distance_is_that_of_unit_features_by_hand():
    distance = PerceptualDistance(lambda images: [images])
    ones = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    others = torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
    # (0.6, 0.8) against (0, 1): 0.36 + 0.04.
    assert float(distance(ones, others)) == pytest.approx(0.4)
    tokens = PerceptualDistance(lambda images: [images.flatten(2).transpose(1, 2)])
    assert float(tokens(ones, others)) == pytest.approx(0.4)
    assert float(distance(ones, 2 * ones)) == pytest.approx(0.0, abs=1e-6)


def test_features_of_any_vision_model_give_gradients_to_the_images_alone(encoder):
    distance = perceptual_distance(str(encoder), None)
    images, targets = draw("a", 2, 1, 40, 40).requires_grad_(), draw("b", 2, 1, 40, 40).requires_grad_()
    values = distance(images, targets)
    values.sum().backward()
    assert values.shape == (2,)
    assert bool((values > 0).all())
    assert float(images.grad.abs().sum()) > 0
    assert targets.grad is None
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert torch.equal(distance(targets, targets), torch.zeros(2))
    assert not distance.train().features.training


def test_images_are_normalised_as_the_model_was_trained(encoder):
    features = load_vision_features(str(encoder))
    seen = []
    features.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    features(torch.ones(1, 3, 32, 32))
    expected = (1 - torch.tensor(STATISTICS["image_mean"])) / torch.tensor(STATISTICS["image_std"])
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), expected)


def test_features_of_a_discriminator_leave_it_alone():
    with initial_weights(0, "discriminator"):
        discriminator = PatchDiscriminator(2, 1, 4, 2)
    distance = perceptual_distance("discriminator", discriminator)
    images = draw("a", 2, 1, 16, 16).requires_grad_()
    with frozen(discriminator):
        value = distance(images, draw("b", 2, 1, 16, 16)).mean()
    value.backward()
    assert float(images.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert not list(distance.parameters())


def test_none_is_none():
    assert perceptual_distance("none", None) is None


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be used|does not exist; name a folder"):
        perceptual_distance(str(tmp_path / "missing"), None)
    make_vit().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match="no image_mean"):
        load_vision_features(str(tmp_path))
