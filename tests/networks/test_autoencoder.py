"""The KL autoencoder: shapes, scale, and what diffusers makes of the saved files."""

import pytest
import torch
from diffusers import AutoencoderKL

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.autoencoder import KLAutoencoder, load_autoencoder, make_autoencoder


@pytest.fixture
def autoencoder() -> KLAutoencoder:
    with initial_weights(0, "autoencoder"):
        return make_autoencoder(1, (8, 16, 16), 3).eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(0, "values"))


def test_shapes(autoencoder):
    assert (autoencoder.factor, autoencoder.latent_channels, autoencoder.image_channels) == (4, 3, 1)
    assert autoencoder.latent_shape((32, 24)) == (3, 8, 6)
    moments = autoencoder.moments(draw(2, 1, 32, 24))
    assert moments.shape == (2, 6, 8, 6)
    assert autoencoder.decode(autoencoder.sample(moments, draw(2, 3, 8, 6))).shape == (2, 1, 32, 24)


def test_a_sample_is_mean_and_deviation_times_noise_scaled(autoencoder):
    autoencoder.vae.register_to_config(scaling_factor=0.5)
    moments, noise = draw(2, 6, 4, 4), draw(2, 3, 4, 4)
    expected = 0.5 * (moments[:, :3] + (0.5 * moments[:, 3:]).exp() * noise)
    torch.testing.assert_close(autoencoder.sample(moments, noise), expected)


def test_decoding_takes_the_scale_out_again(autoencoder):
    latents = draw(1, 3, 8, 8)
    plain = autoencoder.decode(latents)
    autoencoder.vae.register_to_config(scaling_factor=0.25)
    torch.testing.assert_close(autoencoder.decode(0.25 * latents), plain)


def test_what_is_saved_opens_in_diffusers(autoencoder, tmp_path):
    autoencoder.save(tmp_path)
    images = draw(1, 1, 16, 16)
    theirs = AutoencoderKL.from_pretrained(tmp_path).eval()
    ours = load_autoencoder(tmp_path).eval()
    with torch.no_grad():
        expected = theirs(images).sample
        mean = ours.moments(images).chunk(2, dim=1)[0]
        torch.testing.assert_close(ours.decode(mean * ours.vae.config.scaling_factor), expected)
    assert not list(tmp_path.glob("*.bin"))


def test_mistakes_are_named(autoencoder, tmp_path):
    with pytest.raises(UserError, match="not a multiple of 4"):
        autoencoder.latent_shape((30, 32))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_autoencoder(tmp_path)
