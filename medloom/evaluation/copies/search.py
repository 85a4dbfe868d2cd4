"""Which references a query may be copied from: all pairs, in more than a thousand ways to lie on each other."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.evaluation.copies.alignments import FLIPS, aligned, flip_matrix, flipped, moved, turned
from medloom.evaluation.copies.spectra import (
    SMALLEST,
    as_vectors,
    coarse_blocks,
    fine_spectra,
    fine_structure,
    half_weights,
    local_contrast,
    shift_phases,
    unit_blocks,
    without_detail,
)

# Degrees and scale; finer steps are found when a pair is aligned.
TURNS = ((0.0, 1.0), (0.0, 1.15), (0.0, 0.87), (6.0, 1.0), (-6.0, 1.0), (6.0, 1.15), (-6.0, 1.15))
SHIFTS = tuple((x, y) for x, y in product((-0.12, -0.06, 0.0, 0.06, 0.12), repeat=2))
WAYS = FLIPS * len(SHIFTS)
# Pixels a side in which pairs are aligned: enough for the frequencies that are compared.
PIXELS = 56
# Dimensions in which pairs are compared, and what is added to the variance of each, as a fraction of the mean one.
DIMENSIONS, RIDGE = 64, 0.1
FEWEST = 8
# Of many references each query is compared with all in the first of TURNS by all shifts, and in the next ones by every
# second shift, as on a chessboard; then in all ways with the KEPT ones that agree best. Fewer ways lose copies that are
# moved or cropped where images are all alike.
SCREENED_TURNS, KEPT = 5, 256
# References in a block: as many as the processor keeps at hand.
AT_ONCE = 2048

# Cosine of pictures that differ by compression at most.
ALIKE = 0.99

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
    def _measured(self) -> tuple[Tensor, Tensor]:
        """`fine_spectra` and `as_vectors` of the images; their contrast is as large as they are and not kept."""
        unmoved = torch.eye(2, 3)
        spectra, vectors = [], []
        for start in range(0, len(self), AT_ONCE):
            contrast = local_contrast(torch.from_numpy(self.images[start : start + AT_ONCE]))
            spectra.append(laid_spectra(without_detail(contrast), unmoved.expand(len(contrast), 1, 2, 3))[:, 0])
            vectors.append(as_vectors(coarse_blocks(contrast)))
        return torch.cat(spectra), torch.cat(vectors)

    def prepare(self) -> None:
        """Compute what is compared with queries, so that several threads find it done."""
        _ = self.columns, self._ways

    @property
    def spectra(self) -> Tensor:
        """See `fine_spectra`."""
        return self._measured[0]

    @cached_property
    def structure(self) -> Tensor:
        """See `fine_structure`."""
        return fine_structure(self.images)

    def alike(self, row: int) -> Tensor:
        """Which references show the same picture as one of them, and so are as good an original: `(n,)`."""
        products = (self.spectra * self.spectra[row].conj()).real * half_weights()
        return products.sum((-1, -2)) > ALIKE

    @property
    def _vectors(self) -> Tensor:
        return self._measured[1]

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
    def columns(self) -> Tensor:
        """The points, one a column, of the type that all are screened in: `(dimensions, n)`."""
        return self.points.T.contiguous().to(screened_type())

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
class Apart:
    """Pairs that are not compared, an image and itself or two images of a patient: those of equal codes.

    Attributes:
        queries: code of each query, `(m,)`.
        references: code of each reference, `(n,)`.
    """

    queries: NDArray[np.intp]
    references: NDArray[np.intp]

    @classmethod
    def named(cls, queries: Sequence[Hashable], references: Sequence[Hashable]) -> "Apart":
        """Pairs of one name, e.g. of a patient."""
        codes = {name: code for code, name in enumerate(dict.fromkeys((*queries, *references)))}
        return cls(*(np.array([codes[name] for name in own], np.intp) for own in (queries, references)))

    def of(self, part: slice | NDArray[np.intp]) -> "Apart":
        """The same for some queries."""
        return Apart(self.queries[part], self.references)


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each query the references that it may be a copy of, the likeliest first.

    Attributes:
        rows: of references, `(queries, k)`.
        ways: how the query has to be laid on each, a number for `maps_of`.
    """

    rows: Tensor
    ways: Tensor


def laid_spectra(smooth: Tensor, maps: Tensor) -> Tensor:
    """`fine_spectra` of images, each under maps of its own: `(n, k, FINE, FINE // 2 + 1)`.

    Args:
        smooth: of `without_detail`, `(n, SIZE, SIZE)`.
        maps: `(n, k, 2, 3)`.
    """
    return fine_spectra(aligned(smooth, maps, PIXELS))


def maps_of(ways: Tensor) -> Tensor:
    """The maps of ways that a query is laid on a reference: `(..., 2, 3)`."""
    return _all_maps()[ways]


@cache
def _all_maps() -> Tensor:
    """The map of each way, `(ways, 2, 3)`."""
    linear = [turned(*turn) @ flip_matrix(flip) for turn, _, flip in product(TURNS, SHIFTS, range(FLIPS))]
    shifts = [shift for _, shift, _ in product(TURNS, SHIFTS, range(FLIPS))]
    maps = _linear_maps(np.stack(linear))
    return moved(maps, torch.tensor(shifts).float())


def search(contrast: Tensor, references: References, k: int, apart: Apart | None = None) -> Candidates:
    """The `k` likeliest originals of each query.

    Args:
        contrast: of the queries, see `local_contrast`: `(m, SIZE, SIZE)`.
        references: where originals are looked for.
        k: candidates a query, at most as many as references.
        apart: pairs that are not compared.
    """
    # Of each query, turn, sign and way one point.
    places = torch.stack([references.places(as_vectors(coarse_blocks(own))) for own in _turned(contrast)], dim=1)
    screened = None if len(references) <= KEPT else _screened(places, references, apart)
    rows, ways = [], []
    for query, points in enumerate(places.flatten(1, 3)):
        known = torch.arange(len(references)) if screened is None else screened[query]
        cosines = (points @ references.points[known].T).amax(0)
        if apart is not None:
            cosines[torch.from_numpy(apart.references[known] == apart.queries[query])] = -torch.inf
        found = cosines.topk(min(k, len(known)))
        # Pairs that are not compared are no candidates, even where there are few others: the best one stands for them.
        top = torch.where(found.values.isfinite(), found.indices, found.indices[0])
        best = (references.points[known[top]] @ points.T).argmax(1)
        rows.append(known[top])
        ways.append(best // (2 * WAYS) * WAYS + best % WAYS)
    return Candidates(torch.stack(rows), torch.stack(ways))


def _screened(places: Tensor, references: References, apart: Apart | None) -> Tensor:
    """The KEPT references that agree best with each query in some of the ways: `(m, KEPT)`."""
    some = places.flatten(1, 3)[:, _screened_places()].to(screened_type())
    highest = torch.empty(len(some), len(references))
    for start in range(0, len(references), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        for query, points in enumerate(some):
            highest[query, part] = (points @ references.columns[:, part]).amax(0)
    if apart is not None:
        highest[torch.from_numpy(apart.queries[:, None] == apart.references[None])] = -torch.inf
    return highest.topk(KEPT, dim=1).indices


@cache
def _screened_places() -> Tensor:
    """Which of a query's points, by turn, sign, shift and flip, all references are screened by."""
    turn, _, shift, _ = np.indices((len(TURNS), 2, len(SHIFTS), FLIPS))
    return torch.from_numpy(np.flatnonzero((turn == 0) | ((turn < SCREENED_TURNS) & (shift % 2 == 0))))


@cache
def screened_type() -> torch.dtype:
    """The numbers that references are screened in: half as long where the processor then multiplies twice as many.

    Which few hundred agree best hardly depends on it, and they are compared again.
    """
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.bfloat16 if asked is not None and asked() else torch.float32


def _turned(contrast: Tensor) -> Tensor:
    """Images in each of TURNS: `(turns, m, SIZE, SIZE)`."""
    maps = _linear_maps(np.stack([turned(*turn) for turn in TURNS]))
    return aligned(contrast, maps.expand(len(contrast), *maps.shape)).transpose(0, 1)


def _linear_maps(linear: NDArray[np.float64]) -> Tensor:
    """Maps that move nothing, `(n, 2, 3)`, of linear parts `(n, 2, 2)`."""
    return torch.from_numpy(np.concatenate([linear, np.zeros((len(linear), 2, 1))], -1)).float()


def _unit(vectors: Tensor) -> Tensor:
    found: Tensor = vectors / (vectors.norm(dim=-1, keepdim=True) + SMALLEST)
    return found
