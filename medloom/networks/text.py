"""Text encoders by name: any transformers text encoder (CLIP, BERT or T5 type) from a folder or the hub, or `local`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError

LOCAL = "local"
CLIP_TYPES = ("clip", "clip_text_model")


class TextEncoder(nn.Module):
    """A tokenizer and a transformers text model with one interface.

    Attributes:
        tokenizer: the transformers tokenizer.
        model: the transformers text model.
        max_tokens: longest sequence; what is longer is cut.
        pad: `trim` pads to the longest text of a batch (networks that mask padding); `max` always pads to
            `max_tokens`, as Stable Diffusion's pipeline does.
    """

    model: Any

    def __init__(self, tokenizer: Any, model: nn.Module, max_tokens: int, pad: str = "trim") -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = model
        self.max_tokens = max_tokens
        self.pad = pad

    @property
    def width(self) -> int:
        """Width of token embeddings and of the pooled vector."""
        return int(self.model.config.hidden_size)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids int64 `(N, L)` and mask bool `(N, L)`."""
        encoded = self.tokenizer(
            list(texts),
            padding="longest" if self.pad == "trim" else "max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut, start and end included."""
        return [len(ids) for ids in self.tokenizer(list(texts))["input_ids"]]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed tokens.

        Args:
            ids: int64 `(N, L)`.
            mask: bool `(N, L)`; with `pad="max"` the model sees no mask, as in Stable Diffusion's pipeline.

        Returns:
            Token embeddings `(N, L, D)` and a pooled vector `(N, D)`: the end token of a CLIP model, the mean over
            tokens of others (whose pooler is often untrained).
        """
        attention = None if self.pad == "max" else mask.long()
        output = self.model(input_ids=ids, attention_mask=attention)
        tokens = output.last_hidden_state
        if self.model.config.model_type in CLIP_TYPES:
            return tokens, output.pooler_output
        weight = mask.to(tokens.dtype)[..., None]
        return tokens, (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)

    def save(self, tokenizer: Path, model: Path) -> None:
        """Write the tokenizer and the weights (safetensors) to two folders."""
        from transformers.utils import logging

        # A bar of the library for each checkpoint would break up our own.
        logging.disable_progress_bar()
        self.tokenizer.save_pretrained(tokenizer)
        self.model.save_pretrained(model, safe_serialization=True)


def load_text_encoder(name: str, max_tokens: int, pad: str = "trim") -> TextEncoder:
    """Load a text encoder from a folder or by hub id.

    Args:
        name: a folder with model and tokenizer, or a hub id.
        max_tokens: longest sequence; at most the model's own.
        pad: see TextEncoder.

    Raises:
        UserError: it cannot be found, has no safetensors, or is shorter than `max_tokens`.
    """
    folder = Path(name)
    return load_text_parts(str(folder) if folder.is_dir() else name, None, max_tokens, pad)


def load_text_parts(model_name: str, tokenizer_name: str | None, max_tokens: int, pad: str) -> TextEncoder:
    """Load model and tokenizer from two places (Stable Diffusion's `text_encoder/` and `tokenizer/`)."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(model_name)
        # Only safetensors are opened: other weight files can run code.
        model = _model_class(config.model_type).from_pretrained(model_name, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name or model_name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"text encoder {model_name!r} cannot be loaded ({reason}); give a folder or hub id of a transformers text"
            f" encoder with safetensors weights, or {LOCAL!r}."
        ) from error
    longest = getattr(model.config, "max_position_embeddings", max_tokens)
    if max_tokens > longest:
        raise UserError(f"text encoder {model_name!r} takes at most {longest} tokens; {max_tokens} were asked for.")
    return TextEncoder(tokenizer, model, max_tokens, pad)


def _model_class(model_type: str) -> Any:
    from transformers import AutoModel, CLIPTextModel, T5EncoderModel

    if model_type in CLIP_TYPES:
        return CLIPTextModel
    return T5EncoderModel if model_type in ("t5", "mt5") else AutoModel


def embed_texts(encoder: TextEncoder, texts: Sequence[str], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Embed texts one by one with a frozen encoder, so that an embedding does not depend on what stood beside it.

    Returns:
        For each text, float32 tokens `(L, D)` with padding trimmed (unless `pad="max"`) and pooled `(D,)`, on the CPU.
    """
    results = []
    with torch.no_grad():
        for text in texts:
            ids, mask = encoder.tokenize([text])
            tokens, pooled = encoder(ids.to(device), mask.to(device))
            results.append((tokens[0].float().cpu(), pooled[0].float().cpu()))
    return results
