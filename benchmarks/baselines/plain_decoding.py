"""The plain loop that decoding of masked tokens is measured against, pinned: do not make it faster.

As research code decodes (Chang et al. 2022, with guidance): the text is encoded again in each step, all of it
in single precision, and which tokens are masked again is decided row by row in Python.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def plain_decode(
    encode: Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]],
    network: Callable[..., Tensor],
    rows: int,
    length: int,
    codes: int,
    steps: int,
    guidance: float,
) -> Tensor:
    """Decode `rows` grids of `length` tokens.

    Args:
        encode: encodes the conditions, and empty ones in their place.
        network: tokens and an encoded condition to logits.
        rows: how many grids.
        length: tokens of each.
        codes: size of the codebook; masked tokens have this value.
        steps: parallel steps.
        guidance: scale.

    Returns:
        int64 `(rows, length)`.
    """
    tokens = torch.full((rows, length), codes)
    for step in range(steps):
        given, empty = encode()
        with_text, without = network(tokens, **given), network(tokens, **empty)
        logits = without + guidance * (with_text - without)
        probabilities = logits.float().softmax(dim=-1)
        drawn = torch.multinomial(probabilities.flatten(0, 1), 1).view(rows, length)
        scores = probabilities.gather(2, drawn[..., None])[..., 0]
        left = math.floor(length * math.cos(math.pi / 2 * (step + 1) / steps))
        for row in range(rows):
            confidence = []
            for place in range(length):
                if tokens[row, place] != codes:
                    drawn[row, place] = tokens[row, place]
                    confidence.append((math.inf, place))
                else:
                    confidence.append((float(scores[row, place]), place))
            for _, place in sorted(confidence)[:left]:
                drawn[row, place] = codes
        tokens = drawn
    return tokens
