"""Parts of an image that are copied: its halves and quarters, each compared with the same place of the references.

A collage of several originals agrees with none of them as a whole. Parts are compared where they are, up to small
shifts, and not mirrored or turned.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor

from medloom.core.progress import Advance
from medloom.evaluation.copies.matches import HIGHEST, Matches
from medloom.evaluation.copies.search import Apart, Images, References
from medloom.evaluation.copies.spectra import FINE, SMALLEST, fine_structure

# Pixels of FINE at the border, which a shifted part does not have, and by which parts are moved.
MARGIN, REACH = 3, 1
# First and last row and column of each part, as fractions.
PARTS: Mapping[str, tuple[float, float, float, float]] = {
    "left half": (0, 1, 0, 0.5),
    "right half": (0, 1, 0.5, 1),
    "upper half": (0, 0.5, 0, 1),
    "lower half": (0.5, 1, 0, 1),
    "upper left quarter": (0, 0.5, 0, 0.5),
    "upper right quarter": (0, 0.5, 0.5, 1),
    "lower left quarter": (0.5, 1, 0, 0.5),
    "lower right quarter": (0.5, 1, 0.5, 1),
}
# The best reference of a query is compared with the usual one: the median of the next ones.
BEST, USUAL = 8, 3
AT_ONCE = 256


def area(part: str) -> float:
    """The fraction of the image that a part is."""
    top, bottom, left, right = PARTS[part]
    return (bottom - top) * (right - left)


def match_parts(
    queries: Images, references: References, apart: Apart | None = None, advance: Advance | None = None
) -> list[Matches]:
    """The reference that each part of each query agrees with best; one entry for each of PARTS.

    Args:
        queries: grey values from 0 to 1, `(m, SIZE, SIZE)`.
        references: where originals are looked for; more than one.
        apart: pairs that are not compared.
        advance: is called with the number of queries when all are matched.
    """
    structure = fine_structure(queries)
    found = []
    for part in PARTS:
        # Of one part at a time: moved references take nine times their memory.
        (ours,), known = _moved(structure, part, reach=0), _moved(references.structure, part)
        matches = []
        for start in range(0, len(queries), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            cosines = torch.zeros(len(ours[rows]), len(references))
            for others in known:
                torch.maximum(cosines, (ours[rows] @ others.T).abs_(), out=cosines)
            if apart is not None:
                cosines[torch.from_numpy(apart.queries[rows][:, None] == apart.references[None])] = 0
            matches.append(_best(cosines))
        found.append(Matches.joined(matches))
    if advance is not None:
        advance(len(queries))
    return found


def _moved(structure: Tensor, part: str, reach: int = REACH) -> list[Tensor]:
    """A part of images at each shift, as rows of unit length: `(n, pixels)` each."""
    edges = [round(FINE * fraction) for fraction in PARTS[part]]
    top, left = (max(edge, MARGIN) for edge in edges[::2])
    bottom, right = (min(edge, FINE - MARGIN) for edge in edges[1::2])
    moved = []
    for down, across in product(range(-reach, reach + 1), repeat=2):
        rows = structure[:, top + down : bottom + down, left + across : right + across].flatten(1)
        moved.append(rows / (rows.norm(dim=1, keepdim=True) + SMALLEST))
    return moved


def _best(cosines: Tensor) -> Matches:
    """The best reference of each query by cosines `(m, n)`, and the usual cosine."""
    best = cosines.topk(min(BEST, cosines.shape[1]), dim=1)
    others = best.values[:, USUAL:] if best.values.shape[1] > USUAL else best.values
    return Matches(
        best.indices[:, 0].numpy(),
        best.values[:, 0].clamp(max=HIGHEST).numpy().astype(np.float64),
        others.median(dim=1).values.numpy().astype(np.float64),
        np.tile(np.eye(2, 3), (len(cosines), 1, 1)),
        np.zeros(len(cosines), bool),
    )
