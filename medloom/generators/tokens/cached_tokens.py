"""Tokens of all images, computed once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.data.cache import Arrays, Column, cached_rows
from medloom.data.dataset import ImageSource, usable_rows
from medloom.generators.diffusion.latents import weights_hash
from medloom.networks.tokenizer import Tokeniser
from medloom.processes.token_masking import require_tokens


def cached_tokens(
    source: ImageSource, tokeniser: Tokeniser, folder: Path, device: torch.device, skip_bad: bool, shown: bool
) -> tuple[NDArray[np.int32], list[int]]:
    """Tokens of all images, int32 `(N, 1, *grid)`, memory-mapped, and the rows that can be used.

    Raises:
        UserError: images that cannot be used, or tokens that are no codes of the codebook.
    """
    grid = tokeniser.grid(source.spec.size)
    columns = {"tokens": Column((1, *grid), "int32"), "bad": Column((), "uint8")}
    tokeniser.eval()

    @torch.no_grad()
    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        tokens = tokeniser.tokens(torch.from_numpy(images).to(device)).cpu().numpy()
        return {"tokens": tokens[:, None].astype(np.int32), "bad": bad}

    key = {**source.key, "tokeniser": weights_hash(tokeniser), "codes": tokeniser.codes}
    arrays = cached_rows(folder, "tokens", key, len(source.samples), columns, compute, shown)
    tokens = arrays["tokens"]
    reach = torch.tensor([int(tokens.min()), int(tokens.max())] if len(tokens) else [], dtype=torch.long)
    require_tokens(reach, tokeniser.codes, f"the cache in {folder}")
    return tokens, usable_rows(source, arrays["bad"], skip_bad, shown)
