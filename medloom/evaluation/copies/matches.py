"""Pairs of a query and the reference that it agrees with best, laid on each other to parts of a pixel."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.progress import Advance
from medloom.evaluation.copies.alignments import moved, turned, varied
from medloom.evaluation.copies.search import Apart, Images, References, laid_spectra, maps_of, search
from medloom.evaluation.copies.spectra import (
    FINE,
    correlations,
    half_weights,
    local_contrast,
    without_detail,
)

# Candidates that are aligned, and of these the ones that are aligned to parts of a pixel.
CANDIDATES, FINALISTS = 12, 4
# Queries that are searched and aligned together.
AT_ONCE = 32
# Degrees and scales about a known map, and what they are multiplied by in each round of the finalists.
AROUND = ((0.0, 1.0), (-3.0, 1.0), (3.0, 1.0), (0.0, 0.93), (0.0, 1.075))
ROUNDS = (0.5, 0.25)
# Pixels of FINE by which a query is moved beyond its way: a sixth of the width.
REACH = 5
# Cosines nearer to 1 are rounding.
HIGHEST = 0.9999


@dataclass(frozen=True, eq=False)
class Matches:
    """Of each query the reference that it agrees with best.

    Attributes:
        rows: of the references, `(n,)`.
        cosines: of the two after alignment, 0 to 1, `(n,)`.
        usual: the median cosine of the query with other candidates, which show the same organ, `(n,)`.
        maps: how the query is laid on the reference, `(n, 2, 3)`.
        inverted: whether dark and bright are exchanged, `(n,)`.
    """

    rows: NDArray[np.intp]
    cosines: NDArray[np.float64]
    usual: NDArray[np.float64]
    maps: NDArray[np.float64]
    inverted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def joined(cls, parts: Sequence["Matches"]) -> "Matches":
        """The matches of several parts of the queries, in their order."""
        return cls(*(np.concatenate([getattr(own, field.name) for own in parts]) for field in fields(cls)))

    def at(self, rows: Sequence[int] | NDArray[np.integer]) -> "Matches":
        """Those of some queries."""
        return Matches(*(getattr(self, field.name)[rows] for field in fields(Matches)))


def match(
    queries: Images, references: References, apart: Apart | None = None, advance: Advance | None = None
) -> Matches:
    """The best match of each query.

    Args:
        queries: grey values from 0 to 1, `(m, SIZE, SIZE)`; one or more.
        references: where originals are looked for; more than one.
        apart: pairs that are not compared.
        advance: is called with the number of queries that were matched.
    """
    references.prepare()

    def one(start: int) -> Matches:
        part = slice(start, start + AT_ONCE)
        contrast = local_contrast(torch.from_numpy(queries[part]))
        candidates = search(contrast, references, CANDIDATES, apart.of(part) if apart else None)
        return _best(without_detail(contrast), references, candidates.rows, candidates.ways)

    parts: list[Matches] = []
    with _single_threads() as threads, ThreadPoolExecutor(threads, "copies") as pool:
        for found in pool.map(one, range(0, len(queries), AT_ONCE)):
            parts.append(found)
            if advance is not None:
                advance(len(found))
    return Matches.joined(parts)


@contextmanager
def _single_threads() -> Iterator[int]:
    """Products are computed by one thread each within the block, and so many blocks of queries at a time.

    They are small. Threads that share one wait for each other, which takes most of the time where other programs run.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _best(smooth: Tensor, references: References, rows: Tensor, ways: Tensor) -> Matches:
    """The best match of some queries among their candidates."""
    cosines, maps = _aligned_better(smooth, references.spectra[rows], maps_of(ways), 1.0)
    order = cosines.argsort(dim=1, descending=True)
    finalists, others = order[:, :FINALISTS], order[:, FINALISTS:]
    usual = cosines.gather(1, others if others.shape[1] else order).median(dim=1).values
    queries = torch.arange(len(rows))
    maps, rows = maps[queries[:, None], finalists], rows.gather(1, finalists)
    spectra = references.spectra[rows]
    for step in ROUNDS:
        _, maps = _aligned_better(smooth, spectra, maps, step)
    products = (laid_spectra(smooth, maps) * spectra.conj()).real * half_weights()
    signed = products.sum((-1, -2))
    place = signed.abs().argmax(dim=1)
    cosine = signed[queries, place].numpy().astype(np.float64)
    return Matches(
        rows[queries, place].numpy(),
        np.minimum(np.abs(cosine), HIGHEST),
        usual.numpy().astype(np.float64),
        maps[queries, place].numpy().astype(np.float64),
        cosine < 0,
    )


def _aligned_better(smooth: Tensor, spectra: Tensor, maps: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """The highest cosine `(n, k)` of each query with each of its candidates among maps about a known one, and the map.

    Args:
        smooth: the queries, `(n, SIZE, SIZE)`.
        spectra: of the candidates, `(n, k, ...)`.
        maps: of each query on each of its candidates, `(n, k, 2, 3)`.
        step: of angles and scales.
    """
    tried = varied(maps[:, :, None], _around(step))
    laid = laid_spectra(smooth, tried.flatten(1, 2)).view(*tried.shape[:3], *spectra.shape[2:])
    # One shift more than is allowed, so that each allowed one has neighbours.
    surfaces = correlations(laid, spectra[:, :, None], REACH + 1).abs()
    allowed = surfaces[..., 1:-1, 1:-1]
    side = allowed.shape[-1]
    cosines, place = allowed.flatten(2).max(dim=2)
    which, y, x = place // side**2, place // side % side + 1, place % side + 1
    n, k = (torch.arange(length) for length in place.shape)
    best = surfaces[n[:, None], k[None], which]
    column, row = best[n[:, None], k[None], y], best[n[:, None], k[None], :, x]
    shifts = torch.stack([_peak(column, x), _peak(row, y)], -1)
    return cosines, moved(tried[n[:, None], k[None], which], shifts)


@cache
def _around(step: float) -> Tensor:
    """The linear changes of AROUND, its angles and scales multiplied by `step`: `(changes, 2, 2)`."""
    return torch.tensor(np.stack([turned(degrees * step, scale**step) for degrees, scale in AROUND])).float()


def _peak(lines: Tensor, place: Tensor) -> Tensor:
    """The shifts, -1 to 1, of the vertices of parabolas through the highest values of lines and their neighbours.

    Args:
        lines: correlations at shifts of -REACH - 1 to REACH + 1, `(n, k, shifts)`.
        place: of the highest value of each, `(n, k)`.
    """
    before, here, after = (lines.gather(-1, (place + by)[..., None])[..., 0] for by in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = torch.where(bend < 0, 0.5 * (before - after) / bend.clamp(max=-1e-12), torch.zeros_like(bend))
    return (place - (REACH + 1) + offset) * 2 / FINE
