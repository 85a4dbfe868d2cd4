"""What frozen encoders give, computed once: latents of the autoencoder and embeddings of the text encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medloom.core.files import hash_json
from medloom.core.progress import say
from medloom.data.cache import Arrays, Column, RaggedTexts, cached_rows, cached_texts, ragged_ids
from medloom.data.dataset import ImageSource, usable_rows
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.text import TextEncoder, embed_texts


def weights_hash(module: nn.Module) -> str:
    """A hash of a module's weights and buffers."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def cached_moments(
    source: ImageSource, autoencoder: KLAutoencoder, folder: Path, device: torch.device, skip_bad: bool, shown: bool
) -> tuple[NDArray[np.float16], list[int]]:
    """Posterior moments of all images, float16 `(N, 2 C, *latent)`, memory-mapped, and the rows that can be used.

    Both moments are kept, so that training draws another latent each time, as with an encoder in the loop.
    """
    channels, *size = autoencoder.latent_shape(source.spec.size)
    columns = {"moments": Column((2 * channels, *size), "float16"), "bad": Column((), "uint8")}
    autoencoder.eval()

    @torch.no_grad()
    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        moments = autoencoder.moments(torch.from_numpy(images).to(device)).float().cpu().numpy()
        return {"moments": np.clip(moments, -6e4, 6e4).astype(np.float16), "bad": bad}

    key = {**source.key, "autoencoder": weights_hash(autoencoder)}
    arrays = cached_rows(folder, "latents", key, len(source.samples), columns, compute, shown)
    return arrays["moments"], usable_rows(source, arrays["bad"], skip_bad, shown)


def cached_embeddings(
    encoder: TextEncoder, texts: Sequence[str], folder: Path, device: torch.device, shown: bool
) -> RaggedTexts:
    """Embeddings of a frozen text encoder, float16, equal texts once, padding trimmed."""
    _report_cut(encoder, texts, shown)
    encoder.eval()

    def embed(batch: Sequence[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        return [(tokens.numpy(), pooled.numpy()) for tokens, pooled in embed_texts(encoder, batch, device)]

    key = {
        "encoder": weights_hash(encoder),
        "vocabulary": hash_json(encoder.tokenizer.get_vocab()),
        "max_tokens": encoder.max_tokens,
        "pad": encoder.pad,
    }
    return cached_texts(folder, key, texts, embed, shown)


def token_ids(encoder: TextEncoder, texts: Sequence[str], shown: bool) -> RaggedTexts:
    """Token ids for an encoder that is trained with the generator."""
    _report_cut(encoder, texts, shown)

    def ids(text: str) -> Sequence[int]:
        numbers, mask = encoder.tokenize([text])
        return numbers[0].tolist() if encoder.pad == "max" else numbers[0][mask[0]].tolist()

    return ragged_ids(texts, ids)


def _report_cut(encoder: TextEncoder, texts: Sequence[str], shown: bool) -> None:
    counts = encoder.count_tokens(texts) if texts else []
    cut = [count for count in counts if count > encoder.max_tokens]
    if cut and shown:
        say(
            f"{len(cut)} of {len(texts)} texts are longer than {encoder.max_tokens} tokens and are cut"
            f" (the longest has {max(cut)}); --text.max-tokens allows more where the encoder does."
        )
