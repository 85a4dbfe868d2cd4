"""Making a GAN's networks with fresh weights."""

from collections.abc import Sequence

import torch

from medloom.core.errors import UserError
from medloom.core.initialize import initial_weights
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.generators.diffusion.options import TextOptions
from medloom.generators.gan.adversary import Adversary
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.model import GANModel
from medloom.generators.gan.options import GANOptions, NetworkOptions, check_fusion
from medloom.generators.support import require_support
from medloom.generators.text_encoder import build_text_encoder
from medloom.networks.conditioning import ConditionConfig, ConditionEncoder
from medloom.networks.gan_discriminators import ConditionalDiscriminator
from medloom.networks.gan_generators import ImageNetwork, ImageNetworkConfig, make_network
from medloom.networks.text import LOCAL


def build_generator(
    spec: ImageSpec,
    corpus: Sequence[str],
    modalities: Sequence[str],
    views: Sequence[str],
    columns: Sequence[TableColumn],
    mask_classes: Sequence[int],
    fusion: str,
    network: NetworkOptions,
    text: TextOptions,
    seed: int,
    reads_text: bool = True,
    needs_mask: bool = True,
) -> GANGenerator:
    """A generator with fresh weights.

    Args:
        spec: the model's image space.
        corpus: texts that a local tokenizer is trained on.
        modalities: names that can condition the model.
        views: the same for views.
        columns: of a clinical table that condition the model.
        mask_classes: labels that it is told.
        fusion: how text, modality and table reach the network: cross-attention, affine or none.
        network: its shape.
        text: the text encoder.
        seed: of the initial weights.
        reads_text: whether training has texts.
        needs_mask: whether every image has a mask.

    Raises:
        UserError: options that exclude each other, or an image size that the network cannot take.
    """
    check_fusion(fusion, network)
    _require_support(fusion, network, text, spec.spatial_dims, reads_text, bool(columns))
    with initial_weights(seed, "text"):
        encoder = build_text_encoder(corpus, text)
    local = text.encoder == LOCAL
    told = ConditionConfig(
        encoder.width,
        network.condition_width,
        tuple(modalities),
        tuple(views),
        sum_tokens=local,
        columns=tuple(columns),
    )
    config = _config(spec, fusion, network, len(mask_classes))
    with initial_weights(seed, "generator"):
        model = GANModel(encoder, ConditionEncoder(told), make_network(config), mask_classes)
    return GANGenerator(spec, model, text.modality_as, text.train or local, reads_text, needs_mask)


def _require_support(
    fusion: str, network: NetworkOptions, text: TextOptions, dims: int, reads_text: bool, table: bool
) -> None:
    """Refuse, by the support table, a part of the condition that the network cannot take."""
    parts = {"mask": network.mask}
    if fusion != "none":
        parts |= {"text": fusion} if reads_text else {}
        parts["modality"] = "text" if text.modality_as == "text" else fusion
    if table:
        parts["table"] = fusion
    for part, way in parts.items():
        require_support("gan", network.kind, part, way, dims)


def _config(spec: ImageSpec, fusion: str, network: NetworkOptions, classes: int) -> ImageNetworkConfig:
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
        fusion=fusion,
        context_width=network.condition_width,
        pooled_width=network.condition_width,
        style_width=network.style,
        spatial_channels=classes + 1,
        spatial_fusion=network.mask,
        region_styles=network.region_styles,
        coordinates=network.coordinates,
        gradient_checkpointing=network.gradient_checkpointing,
    )
    if any(axis % config.divisor for axis in spec.size):
        size = " x ".join(map(str, spec.size))
        raise UserError(f"images of {size} pixels: this network needs multiples of {config.divisor} on each axis.")
    return config


def build_inverse(generator: GANGenerator, network: NetworkOptions, seed: int) -> ImageNetwork:
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
            f"images of {' x '.join(map(str, spec.size))} pixels: --gan.scales {options.scales} with --gan.layers"
            f" {options.layers} needs {images.smallest()} or more on each axis; lower one of them."
        )
    return judge.to(device)


def _discriminator(
    spec: ImageSpec, options: GANOptions, channels: int, spatial: int, pooled: int
) -> ConditionalDiscriminator:
    return ConditionalDiscriminator(
        spec.spatial_dims, channels, spatial, pooled, options.width, options.layers, options.scales, options.norm
    )
