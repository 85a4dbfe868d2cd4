"""Whole images and masks of any size at the model's spacing, cached, and where in them each mask class lies."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.mask_spec import NO_MASK
from medloom.core.seeds import numpy_generator
from medloom.data.cache import Arrays, Column, cached_rows
from medloom.data.dataset import READERS_AT_ONCE, ImageSource, mask_key, rows_left, usable_rows
from medloom.data.images import read_header
from medloom.data.packed_arrays import Ragged, Shape, cached_ragged
from medloom.data.placement import plan

# Places kept of each class of an image; a class of fewer pixels is kept whole.
PLACES_A_CLASS = 512


@dataclass(frozen=True, eq=False)
class ClassPlaces:
    """Pixels of each mask class in each image, drawn once.

    Attributes:
        places: int16 `(rows, classes, PLACES_A_CLASS, axes)`, indices.
        counts: int32 `(rows, classes)`, how many of them are there.
    """

    places: NDArray[np.int16]
    counts: NDArray[np.int32]

    def of(self, row: int) -> list[NDArray[np.int16]]:
        """For each class that a row has, indices `(count, axes)`."""
        counts = self.counts[row]
        return [self.places[row, number, : counts[number]] for number in np.flatnonzero(counts)]


def whole_sizes(source: ImageSource) -> list[Shape]:
    """The size of each image at the model's spacing, from headers."""

    def size(row: int) -> Shape:
        header = read_header(source.samples[row].path, source.unit)
        return plan(header.size, header.spacing, source.spec).resized

    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        return list(pool.map(size, range(len(source.samples))))


def cached_whole_images(
    source: ImageSource, sizes: Sequence[Shape], folder: Path, skip_bad: bool, shown: bool = True
) -> tuple[Ragged, list[int]]:
    """All images whole, float16 `(C, *size)` each, and the rows that can be used.

    Raises:
        UserError: see `usable_rows`.
    """

    def compute(row: int) -> NDArray[np.float16] | None:
        image = source.image_or_none(row)
        return None if image is None else image.astype(np.float16)

    shapes = [(source.spec.channels, *size) for size in sizes]
    images, bad = cached_ragged(folder, "wholes", source.key, shapes, "float16", compute, shown)
    return images, usable_rows(source, bad, skip_bad, shown)


def cached_whole_labels(
    source: ImageSource, sizes: Sequence[Shape], folder: Path, skip_bad: bool, shown: bool = True
) -> tuple[Ragged, list[int]]:
    """The label map of each image, int16 `(*size)`, and the rows whose mask can be used.

    Raises:
        UserError: see `rows_left`.
    """

    def compute(row: int) -> NDArray[np.int16] | None:
        if source.samples[row].condition.mask is None:
            return np.full(sizes[row], NO_MASK, np.int16)
        return source.labels_or_none(row)

    labels, bad = cached_ragged(folder, "masks", mask_key(source), sizes, "int16", compute, shown)
    return labels, rows_left(bad, source.mask_refusal, "masks", skip_bad, shown)


def cached_places(source: ImageSource, labels: Ragged, folder: Path, shown: bool = True) -> ClassPlaces:
    """Pixels of each class that the model is told in each image, drawn once by row number."""
    classes, axes = source.masks.visible, source.spec.spatial_dims
    columns = {
        "places": Column((len(classes), PLACES_A_CLASS, axes), "int16"),
        "counts": Column((len(classes),), "int32"),
    }

    def compute(rows: Sequence[int]) -> Arrays:
        places = np.zeros((len(rows), *columns["places"].shape), np.int16)
        counts = np.zeros((len(rows), len(classes)), np.int32)
        for number, row in enumerate(rows):
            for place, label in enumerate(classes):
                drawn = _drawn(labels[row], label, row)
                places[number, place, : len(drawn)], counts[number, place] = drawn, len(drawn)
        return {"places": places, "counts": counts}

    key = {**mask_key(source), "each": PLACES_A_CLASS}
    return ClassPlaces(**cached_rows(folder, "places", key, len(labels), columns, compute, shown))


def _drawn(labels: NDArray[np.int16], label: int, row: int) -> NDArray[np.int16]:
    found = np.argwhere(labels == label)
    if len(found) > PLACES_A_CLASS:
        kept = numpy_generator("places", row, label).choice(len(found), PLACES_A_CLASS, replace=False)
        found = found[np.sort(kept)]
    return found.astype(np.int16)
