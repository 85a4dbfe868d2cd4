"""Pairs of a query and the reference that it agrees with best, laid on each other to parts of a pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.progress import progress
from medloom.evaluation.copies.alignments import Map, aligned, moved, turned, varied
from medloom.evaluation.copies.search import Images, References, map_of, search
from medloom.evaluation.copies.spectra import FINE, correlations, fine_spectra, half_weights, local_contrast

# Candidates that are aligned, and of these the ones that are aligned to parts of a pixel.
CANDIDATES, FINALISTS = 12, 4
AT_ONCE = 8
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


def match(
    queries: Images, references: References, apart: NDArray[np.bool_] | None = None, what: str = "images"
) -> Matches:
    """The best match of each query.

    Args:
        queries: grey values from 0 to 1, `(m, SIZE, SIZE)`.
        references: where originals are looked for; more than one.
        apart: see `search`.
        what: is searched, for the progress.
    """
    candidates = search(queries, references, CANDIDATES, apart, what)
    contrast = local_contrast(torch.from_numpy(queries))
    parts: list[Matches] = []
    with progress(f"comparing pairs of {what}", len(queries), "images", 0) as advance:
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            parts.append(_best(contrast[part], references, candidates.rows[part], candidates.ways[part]))
            advance(len(parts[-1]))
    return Matches(*(np.concatenate([getattr(own, field.name) for own in parts]) for field in fields(Matches)))


def _best(contrast: Tensor, references: References, rows: Tensor, ways: Tensor) -> Matches:
    """The best match of some queries among their candidates."""
    maps = [[map_of(way) for way in own] for own in ways.tolist()]
    cosines, maps = _aligned_better(contrast, references.spectra[rows], maps, 1.0)
    order = cosines.argsort(dim=1, descending=True)
    finalists, others = order[:, :FINALISTS], order[:, FINALISTS:]
    usual = cosines.gather(1, others if others.shape[1] else order).median(dim=1).values
    spectra = references.spectra[rows.gather(1, finalists)]
    best = [[own[place] for place in places] for own, places in zip(maps, finalists.tolist(), strict=True)]
    for step in ROUNDS:
        _, best = _aligned_better(contrast, spectra, best, step)
    laid = aligned(contrast.repeat_interleave(finalists.shape[1], 0), [known for own in best for known in own])
    products = (fine_spectra(laid).view(spectra.shape) * spectra.conj()).real * half_weights()
    signed = products.sum((-1, -2))
    place = signed.abs().argmax(dim=1, keepdim=True)
    cosine = signed.gather(1, place)[:, 0].numpy().astype(np.float64)
    return Matches(
        rows.gather(1, finalists.gather(1, place))[:, 0].numpy(),
        np.minimum(np.abs(cosine), HIGHEST),
        usual.numpy().astype(np.float64),
        np.stack([own[which] for own, which in zip(best, place[:, 0].tolist(), strict=True)]),
        cosine < 0,
    )


def _aligned_better(
    contrast: Tensor, spectra: Tensor, maps: Sequence[Sequence[Map]], step: float
) -> tuple[Tensor, list[list[Map]]]:
    """The highest cosine `(n, k)` of each query with each of its candidates among maps about a known one, and the map.

    Args:
        contrast: of the queries, `(n, SIZE, SIZE)`.
        spectra: of the candidates, `(n, k, ...)`.
        maps: of each query on each of its candidates.
        step: of angles and scales.
    """
    n, k = spectra.shape[:2]
    tried = [
        varied(known, turned(degrees * step, scale**step)) for own in maps for known in own for degrees, scale in AROUND
    ]
    own = fine_spectra(aligned(contrast.repeat_interleave(k * len(AROUND), 0), tried))
    surfaces = (
        correlations(own.view(n * k, len(AROUND), *spectra.shape[2:]), spectra.flatten(0, 1)[:, None]).abs() * _near()
    )
    cosines, places = surfaces.flatten(1).max(dim=1)
    found = surfaces.numpy()
    better = []
    for pair, place in enumerate(places.tolist()):
        which, rest = divmod(place, FINE * FINE)
        y, x = divmod(rest, FINE)
        shift = (_peak(found[pair, which, y], x), _peak(found[pair, which, :, x], y))
        better.append(moved(tried[pair * len(AROUND) + which], *shift))
    return cosines.view(n, k), [better[row * k : (row + 1) * k] for row in range(n)]


def _near() -> Tensor:
    """1 for shifts within REACH, 0 for others: `(FINE, FINE)`."""
    shift = torch.fft.fftfreq(FINE, 1 / FINE).abs() <= REACH
    near: Tensor = (shift[:, None] & shift[None]).float()
    return near


def _peak(line: NDArray[np.float32], place: int) -> float:
    """The shift, -1 to 1, of the vertex of a parabola through the highest value of a line and its neighbours."""
    before, here, after = (float(line[(place + by) % FINE]) for by in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return ((place + offset + FINE / 2) % FINE - FINE / 2) * 2 / FINE
