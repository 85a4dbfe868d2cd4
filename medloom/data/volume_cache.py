"""Whole images and masks of any size at the model's spacing, cached, with pixel positions of each mask class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.mask_spec import NO_MASK
from medloom.core.seeds import numpy_generator
from medloom.data.cache import Arrays, CacheColumn, PackedArrays, Shape, cached_arrays, cached_rows
from medloom.data.dataset import ImageSource, mask_key, read_or_none, rows_left, usable_rows
from medloom.data.images import readers_at_once
from medloom.data.placement import plan

# Pixels drawn per class and image; of a class with fewer pixels all are stored.
POSITIONS_PER_CLASS = 512


@dataclass(frozen=True, eq=False)
class ClassPositions:
    """Pixels of each mask class in each image, drawn once.

    Attributes:
        positions: int16 `(rows, classes, POSITIONS_PER_CLASS, axes)`, indices.
        counts: int32 `(rows, classes)`, how many of them are used.
    """

    positions: NDArray[np.int16]
    counts: NDArray[np.int32]

    def of(self, row: int) -> list[NDArray[np.int16]]:
        """Indices `(count, axes)` for each class in a row's image."""
        counts = self.counts[row]
        return [self.positions[row, number, : counts[number]] for number in np.flatnonzero(counts)]


def whole_sizes(source: ImageSource) -> list[Shape]:
    """Size of each image at the model's spacing, from headers."""

    def size(row: int) -> Shape:
        return plan(*source.grid(row), source.spec).resized

    with ThreadPoolExecutor(readers_at_once(sample.path for sample in source.samples)) as pool:
        return list(pool.map(size, range(len(source.samples))))


def cached_whole_images(
    source: ImageSource, sizes: Sequence[Shape], folder: Path, skip_bad: bool, verbose: bool = True
) -> tuple[PackedArrays[np.float16], list[int]]:
    """All images whole, each float16 `(C, *size)`, and the usable rows.

    Raises:
        UserError: see `rows_left`.
    """

    def compute(row: int) -> NDArray[np.float16] | None:
        image = read_or_none(source.image, row)
        return None if image is None else image.astype(np.float16)

    shapes = [(source.spec.channels, *size) for size in sizes]
    images, bad = cached_arrays(folder, "wholes", source.key, shapes, np.float16, compute, verbose)
    return images, usable_rows(source, bad, skip_bad, verbose)


def cached_whole_labels(
    source: ImageSource, sizes: Sequence[Shape], folder: Path, skip_bad: bool, verbose: bool = True
) -> tuple[PackedArrays[np.int16], list[int]]:
    """The label map of each image, int16 `(*size)`, and the rows whose mask is usable.

    Raises:
        UserError: see `rows_left`.
    """

    def compute(row: int) -> NDArray[np.int16] | None:
        if source.samples[row].condition.mask is None:
            return np.full(sizes[row], NO_MASK, np.int16)
        return read_or_none(source.labels, row)

    labels, bad = cached_arrays(folder, "masks", mask_key(source), sizes, np.int16, compute, verbose)
    return labels, rows_left(bad, partial(source.refusal, mask=True), "masks", skip_bad, verbose)


def cached_positions(
    source: ImageSource, labels: PackedArrays[np.int16], folder: Path, verbose: bool = True
) -> ClassPositions:
    """Pixels of each class visible to the model in each image, drawn once by row number."""
    classes, axes = source.masks.visible, source.spec.spatial_dims
    columns = {
        "places": CacheColumn((len(classes), POSITIONS_PER_CLASS, axes), "int16"),
        "counts": CacheColumn((len(classes),), "int32"),
    }

    def compute(rows: Sequence[int]) -> Arrays:
        positions = np.zeros((len(rows), *columns["places"].shape), np.int16)
        counts = np.zeros((len(rows), len(classes)), np.int32)
        for number, row in enumerate(rows):
            for entry, label in enumerate(classes):
                found = np.argwhere(labels[row] == label)
                if len(found) > POSITIONS_PER_CLASS:
                    rng = numpy_generator("places", row, label)
                    found = found[np.sort(rng.choice(len(found), POSITIONS_PER_CLASS, replace=False))]
                positions[number, entry, : len(found)], counts[number, entry] = found, len(found)
        return {"places": positions, "counts": counts}

    key = {**mask_key(source), "each": POSITIONS_PER_CLASS}
    stored = cached_rows(folder, "places", key, len(labels), columns, compute, verbose)
    return ClassPositions(stored["places"], stored["counts"])
