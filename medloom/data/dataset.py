"""From manifest rows to arrays in the model's space: measure the ImageSpec, then cache images and label maps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Header
from medloom.core.mask_spec import NO_MASK, MaskSpec
from medloom.core.progress import progress, say
from medloom.core.spec import ImageSpec, Intensity
from medloom.core.types import Sample
from medloom.data.cache import Arrays, CacheColumn, cached_rows
from medloom.data.condition_reader import ConditionReader
from medloom.data.images import read_header, readers_at_once
from medloom.data.manifest import list_problems
from medloom.data.masks import Labels
from medloom.data.padding import Contents, Extent, extent_of
from medloom.data.tables import Problem
from medloom.data.transforms import HU_WINDOW, ModelImage, choose_intensity
from medloom.data.units import unit_for

# Spacings that differ by no more than this fraction are the same: headers are rounded.
SAME_SPACING = 1e-3

# Pixels of each axis, and mm, of the image in a file.
Grid = tuple[tuple[int, ...], tuple[float, ...] | None]

Scalar = TypeVar("Scalar", bound=np.generic)


def read_headers(samples: Sequence[Sample], unit: str | None = None, verbose: bool = True) -> list[Header]:
    """The header of each sample's image; no pixel is decoded.

    Args:
        samples: with images.
        unit: of values in files that do not state it (NIfTI, MetaImage, NRRD), e.g. HU.
        verbose: show progress.

    Raises:
        UserError: an unreadable header.
    """
    headers = []
    with (
        ThreadPoolExecutor(readers_at_once(sample.path for sample in samples)) as pool,
        progress("reading headers", len(samples), "files", 0, verbose) as advance,
    ):
        for header in pool.map(lambda sample: _header(sample, unit), samples):
            headers.append(header)
            advance()
    if verbose and (aside := [header for header in headers if header.left_aside]):
        first = ", ".join(aside[0].left_aside[:3])
        say(f"{len(aside)} folders of slices have other files too, which are left aside ({first}, ...).")
    return headers


def _header(sample: Sample, unit: str | None) -> Header:
    return read_header(sample.path, unit_for(unit, sample.condition.modality, sample.path))


def measure_spec(
    samples: Sequence[Sample],
    size: tuple[int, ...],
    resize: str,
    unit: str | None = None,
    verbose: bool = True,
    hu_window: tuple[float, float] = HU_WINDOW,
    spacing: tuple[float, ...] | None = None,
    patch: bool = False,
    headers: Sequence[Header] | None = None,
) -> ImageSpec:
    """The model's image space for some images, from their headers; no pixel is decoded.

    Args:
        samples: the training samples.
        size: pixels of each spatial axis; one number means a square of two axes.
        resize: pad, crop, stretch or none.
        unit: of values in files that do not state it (NIfTI, MetaImage, NRRD), e.g. HU.
        verbose: show progress.
        hu_window: HU that become -1 and 1 where images are in HU.
        spacing: mm of each axis after resampling, or None to leave the images' own spacing.
        patch: `size` is that of patches, and images stay whole.
        headers: of the samples' images, where they were read before.

    Raises:
        UserError: an unreadable header, mixed units in one modality, volumes of which some state no orientation, images
            of other dimensions, other sizes with the resize rule none, or patches of volumes with several spacings and
            no target spacing.
    """
    units: dict[str, Counter[tuple[str, float]]] = {}
    sizes: Counter[tuple[int, ...]] = Counter()
    spacings: Counter[tuple[float, ...] | None] = Counter()
    size = size * 2 if len(size) == 1 else size
    headers = read_headers(samples, unit, verbose) if headers is None else headers
    for sample, header in zip(samples, headers, strict=True):
        if len(header.size) != len(size):
            raise UserError(
                f"{sample.path} has {len(header.size)} spatial axes and the model has {len(size)};"
                f" give --image-size {len(size)} numbers for images of {len(size)} axes, or other images."
            )
        units.setdefault(_modality(sample), Counter())[(header.unit, header.full_scale)] += 1
        sizes[header.size] += 1
        spacings[header.spacing] += 1
    if patch and spacing is None and len(size) == 3:
        known = [own for own, _ in spacings.most_common() if own is not None]
        spacing = known[0]
        if any(not np.allclose(own, spacing, rtol=SAME_SPACING) for own in known):
            listed = ", ".join(f"{_mm(own)} ({spacings[own]} volumes)" for own in known[:3])
            more = "" if len(known) <= 3 else f" and {len(known) - 3} more"
            all_of_them = [own for own in known for _ in range(spacings[own])]
            raise UserError(
                f"volumes have the spacings {listed}{more}; give one to resample all of them to, e.g. --spacing"
                f" {_mm(tuple(np.median(all_of_them, axis=0)), ' ').removesuffix(' mm')}."
            )
    if not patch and resize == "none" and (len(sizes) > 1 or next(iter(sizes)) != size):
        listed = ", ".join(f"{' x '.join(map(str, entry))} ({count} images)" for entry, count in sizes.most_common(3))
        more = "" if len(sizes) <= 3 else f" and {len(sizes) - 3} more sizes"
        raise UserError(
            f"images have the sizes {listed}{more}, and the model takes {' x '.join(map(str, size))} with no resize"
            " rule; choose one with --resize pad, crop or stretch."
        )
    intensity = {name: _intensity(name, counts, hu_window) for name, counts in sorted(units.items())}
    channels = 3 if any(entry.colour for entry in intensity.values()) else 1
    return ImageSpec(size, channels, resize, intensity, spacing, _orientation(samples, headers), patch)


def _orientation(samples: Sequence[Sample], headers: Sequence[Header]) -> str | None:
    """RAS for volumes that state how they lie in the patient; None for those that do not, and in 2-D.

    Raises:
        UserError: some do and others do not.
    """
    unstated = [sample.path for sample, header in zip(samples, headers, strict=True) if header.unoriented]
    if unstated and len(unstated) < len(headers):
        raise UserError(
            f"{len(unstated)} of {len(headers)} volumes state no orientation, first {unstated[0]} (both codes of a"
            " NIfTI are 0, or the header has no directions), and the others do: left and right could be swapped between"
            " them; state it in the files, or leave them out."
        )
    return None if unstated or len(headers[0].size) != 3 else "RAS"


def _mm(spacing: Sequence[float], between: str = " x ") -> str:
    return between.join(f"{mm:.3g}" for mm in spacing) + " mm"


def _modality(sample: Sample) -> str:
    if sample.condition.modality is None:
        raise ValueError("a sample of a manifest always has a modality")
    return sample.condition.modality


def _intensity(modality: str, counts: Counter[tuple[str, float]], hu_window: tuple[float, float]) -> Intensity:
    try:
        return choose_intensity(counts, hu_window)
    except UserError as error:
        raise UserError(f"modality {modality!r}: {error}") from error


def read_sample(path: Path, spec: ImageSpec, modality: str, unit: str | None = None) -> ModelImage:
    """One image in the model's space.

    Raises:
        UserError: unreadable, not finite, constant, or outside the spec; names the file.
    """
    return ConditionReader(spec, unit=unit).model_image(path, modality)


@dataclass(frozen=True)
class ImageSource:
    """The images and masks of a run.

    Attributes:
        samples: one per row.
        spec: the model's space.
        unit: of values in files that do not state it.
        key: identifies the data in caches: manifest fingerprint, file times, spec.
        masks: the classes of the masks.
        grids: of the files whose headers were read before.
    """

    samples: Sequence[Sample]
    spec: ImageSpec
    unit: str | None
    key: Mapping[str, object]
    masks: MaskSpec = field(default_factory=MaskSpec)
    grids: Mapping[Path, Grid] = field(default_factory=dict)

    def grid(self, row: int) -> Grid:
        """The grid of a row's image, from its header."""
        path = self.samples[row].path
        if path in self.grids:
            return self.grids[path]
        header = read_header(path)
        return header.size, header.spacing

    def contents(self) -> Contents:
        """How much of the model's frame each row's image fills, from headers."""
        frame, rows = self.spec.size, range(len(self.samples))
        if not self.spec.pads:
            return Contents(frame, np.tile(np.array(frame), (len(rows), 1)))

        def extent(row: int) -> Extent:
            try:
                return extent_of(*self.grid(row), self.spec)
            except UserError:
                # It cannot be placed, and is refused together with all unusable rows where its pixels are read.
                return frame

        return Contents(frame, np.array([extent(row) for row in rows], np.int64).reshape(len(rows), len(frame)))

    def images(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Model-space images of some rows, `(N, C, *size)`.

        Raises:
            UserError: an image is unusable.
        """
        with ThreadPoolExecutor(self.readers(rows)) as pool:
            return np.stack(list(pool.map(self.image, rows)))

    def readable_images(self, rows: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Model-space images of some rows, `(N, C, *size)`, and marks uint8 `(N,)` of unusable ones (all zeros)."""
        return _readable(self.image, rows, np.zeros(self.spec.shape, np.float32), self.readers(rows))

    def readers(self, rows: Sequence[int]) -> int:
        """How many threads read some rows fastest."""
        return readers_at_once(self.samples[row].path for row in rows)

    def image(self, row: int) -> NDArray[np.float32]:
        """The model-space image of a row.

        Raises:
            UserError: see `read_sample`.
        """
        sample = self.samples[row]
        return read_sample(sample.path, self.spec, _modality(sample), self.unit).array

    def labels(self, row: int) -> Labels:
        """The label map of a row, int16 `(*size)`; with patches, of the whole image's size.

        Raises:
            UserError: see `read_labels`.
        """
        sample = self.samples[row]
        return ConditionReader(self.spec, self.masks, self.unit).labels(sample.condition, sample.path)

    def refusal(self, row: int, mask: bool = False) -> Problem:
        """Why a row's image, or its mask, is unusable."""
        sample = self.samples[row]
        try:
            (self.labels if mask else self.image)(row)
        except UserError as error:
            return Problem(sample.line, str(error))
        what = sample.condition.mask if mask else sample.path
        return Problem(sample.line, f"{what} could not be read when it was cached")

    def priors(self, registered: bool) -> tuple["ImageSource", list[int]]:
        """The prior images as a source of their own, and each row's entry in it, -1 for rows without a prior image.

        Args:
            registered: use prior images registered to the current image's grid, where there are any.
        """
        samples: list[Sample] = []
        entries: list[int] = []
        for sample in self.samples:
            path = (sample.registered_prior if registered else None) or sample.condition.prior
            entries.append(len(samples) if path is not None else -1)
            if isinstance(path, Path):
                samples.append(replace(sample, path=path))
        key = {**self.key, "priors": "registered" if registered else "as they are"}
        return replace(self, samples=samples, key=key), entries


def read_or_none(read: Callable[[int], NDArray[Scalar]], row: int) -> NDArray[Scalar] | None:
    """The array of a row, or None where it is unusable."""
    try:
        return read(row)
    except UserError:
        # The cache marks the row, so that all unusable rows can be listed at once.
        return None


def _readable(
    read: Callable[[int], NDArray[Scalar]], rows: Sequence[int], blank: NDArray[Scalar], readers: int
) -> tuple[NDArray[Scalar], NDArray[np.uint8]]:
    """Arrays of some rows, stacked, and marks of unusable ones, which are blank."""
    with ThreadPoolExecutor(readers) as pool:
        found = list(pool.map(lambda row: read_or_none(read, row), rows))
    bad = np.array([array is None for array in found], np.uint8)
    return np.stack([blank if array is None else array for array in found]), bad


def cached_images(source: ImageSource, folder: Path, verbose: bool = True) -> NDArray[np.float16]:
    """All images in the model's space, float16 `(N, C, *size)`, memory-mapped; see `cached_usable_images`.

    Raises:
        UserError: an image is unusable.
    """
    return cached_usable_images(source, folder, False, verbose)[0]


def cached_usable_images(
    source: ImageSource, folder: Path, skip_bad: bool, verbose: bool = True
) -> tuple[NDArray[np.float16], list[int]]:
    """All images in the model's space, float16 `(N, C, *size)`, memory-mapped, and the usable rows.

    Half precision is exact for 8-bit levels, and accurate to half a HU in a window of 2,000 HU.

    Raises:
        UserError: see `usable_rows`.
    """
    columns = {"images": CacheColumn(source.spec.shape, "float16"), "bad": CacheColumn((), "uint8")}

    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        return {"images": images.astype(np.float16), "bad": bad}

    arrays = cached_rows(folder, "images", source.key, len(source.samples), columns, compute, verbose)
    return arrays["images"], usable_rows(source, arrays["bad"], skip_bad, verbose)


def usable_rows(source: ImageSource, bad: NDArray[np.uint8], skip_bad: bool, verbose: bool) -> list[int]:
    """The rows whose image is usable.

    Raises:
        UserError: see `rows_left`.
    """
    return rows_left(bad, source.refusal, "images", skip_bad, verbose)


def rows_left(
    bad: NDArray[np.uint8], refusal: Callable[[int], Problem], what: str, skip_bad: bool, verbose: bool
) -> list[int]:
    """The rows that are not marked as unusable.

    Args:
        bad: marks, uint8 `(N,)`.
        refusal: states why a row is marked.
        what: what is unusable, for messages.
        skip_bad: continue without the marked rows.
        verbose: print how many rows were left out.

    Raises:
        UserError: rows are marked and `skip_bad` is off (lists them by line), or all rows are marked.
    """
    refused = np.flatnonzero(bad).tolist()
    usable = np.flatnonzero(np.asarray(bad) == 0).tolist()
    if refused and (not skip_bad or not usable):
        raise UserError(list_problems("the manifest", [refusal(row) for row in refused], len(bad)))
    if refused and verbose:
        say(f"{len(refused)} unusable {what} were left out (--skip-bad), {len(usable)} are used.")
    return usable


def mask_key(source: ImageSource) -> dict[str, object]:
    """Identifies the label maps of a source in caches; `grid` is the version of their placement on the grid."""
    return {**source.key, "masks": source.masks.to_dict(), "grid": 2}


def cached_usable_labels(
    source: ImageSource, folder: Path, skip_bad: bool, verbose: bool = True
) -> tuple[NDArray[np.int16], list[int]]:
    """All label maps on the model's grid, int16 `(N, *size)`, memory-mapped, and the rows whose mask is usable.

    Rows without a mask are usable, and -1 everywhere.

    Raises:
        UserError: see `rows_left`.
    """
    columns = {"labels": CacheColumn(source.spec.size, "int16"), "bad": CacheColumn((), "uint8")}

    def compute(rows: Sequence[int]) -> Arrays:
        labels, bad = _readable(source.labels, rows, np.full(source.spec.size, NO_MASK, np.int16), source.readers(rows))
        return {"labels": labels, "bad": bad}

    arrays = cached_rows(folder, "masks", mask_key(source), len(source.samples), columns, compute, verbose)
    return arrays["labels"], rows_left(arrays["bad"], partial(source.refusal, mask=True), "masks", skip_bad, verbose)
