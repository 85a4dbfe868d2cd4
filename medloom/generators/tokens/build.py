"""Making a token generator with fresh weights."""

from collections.abc import Sequence

from medloom.core.initialize import initial_weights
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.generators.diffusion.options import TextOptions
from medloom.generators.support import require_support
from medloom.generators.text_encoder import build_text_encoder
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.model import TokenModel
from medloom.generators.tokens.options import NetworkOptions
from medloom.networks.conditioning import ConditionConfig, ConditionEncoder
from medloom.networks.text import LOCAL
from medloom.networks.token_transformer import TokenTransformer, TokenTransformerConfig
from medloom.networks.tokenizer import Tokeniser

NETWORK = "transformer"


def build_generator(
    spec: ImageSpec,
    corpus: Sequence[str],
    modalities: Sequence[str],
    views: Sequence[str],
    columns: Sequence[TableColumn],
    tokeniser: Tokeniser,
    network: NetworkOptions,
    text: TextOptions,
    seed: int,
    reads_text: bool = True,
    first: TokenGenerator | None = None,
) -> TokenGenerator:
    """A generator with fresh weights.

    Args:
        spec: the model's image space.
        corpus: texts that a local tokenizer is trained on.
        modalities: names that can condition the model.
        views: the same for views.
        columns: of a clinical table that condition the model.
        tokeniser: between pixels and tokens.
        network: its shape.
        text: the text encoder.
        seed: of the initial weights.
        reads_text: whether training has texts.
        first: the generator of the coarser tokens of a second stage.

    Raises:
        UserError: options that exclude each other, or an image size that the tokeniser cannot take.
    """
    grid = tokeniser.grid(spec.size)
    _require_support(network, text, spec.spatial_dims, reads_text, bool(columns))
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
    config = transformer_config(network, grid, tokeniser.codes, first)
    with initial_weights(seed, "transformer"):
        classes = network.mask_classes if config.mask_channels else ()
        transformer = TokenTransformer(config)
        transformer.start_from_codes(tokeniser.code_vectors(), first.tokeniser.code_vectors() if first else None)
        model = TokenModel(encoder, ConditionEncoder(told), transformer, classes)
    return TokenGenerator(spec, model, tokeniser, text.modality_as, text.train or local, reads_text, first)


def transformer_config(
    network: NetworkOptions, grid: tuple[int, ...], codes: int, first: TokenGenerator | None = None
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
        positions=network.positions,
        fusion=network.fusion,
        context_width=network.condition_width,
        pooled_width=network.condition_width,
        mask_channels=len(network.mask_classes) + 1 if masked else 0,
        prior=network.prior != "none",
        coarse_codes=first.tokeniser.codes if first is not None else 0,
        region_styles=network.region_styles and network.fusion != "none",
        local_kernel=network.local_kernel,
        gradient_checkpointing=network.gradient_checkpointing,
    )


def _require_support(network: NetworkOptions, text: TextOptions, dims: int, reads_text: bool, table: bool) -> None:
    """Refuse, by the support table, a part of the condition that the network cannot take."""
    parts: dict[str, str] = {}
    if network.fusion != "none":
        parts |= {"text": network.fusion} if reads_text else {}
        parts["modality"] = "text" if text.modality_as == "text" else network.fusion
    if table:
        parts["table"] = network.fusion
    for part, way in (("mask", network.mask), ("prior", network.prior)):
        if way != "none":
            parts[part] = way
    for part, way in parts.items():
        require_support("tokens", NETWORK, part, way, dims)
