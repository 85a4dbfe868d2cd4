"""From a manifest to arrays in the model's space: the ImageSpec is measured, then images and masks are cached."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Header
from medloom.core.mask_spec import NO_MASK, MaskSpec
from medloom.core.progress import progress, say
from medloom.core.spec import ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.data.cache import Arrays, Column, cached_rows
from medloom.data.condition_reader import ConditionReader
from medloom.data.images import read_header
from medloom.data.manifest import list_problems
from medloom.data.masks import Labels
from medloom.data.tables import Problem
from medloom.data.transforms import HU_WINDOW, ModelImage, choose_intensity

# Decoding releases the interpreter's lock, so threads share the cores.
READERS_AT_ONCE = 4
# Volumes of spacings that differ by no more than this share are taken to have one: headers are rounded.
SAME_SPACING = 1e-3


def measure_spec(
    samples: Sequence[Sample],
    size: tuple[int, ...],
    resize: str,
    unit: str | None = None,
    shown: bool = True,
    hu_window: tuple[float, float] = HU_WINDOW,
    spacing: tuple[float, ...] | None = None,
    patch: bool = False,
) -> ImageSpec:
    """The model's image space for some images, from their headers; no pixel is decoded.

    Args:
        samples: what a model will be trained on.
        size: pixels of each spatial axis; one number stands for a square of two axes.
        resize: pad, crop, stretch or none.
        unit: what the values of files are that do not say so (NIfTI, MetaImage, NRRD), e.g. HU.
        shown: whether to show progress.
        hu_window: HU that become -1 and 1 where images are in HU.
        spacing: mm of each axis that images are resampled to, or None for the images' own.
        patch: whether `size` is that of patches, and images stay whole.

    Raises:
        UserError: an unreadable header, a modality in mixed units, images of other dimensions, or of other sizes where
            the resize rule is none; patches of volumes of several spacings, and no spacing to bring them to.
    """
    units: dict[str, Counter[tuple[str, float]]] = {}
    sizes: Counter[tuple[int, ...]] = Counter()
    spacings: Counter[tuple[float, ...] | None] = Counter()
    size = size * 2 if len(size) == 1 else size
    with (
        ThreadPoolExecutor(READERS_AT_ONCE) as pool,
        progress("reading headers", len(samples), "files", 0, shown) as go,
    ):
        headers = pool.map(lambda sample: read_header(sample.path, unit), samples)
        for sample, header in zip(samples, headers, strict=True):
            _require_dimensions(sample.path, header, len(size))
            units.setdefault(_modality(sample), Counter())[(header.unit, header.full_scale)] += 1
            sizes[header.size] += 1
            spacings[header.spacing] += 1
            go()
    if patch and spacing is None and len(size) == 3:
        spacing = _common_spacing(spacings)
    if not patch and resize == "none" and (len(sizes) > 1 or next(iter(sizes)) != size):
        _refuse_sizes(sizes, size)
    intensity = {name: _intensity(name, counts, hu_window) for name, counts in sorted(units.items())}
    channels = 3 if any(entry.colour for entry in intensity.values()) else 1
    return ImageSpec(size, channels, resize, intensity, spacing, "RAS" if len(size) == 3 else None, patch)


def _common_spacing(spacings: Counter[tuple[float, ...] | None]) -> tuple[float, ...]:
    """The spacing that volumes share.

    Raises:
        UserError: they do not share one.
    """
    known = [spacing for spacing, _ in spacings.most_common() if spacing is not None]
    first = known[0]
    if any(not np.allclose(spacing, first, rtol=SAME_SPACING) for spacing in known):
        listed = ", ".join(f"{_mm(spacing)} ({spacings[spacing]} volumes)" for spacing in known[:3])
        more = "" if len(known) <= 3 else f" and {len(known) - 3} more"
        all_of_them = [spacing for spacing in known for _ in range(spacings[spacing])]
        raise UserError(
            f"volumes have the spacings {listed}{more}; name one that all are resampled to, e.g. --spacing"
            f" {_mm(tuple(np.median(all_of_them, axis=0)), ' ').removesuffix(' mm')}."
        )
    return first


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


def _require_dimensions(path: Path, header: Header, dims: int) -> None:
    if len(header.size) != dims:
        raise UserError(
            f"{path} has {len(header.size)} spatial axes and the model has {dims};"
            f" give --image-size {dims} numbers for images of {dims} axes, or other images."
        )


def _refuse_sizes(sizes: Counter[tuple[int, ...]], size: tuple[int, ...]) -> None:
    listed = ", ".join(f"{' x '.join(map(str, entry))} ({count} images)" for entry, count in sizes.most_common(3))
    more = "" if len(sizes) <= 3 else f" and {len(sizes) - 3} more sizes"
    raise UserError(
        f"images have the sizes {listed}{more}, and the model takes {' x '.join(map(str, size))} with no resize rule;"
        " choose one with --resize pad, crop or stretch."
    )


def read_sample(path: Path, spec: ImageSpec, modality: str, unit: str | None = None) -> ModelImage:
    """One image in the model's space.

    Raises:
        UserError: unreadable, not finite, constant, or not of the spec; names the file.
    """
    return ConditionReader(spec, unit=unit).model_image(path, modality)


@dataclass(frozen=True)
class ImageSource:
    """Where the images of a run come from.

    Attributes:
        samples: one a row.
        spec: the model's space.
        unit: of files that do not state theirs.
        key: identifies the data for caches: manifest fingerprint, file times, spec.
        masks: the classes of the masks.
    """

    samples: Sequence[Sample]
    spec: ImageSpec
    unit: str | None
    key: dict[str, Any]
    masks: MaskSpec = field(default_factory=MaskSpec)

    def images(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Model-space images of some rows, `(N, C, *size)`.

        Raises:
            UserError: any of them cannot be used.
        """
        with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
            return np.stack(list(pool.map(self.image, rows)))

    def readable_images(self, rows: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Model-space images of some rows, `(N, C, *size)`, and which of them cannot be used, uint8 `(N,)`.

        A row that cannot be used holds zeros; `refusal` says why.
        """
        with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
            read = list(pool.map(self.image_or_none, rows))
        blank = np.zeros(self.spec.shape, np.float32)
        bad = np.array([array is None for array in read], np.uint8)
        return np.stack([blank if array is None else array for array in read]), bad

    def image_or_none(self, row: int) -> NDArray[np.float32] | None:
        """The model-space image of a row, or None where `refusal` says why it cannot be used."""
        try:
            return self.image(row)
        except UserError:
            # Kept as a mark in the cache, so that all such rows can be listed at once.
            return None

    def image(self, row: int) -> NDArray[np.float32]:
        """The model-space image of a row.

        Raises:
            UserError: see `read_sample`.
        """
        sample = self.samples[row]
        return read_sample(sample.path, self.spec, _modality(sample), self.unit).array

    def refusal(self, row: int) -> Problem:
        """Why a row's image cannot be used."""
        try:
            self.image(row)
        except UserError as error:
            return Problem(self.samples[row].line, str(error))
        return Problem(self.samples[row].line, f"{self.samples[row].path} could not be read when it was cached")

    def label_map(self, condition: Condition, image: Path | None = None) -> Labels:
        """The label map of a condition, int16 `(*size)`, or with patches of the whole image's size; see `read_labels`.

        Raises:
            UserError: see `read_labels`.
        """
        return ConditionReader(self.spec, self.masks, self.unit).labels(condition, image)

    def priors(self, registered: bool) -> tuple["ImageSource", list[int]]:
        """The earlier images as a source of their own, and the entry in it of each row, -1 for rows without one.

        Args:
            registered: those on the later image's grid; of rows that have none the earlier image as it is.
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

    def labels_or_none(self, row: int) -> Labels | None:
        """The label map of a row, or None where `mask_refusal` says why it cannot be used."""
        try:
            return self.label_map(self.samples[row].condition, self.samples[row].path)
        except UserError:
            return None

    def mask_refusal(self, row: int) -> Problem:
        """Why a row's mask cannot be used."""
        sample = self.samples[row]
        try:
            self.label_map(sample.condition, sample.path)
        except UserError as error:
            return Problem(sample.line, str(error))
        return Problem(sample.line, f"{sample.condition.mask} could not be read when it was cached")


def cached_images(source: ImageSource, folder: Path, shown: bool = True) -> NDArray[np.float16]:
    """All images in the model's space, float16 `(N, C, *size)`, memory-mapped; see `cached_usable_images`.

    Raises:
        UserError: any image cannot be used.
    """
    return cached_usable_images(source, folder, False, shown)[0]


def cached_usable_images(
    source: ImageSource, folder: Path, skip_bad: bool, shown: bool = True
) -> tuple[NDArray[np.float16], list[int]]:
    """All images in the model's space, float16 `(N, C, *size)`, memory-mapped, and the rows that can be used.

    Half precision keeps 8-bit levels exactly and a window of 2,000 HU to half a HU.

    Raises:
        UserError: see `usable_rows`.
    """
    columns = {"images": Column(source.spec.shape, "float16"), "bad": Column((), "uint8")}

    def compute(rows: Sequence[int]) -> Arrays:
        images, bad = source.readable_images(rows)
        return {"images": images.astype(np.float16), "bad": bad}

    arrays = cached_rows(folder, "images", source.key, len(source.samples), columns, compute, shown)
    return arrays["images"], usable_rows(source, arrays["bad"], skip_bad, shown)


def usable_rows(source: ImageSource, bad: NDArray[np.uint8], skip_bad: bool, shown: bool) -> list[int]:
    """The rows whose image could be read.

    Raises:
        UserError: some could not and `skip_bad` is off (lists them by line), or none could.
    """
    return rows_left(bad, source.refusal, "images", skip_bad, shown)


def rows_left(
    bad: NDArray[np.uint8], refusal: Callable[[int], Problem], what: str, skip_bad: bool, shown: bool
) -> list[int]:
    """The rows that are not marked.

    Args:
        bad: marks, uint8 `(N,)`.
        refusal: says why a row is marked.
        what: what cannot be used, for the user.
        skip_bad: go on without the marked rows.
        shown: whether to say how many were left out.

    Raises:
        UserError: some are marked and `skip_bad` is off (lists them by line), or all are.
    """
    refused = np.flatnonzero(bad).tolist()
    usable = np.flatnonzero(np.asarray(bad) == 0).tolist()
    if refused and (not skip_bad or not usable):
        raise UserError(list_problems("the manifest", [refusal(row) for row in refused], len(bad)))
    if refused and shown:
        say(f"{len(refused)} {what} that cannot be used were left out (--skip-bad), {len(usable)} are used.")
    return usable


def mask_key(source: ImageSource) -> dict[str, Any]:
    """What identifies the label maps of a source for caches; `grid` counts changes in how they are placed."""
    return {**source.key, "masks": source.masks.to_dict(), "grid": 2}


def cached_labels(source: ImageSource, folder: Path, shown: bool = True) -> NDArray[np.int16]:
    """All label maps on the model's grid, int16 `(N, *size)`, memory-mapped; see `cached_usable_labels`.

    Raises:
        UserError: any mask cannot be used.
    """
    return cached_usable_labels(source, folder, False, shown)[0]


def cached_usable_labels(
    source: ImageSource, folder: Path, skip_bad: bool, shown: bool = True
) -> tuple[NDArray[np.int16], list[int]]:
    """All label maps on the model's grid, int16 `(N, *size)`, memory-mapped, and the rows whose mask can be used.

    Rows without a mask are usable, and -1 everywhere.

    Raises:
        UserError: see `rows_left`.
    """
    columns = {"labels": Column(source.spec.size, "int16"), "bad": Column((), "uint8")}

    def compute(rows: Sequence[int]) -> Arrays:
        with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
            read = list(pool.map(source.labels_or_none, rows))
        blank = np.full(source.spec.size, NO_MASK, np.int16)
        return {
            "labels": np.stack([blank if labels is None else labels for labels in read]),
            "bad": np.array([labels is None for labels in read], np.uint8),
        }

    arrays = cached_rows(folder, "masks", mask_key(source), len(source.samples), columns, compute, shown)
    return arrays["labels"], rows_left(arrays["bad"], source.mask_refusal, "masks", skip_bad, shown)
