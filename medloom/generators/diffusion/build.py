"""Making a diffusion generator: from scratch, or from Stable Diffusion weights."""

from dataclasses import replace
from typing import Any

import torch

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.core.spec import ImageSpec
from medloom.generators.diffusion.base import StableDiffusionBase
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.model import DiffusionModel
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.support import require_support
from medloom.generators.training_facts import TrainingFacts, build_text_encoder, condition_config, fused_parts
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.conditioning import ConditionConfig, ConditionEncoder
from medloom.networks.denoiser import UNet, UNetConfig
from medloom.networks.stable_diffusion import StableDiffusionUNet, add_lora, make_unet
from medloom.networks.text import LOCAL, TextEncoder, load_text_encoder

# More classes of a mask than this are brought to so many channels.
MANY_CLASSES = 16
# Octave bands of the noisy image that the network's input, or a head at the image's own resolution, is given.
PIXEL_BANDS = 3


def build_generator(
    spec: ImageSpec,
    facts: TrainingFacts,
    autoencoder: KLAutoencoder | None,
    network: DenoiserOptions,
    text: TextOptions,
    noise: NoiseOptions,
    seed: int,
) -> DiffusionGenerator:
    """A generator with fresh weights.

    Args:
        spec: the model's image space.
        facts: what conditions the training images.
        autoencoder: for latent diffusion, or None for pixels.
        network: the denoiser.
        text: the text encoder.
        noise: the probability path.
        seed: of the initial weights.

    Raises:
        UserError: options that exclude each other, or an image size that the network cannot take.
    """
    _require_support(network, facts, text, spec.spatial_dims)
    if network.exportable:
        _refuse_own_ways(network, noise)
    encoder = build_text_encoder(facts.corpus, text, seed, "max" if network.exportable else "trim")
    shape = spec.shape if autoencoder is None else autoencoder.latent_shape(spec.size)
    with initial_weights(seed, "denoiser"):
        if network.exportable:
            model = _exportable_model(shape, autoencoder, network, encoder)
        else:
            condition = condition_config(facts, text, encoder.width, network.condition_width)
            model = _native_model(shape, network, encoder, condition, facts.padded)
    modality_as = "text" if network.exportable else text.modality_as
    return DiffusionGenerator(spec, noise.path(), model, autoencoder, modality_as, text.train or text.encoder == LOCAL)


def _require_support(network: DenoiserOptions, facts: TrainingFacts, text: TextOptions, dims: int) -> None:
    """Refuse, by the support table, a part of the condition that the network cannot take."""
    parts = dict(fused_parts(facts, text, network.fusion, network.exportable))
    parts |= {part: way for part, way in (("mask", network.mask), ("prior", network.prior)) if way != "none"}
    for part, fusion in parts.items():
        require_support("diffusion", "exportable" if network.exportable else "native", part, fusion, dims)


def _refuse_own_ways(network: DenoiserOptions, noise: NoiseOptions) -> None:
    """Stable Diffusion's pipeline knows none of medloom's own ways."""
    own = {
        "noise.data_std": noise.data_std,
        "network.pixel_width": network.pixel_width,
        "network.input_bands": network.input_bands,
        "network.region_slopes": network.region_slopes,
        "network.region_outputs": network.region_outputs,
        "network.styles_only": network.styles_only,
    }
    if used := [option for option, value in own.items() if value]:
        raise UserError(f"{used[0]}: a model that opens in diffusers cannot have it; leave it out.")


def _exportable_model(
    shape: tuple[int, ...], autoencoder: KLAutoencoder | None, network: DenoiserOptions, encoder: TextEncoder
) -> DiffusionModel:
    if autoencoder is None or len(shape) != 3 or shape[1] != shape[2]:
        raise UserError(
            "--network.exportable needs square 2-D images and an autoencoder, as Stable Diffusion's pipeline does;"
            " train one with `medloom train autoencoder` and name it with --autoencoder."
        )
    prior = shape[0] if network.prior != "none" else 0
    unet = make_unet(shape[0], network.widths, network.depth, encoder.width, shape[1], network.head_width, prior)
    if network.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return DiffusionModel(encoder, None, StableDiffusionUNet(unet), prior_channels=prior)


def _native_model(
    shape: tuple[int, ...],
    network: DenoiserOptions,
    encoder: TextEncoder,
    condition: ConditionConfig,
    padding: bool,
) -> DiffusionModel:
    masked = network.mask != "none"
    # One more says whether there is a prior image.
    prior = shape[0] + 1 if network.prior != "none" else 0
    styles = network.region_styles if masked and network.fusion != "none" else 0
    config = UNetConfig(
        dims=len(shape) - 1,
        channels=shape[0],
        widths=tuple(network.widths),
        depth=network.depth,
        attention=tuple(network.attention),
        head_width=network.head_width,
        patch=network.patch,
        fusion=network.fusion,
        context_width=network.condition_width,
        pooled_width=network.condition_width,
        spatial_channels=len(network.mask_classes) + 1 if masked else 0,
        spatial_fusion=network.mask if masked else "channels",
        prior_channels=prior,
        region_styles=styles,
        region_slopes=network.region_slopes,
        region_outputs=network.region_outputs,
        styles_only=network.styles_only,
        spatial_width=MANY_CLASSES if masked and len(network.mask_classes) > MANY_CLASSES else 0,
        gradient_checkpointing=network.gradient_checkpointing,
        coordinates=network.coordinates,
        padding=padding,
        pixel_width=network.pixel_width,
        pixel_bands=PIXEL_BANDS if network.pixel_width or network.input_bands else 0,
    )
    if any(axis % config.divisor for axis in shape[1:]):
        raise UserError(f"images of {shape[1:]} pixels: this network needs multiples of {config.divisor} on each axis.")
    joined = ConditionEncoder(condition)
    return DiffusionModel(encoder, joined, UNet(config), network.mask_classes if masked else (), prior)


def from_stable_diffusion(
    base: StableDiffusionBase,
    spec: ImageSpec,
    facts: TrainingFacts,
    network: DenoiserOptions,
    text: TextOptions,
    noise: NoiseOptions,
    lora: int | None,
    seed: int,
) -> DiffusionGenerator:
    """A generator that starts from a Stable Diffusion 1.x or 2.x model.

    Args:
        base: the model; it decides the network's shape, the noise schedule and the prediction.
        spec: the model's image space.
        facts: what conditions the training images; a table is refused.
        network: gradient checkpointing is read from it; a mask is refused.
        text: its `encoder` other than `local` replaces the base's own text encoder (any width equal to the
            network's).
        noise: min-SNR weights and noise offset are read from it.
        lora: rank of low-rank updates, or None for training the whole U-Net.
        seed: of the fresh low-rank weights.

    Raises:
        UserError: its parts cannot be loaded, or do not fit.
    """
    _require_support(replace(network, exportable=True), facts, text, spec.spatial_dims)
    _refuse_own_ways(network, noise)
    unet = base.load_unet()
    prior = _with_prior(unet) if network.prior != "none" else 0
    if network.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    autoencoder = base.load_autoencoder()
    if autoencoder.image_channels != spec.channels:
        raise UserError(
            f"--base {base.name} takes images of {autoencoder.image_channels} channels, the data have {spec.channels}."
        )
    encoder = (
        base.load_text_encoder(text.max_tokens)
        if text.encoder == LOCAL
        else load_text_encoder(text.encoder, text.max_tokens, "max")
    )
    if encoder.width != unet.config.cross_attention_dim:
        raise UserError(
            f"text encoder of width {encoder.width} does not fit --base {base.name}, whose network takes"
            f" {unet.config.cross_attention_dim}; choose one of that width."
        )
    if lora is not None:
        if lora < 1:
            raise UserError(f"--lora {lora}: the rank has to be at least 1.")
        with initial_weights(seed, "lora"):
            add_lora(unet, lora)
    path = replace(base.path, min_snr_gamma=noise.min_snr_gamma, noise_offset=noise.offset)
    model = DiffusionModel(encoder, None, StableDiffusionUNet(unet), prior_channels=prior)
    return DiffusionGenerator(spec, path, model, autoencoder, "text", text.train)


def _with_prior(unet: Any) -> int:
    """Widen a U-Net's first convolution for a prior image's latent, where it is not; returns that one's channels.

    New weights are zero, so that the network is at first what it was (Brooks et al. 2023, section 3.2).
    """
    from torch import nn

    channels = int(unet.config.out_channels)
    old = unet.conv_in
    if old.in_channels == 2 * channels:
        return channels
    wider = nn.Conv2d(2 * channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :channels] = old.weight
        wider.bias = old.bias
    unet.conv_in = wider
    unet.register_to_config(in_channels=2 * channels)
    return channels
