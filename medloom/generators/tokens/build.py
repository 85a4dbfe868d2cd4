"""A token generator with fresh weights."""

from medloom.core.seeds import initial_weights
from medloom.core.spec import ImageSpec
from medloom.generators.options import TextOptions
from medloom.generators.support import require_support
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.model import TokenModel
from medloom.generators.tokens.options import TransformerOptions
from medloom.generators.training_facts import TrainingFacts, build_text_encoder, condition_config, fused_parts
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import LOCAL
from medloom.networks.token_transformer import TokenTransformer, TokenTransformerConfig
from medloom.networks.tokenizer import Tokenizer

NETWORK = "transformer"


def build_generator(
    spec: ImageSpec,
    facts: TrainingFacts,
    tokenizer: Tokenizer,
    network: TransformerOptions,
    text: TextOptions,
    seed: int,
    first: TokenGenerator | None = None,
) -> TokenGenerator:
    """A generator with fresh weights.

    Args:
        spec: the model's image space.
        facts: what conditions the training images.
        tokenizer: between pixels and tokens.
        network: its shape.
        text: the text encoder.
        seed: of the initial weights.
        first: the generator of the coarser tokens of a second stage.

    Raises:
        UserError: options that exclude each other, or an image size that the tokenizer cannot take.
    """
    grid = tokenizer.grid(spec.size)
    parts = dict(fused_parts(facts, text, network.fusion))
    parts |= {part: way for part, way in (("mask", network.mask), ("prior", network.prior)) if way != "none"}
    for part, way in parts.items():
        require_support("tokens", NETWORK, part, way, spec.spatial_dims)
    encoder = build_text_encoder(facts.corpus, text, seed)
    condition = condition_config(facts, text, encoder.width, network.condition_width)
    config = transformer_config(network, grid, tokenizer.codes, first)
    with initial_weights(seed, "transformer"):
        classes = network.mask_classes if config.mask_channels else ()
        transformer = TokenTransformer(config)
        transformer.start_from_codes(tokenizer.code_vectors(), first.tokenizer.code_vectors() if first else None)
        model = TokenModel(encoder, ConditionEncoder(condition), transformer, classes)
    read_as = text.modality_as, text.train or text.encoder == LOCAL
    return TokenGenerator(spec, model, tokenizer, *read_as, facts.has_text, first)


def transformer_config(
    network: TransformerOptions, grid: tuple[int, ...], codes: int, first: TokenGenerator | None = None
) -> TokenTransformerConfig:
    """The shape of the transformer that the options ask for."""
    masked = network.mask != "none"
    return TokenTransformerConfig(
        codes=codes,
        grid=grid,
        width=network.width,
        layers=network.layers,
        heads=network.heads,
        expansion=network.expansion,
        dropout=network.dropout,
        fusion=network.fusion,
        context_width=network.condition_width,
        pooled_width=network.condition_width,
        mask_channels=len(network.mask_classes) + 1 if masked else 0,
        prior=network.prior != "none",
        coarse_codes=first.tokenizer.codes if first is not None else 0,
        region_styles=network.region_styles and network.fusion != "none",
        gradient_checkpointing=network.gradient_checkpointing,
    )
