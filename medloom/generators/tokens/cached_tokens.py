"""Tokens of all images, computed once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.data.cache import Arrays, CacheColumn, cached_rows
from medloom.data.dataset import ImageSource, usable_rows
from medloom.generators.row_caches import weights_hash
from medloom.networks.tokenizer import Tokenizer
from medloom.processes.token_decoding import require_tokens


def cached_tokens(
    source: ImageSource, tokenizer: Tokenizer, folder: Path, device: torch.device, skip_bad: bool, verbose: bool
) -> tuple[NDArray[np.int32], list[int]]:
    """Tokens of all images, int32 `(N, 1, *grid)`, memory-mapped, and the rows that can be used.

    Raises:
        UserError: images that cannot be used, or tokens that are no codes of the codebook.
    """
    grid = tokenizer.grid(source.spec.size)
    columns = {"tokens": CacheColumn((1, *grid), "int32"), "bad": CacheColumn((), "uint8")}
    tokenizer.eval()

    @torch.no_grad()
    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        tokens = tokenizer.tokens(torch.from_numpy(images).to(device)).cpu().numpy()
        return {"tokens": tokens[:, None].astype(np.int32), "bad": bad}

    key = {**source.key, "tokeniser": weights_hash(tokenizer), "codes": tokenizer.codes}
    arrays = cached_rows(folder, "tokens", key, len(source.samples), columns, compute, verbose)
    tokens = arrays["tokens"]
    reach = torch.tensor([int(tokens.min()), int(tokens.max())] if len(tokens) else [], dtype=torch.long)
    require_tokens(reach, tokenizer.codes, f"the cache in {folder}")
    return tokens, usable_rows(source, arrays["bad"], skip_bad, verbose)
