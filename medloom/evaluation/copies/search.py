"""Which references a query may be copied from: all pairs, in more than a thousand ways to lie on each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.progress import progress
from medloom.evaluation.copies.alignments import FLIPS, Map, aligned, flip_matrix, flipped, moved, turned
from medloom.evaluation.copies.spectra import (
    SMALLEST,
    as_vectors,
    coarse_blocks,
    fine_spectra,
    local_contrast,
    shift_phases,
    unit_blocks,
)

# Degrees and scale; finer steps are found when a pair is aligned.
TURNS = ((0.0, 1.0), (0.0, 1.15), (0.0, 0.87), (6.0, 1.0), (-6.0, 1.0), (6.0, 1.15), (-6.0, 1.15))
SHIFTS = tuple((x, y) for x, y in product((-0.12, -0.06, 0.0, 0.06, 0.12), repeat=2))
WAYS = FLIPS * len(SHIFTS)
# Dimensions in which pairs are compared, and what is added to the variance of each, as a fraction of the mean one.
DIMENSIONS, RIDGE = 64, 0.1
FEWEST = 8
QUERIES_AT_ONCE = 32

Images = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class References:
    """Images among which originals are looked for.

    Attributes:
        images: grey values from 0 to 1, `(n, SIZE, SIZE)`.
    """

    images: Images

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def contrast(self) -> Tensor:
        """See `local_contrast`."""
        return local_contrast(torch.from_numpy(self.images))

    @cached_property
    def spectra(self) -> Tensor:
        """See `fine_spectra`."""
        return fine_spectra(self.contrast)

    @cached_property
    def _vectors(self) -> Tensor:
        return as_vectors(coarse_blocks(self.contrast))

    @cached_property
    def _mean(self) -> Tensor:
        mean: Tensor = self._vectors.mean(0)
        return mean

    @cached_property
    def _axes(self) -> Tensor:
        """What all references have in common is removed, and what differs between many of them counts less."""
        centred = self._vectors - self._mean
        dimensions = min(DIMENSIONS, len(centred) - 1)
        if dimensions < FEWEST:
            return torch.eye(centred.shape[1])
        _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
        variance = singular[:dimensions].square() / len(centred)
        scaled: Tensor = axes[:dimensions] / (variance + RIDGE * variance.mean()).sqrt()[:, None]
        return scaled.T

    @cached_property
    def _middle(self) -> Tensor:
        return self._mean @ self._axes

    @cached_property
    def points(self) -> Tensor:
        """The references as vectors of unit length, `(n, dimensions)`."""
        return _unit(self._vectors @ self._axes - self._middle)

    @cached_property
    def _ways(self) -> Tensor:
        """What takes vectors, flipped and moved in each way, to the references' space: `(d, ways, dimensions)`."""
        blocks, phases = unit_blocks(), shift_phases(SHIFTS)
        parts = [as_vectors(flipped(blocks, flip)[:, None] * phases) @ self._axes for flip in range(FLIPS)]
        return torch.stack(parts, dim=2).flatten(1, 2)

    def places(self, vectors: Tensor) -> Tensor:
        """Vectors of `as_vectors`, flipped, moved and inverted in each way, as points: `(n, 2, ways, dimensions)`."""
        found = (vectors @ self._ways.flatten(1)).view(len(vectors), *self._ways.shape[1:])
        return _unit(torch.stack([found, -found], dim=1) - self._middle)


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each query the references that it may be a copy of, the likeliest first.

    Attributes:
        rows: of references, `(queries, k)`.
        ways: how the query has to be laid on each, a number for `map_of`.
    """

    rows: Tensor
    ways: Tensor


def map_of(way: int) -> Map:
    """The map of a way that a query is laid on a reference."""
    turn, place = divmod(way, WAYS)
    shift, flip = divmod(place, FLIPS)
    linear = turned(*TURNS[turn]) @ flip_matrix(flip)
    return moved(np.hstack([linear, np.zeros((2, 1))]), *SHIFTS[shift])


def search(
    queries: Images, references: References, k: int, apart: NDArray[np.bool_] | None = None, what: str = "images"
) -> Candidates:
    """The `k` likeliest originals of each query.

    Args:
        queries: grey values from 0 to 1, `(m, SIZE, SIZE)`.
        references: where originals are looked for.
        k: candidates a query, at most as many as references.
        apart: `(m, n)`, true for pairs that are not compared: an image and itself, two images of a patient.
        what: is searched, for the progress.
    """
    contrast = local_contrast(torch.from_numpy(queries))
    rows, ways = [], []
    with progress(f"looking for copies among {what}", len(queries), "images", 0) as advance:
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = contrast[start : start + QUERIES_AT_ONCE]
            best, way = _best_ways(part, references)
            if apart is not None:
                best[torch.from_numpy(apart[start : start + QUERIES_AT_ONCE])] = -torch.inf
            top = best.topk(min(k, len(references)), dim=1).indices
            rows.append(top)
            ways.append(way.gather(1, top))
            advance(len(part))
    return Candidates(torch.cat(rows), torch.cat(ways))


def _best_ways(contrast: Tensor, references: References) -> tuple[Tensor, Tensor]:
    """The greatest cosine of each query with each reference over all ways, and the way: `(m, n)` each."""
    best = torch.full((len(contrast), len(references)), -torch.inf)
    way = torch.zeros(best.shape, dtype=torch.int64)
    for number, turn in enumerate(TURNS):
        vectors = as_vectors(coarse_blocks(aligned(contrast, [_turn(*turn)] * len(contrast))))
        points = references.places(vectors)
        for row, point in enumerate(points.flatten(1, 2)):
            highest, place = (point @ references.points.T).max(dim=0)
            is_better = highest > best[row]
            best[row] = torch.where(is_better, highest, best[row])
            way[row] = torch.where(is_better, number * WAYS + place % WAYS, way[row])
    return best, way


def _unit(vectors: Tensor) -> Tensor:
    found: Tensor = vectors / (vectors.norm(dim=-1, keepdim=True) + SMALLEST)
    return found


def _turn(degrees: float, scale: float) -> Map:
    return np.hstack([turned(degrees, scale), np.zeros((2, 1))])


def same(one: Sequence[object], other: Sequence[object]) -> NDArray[np.bool_]:
    """Which pairs are of the same patient: `(len(one), len(other))`."""
    return np.asarray(np.asarray(one)[:, None] == np.asarray(other)[None])
