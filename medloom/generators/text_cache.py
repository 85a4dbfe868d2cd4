"""What a text encoder gives, computed once: embeddings of a frozen one, token ids of one that is trained."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from medloom.core.files import hash_json
from medloom.core.progress import say
from medloom.data.cache import RaggedTexts, cached_texts, ragged_ids
from medloom.networks.text import TextEncoder, embed_texts


def weights_hash(module: nn.Module) -> str:
    """A hash of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def cached_embeddings(
    encoder: TextEncoder, texts: Sequence[str], folder: Path, device: torch.device, verbose: bool
) -> RaggedTexts:
    """Embeddings of a frozen text encoder, float16, equal texts once, padding trimmed."""
    _report_cut(encoder, texts, verbose)
    encoder.eval()

    def embed(batch: Sequence[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        return [(tokens.numpy(), pooled.numpy()) for tokens, pooled in embed_texts(encoder, batch, device)]

    key = {
        "encoder": weights_hash(encoder),
        "vocabulary": hash_json(encoder.tokenizer.get_vocab()),
        "max_tokens": encoder.max_tokens,
        "pad": encoder.pad,
    }
    return cached_texts(folder, key, texts, embed, verbose)


def token_ids(encoder: TextEncoder, texts: Sequence[str], verbose: bool) -> RaggedTexts:
    """Token ids for an encoder that is trained with the generator."""
    _report_cut(encoder, texts, verbose)

    def ids(text: str) -> Sequence[int]:
        numbers, mask = encoder.tokenize([text])
        return numbers[0].tolist() if encoder.pad == "max" else numbers[0][mask[0]].tolist()

    return ragged_ids(texts, ids)


def _report_cut(encoder: TextEncoder, texts: Sequence[str], verbose: bool) -> None:
    counts = encoder.count_tokens(texts) if texts else []
    cut = [count for count in counts if count > encoder.max_tokens]
    if cut and verbose:
        say(
            f"{len(cut)} of {len(texts)} texts are longer than {encoder.max_tokens} tokens and are cut"
            f" (the longest has {max(cut)}); --text.max-tokens allows more where the encoder does."
        )
