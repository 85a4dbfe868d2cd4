"""The text encoder that a generator starts with: loaded by name, or a local one for its own texts."""

from collections.abc import Sequence

from medloom.generators.diffusion.options import TextOptions
from medloom.networks.local_text import make_text_model, train_tokenizer
from medloom.networks.text import LOCAL, TextEncoder, load_text_encoder


def build_text_encoder(corpus: Sequence[str], text: TextOptions, pad: str = "trim") -> TextEncoder:
    """A text encoder as the options say; a local one has fresh weights.

    Args:
        corpus: texts that a local tokenizer is trained on.
        text: which encoder.
        pad: see TextEncoder.

    Raises:
        UserError: an encoder that cannot be loaded.
    """
    if text.encoder != LOCAL:
        return load_text_encoder(text.encoder, text.max_tokens, pad)
    tokenizer = train_tokenizer(corpus, text.vocabulary, text.max_tokens)
    model = make_text_model(tokenizer, text.width, text.layers, text.max_tokens)
    return TextEncoder(tokenizer, model, text.max_tokens, pad)
