"""A GAN's networks with fresh weights."""

import torch

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.core.spec import ImageSpec
from medloom.generators.gan.adversary import Adversary
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.model import GANModel
from medloom.generators.gan.options import GANOptions, ImageNetworkOptions
from medloom.generators.options import TextOptions
from medloom.generators.support import require_support
from medloom.generators.training_facts import TrainingFacts, build_text_encoder, condition_config, fused_parts
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.discriminators import ConditionalDiscriminator
from medloom.networks.gan_generators import ImageNetwork, ImageNetworkConfig, make_network
from medloom.networks.text import LOCAL


def build_generator(
    spec: ImageSpec, facts: TrainingFacts, network: ImageNetworkOptions, text: TextOptions, seed: int
) -> GANGenerator:
    """A generator with fresh weights.

    Args:
        spec: the model's image space.
        facts: what conditions the training images.
        network: its shape.
        text: the text encoder.
        seed: of the initial weights.

    Raises:
        UserError: options that exclude each other, or an image size that the network cannot take.
    """
    for part, way in {"mask": network.mask, **fused_parts(facts, text, network.fusion)}.items():
        require_support("gan", network.kind, part, way, spec.spatial_dims)
    encoder = build_text_encoder(facts.corpus, text, seed)
    condition = condition_config(facts, text, encoder.width, network.condition_width)
    config = ImageNetworkConfig(
        kind=network.kind,
        dims=spec.spatial_dims,
        inputs=spec.channels,
        outputs=spec.channels,
        widths=tuple(network.widths),
        blocks=network.blocks,
        depth=network.depth,
        attention=tuple(network.attention),
        head_width=network.head_width,
        patch=network.patch,
        fusion=network.fusion,
        context_width=network.condition_width,
        pooled_width=network.condition_width,
        style_width=network.style,
        spatial_channels=len(facts.masks.visible) + 1,
        spatial_fusion=network.mask,
        region_styles=network.region_styles,
        coordinates=network.coordinates,
        padding=facts.padded,
        gradient_checkpointing=network.gradient_checkpointing,
    )
    if any(axis % config.divisor for axis in spec.size):
        size = " x ".join(map(str, spec.size))
        raise UserError(f"images of {size} pixels: this network needs multiples of {config.divisor} on each axis.")
    with initial_weights(seed, "generator"):
        model = GANModel(encoder, ConditionEncoder(condition), make_network(config), facts.masks.visible)
    read_as = text.modality_as, text.train or text.encoder == LOCAL
    return GANGenerator(spec, model, *read_as, facts.has_text)


def build_inverse(generator: GANGenerator, network: ImageNetworkOptions, seed: int) -> ImageNetwork:
    """A resnet with fresh weights that finds a mask in an image: see `Cycle`."""
    spec = generator.spec
    config = ImageNetworkConfig(
        kind="resnet",
        dims=spec.spatial_dims,
        inputs=spec.channels,
        outputs=len(generator.model.mask_classes) + 2,
        widths=tuple(network.widths),
        blocks=network.blocks,
        attention=(False,) * len(network.widths),
        patch=network.patch,
        fusion="none",
        gradient_checkpointing=network.gradient_checkpointing,
    )
    with initial_weights(seed, "inverse"):
        return make_network(config)


def build_adversary(generator: GANGenerator, options: GANOptions, seed: int, device: torch.device) -> Adversary | None:
    """The discriminators with fresh weights on `device`, or None where there is no adversary.

    Raises:
        UserError: images too small for them.
    """
    if not options.adversarial:
        return None
    model, spec = generator.model, generator.spec
    masks = len(model.mask_classes) + 1
    pooled = model.network.config.pooled_width if model.fused else 0
    with initial_weights(seed, "adversary"):
        # An image of another row's mask cannot be judged together with a mask of its own.
        images = _discriminator(spec, options, spec.channels, 0 if options.unpaired else masks, pooled)
        judge = Adversary(images, _discriminator(spec, options, masks, 0, 0) if options.unpaired else None)
    if min(spec.size) < images.smallest():
        raise UserError(
            f"images of {' x '.join(map(str, spec.size))} pixels: gan.scales {options.scales} with gan.layers"
            f" {options.layers} needs {images.smallest()} or more on each axis; lower one of them."
        )
    return judge.to(device)


def _discriminator(
    spec: ImageSpec, options: GANOptions, channels: int, spatial: int, pooled: int
) -> ConditionalDiscriminator:
    return ConditionalDiscriminator(
        spec.spatial_dims, channels, spatial, pooled, options.width, options.layers, options.scales, options.norm
    )
