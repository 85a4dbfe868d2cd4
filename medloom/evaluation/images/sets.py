"""The sets of images that an evaluation compares, their labels, and what it refuses to compare."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_file
from medloom.core.lookup import look_up
from medloom.core.types import Sample
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import Manifest

LABEL_COLUMNS = ("label", "finding", "class")
AUTO, MODALITY, NONE = "auto", "modality", "none"
CLASSES = (2, 100)
NO_PATIENT = "unknown"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with what evaluation needs to know of each.

    Attributes:
        name: what the report calls the set.
        samples: one an image.
        units: patient of each real image, prompt of each synthetic one.
        counted: what the units are: patients, prompts or images.
        labels: class of each image, or None where the manifest has none.
        tags: names of the subsets that each image is in, of those that have figures of their own; see `subsets.tagged`.
    """

    name: str
    samples: Sequence[Sample]
    units: tuple[str, ...]
    counted: str
    labels: tuple[str | None, ...]
    tags: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """A hash of each file's bytes."""
        return tuple(hash_file(sample.path) for sample in self.samples)

    @property
    def groups(self) -> tuple[str, ...]:
        """The modality of each image."""
        return tuple(str(sample.condition.modality) for sample in self.samples)

    def rows(self, rows: Sequence[int] | NDArray[Any], name: str = "") -> "ImageSet":
        """Some images, in the order of `rows`."""
        return ImageSet(
            name or self.name,
            [self.samples[row] for row in rows],
            tuple(self.units[row] for row in rows),
            self.counted,
            tuple(self.labels[row] for row in rows),
            tuple(self.tags[row] for row in rows) if self.tags else (),
        )

    def with_tags(self, tags: tuple[tuple[str, ...], ...]) -> "ImageSet":
        """The same images with the names of the subsets that each is in."""
        return replace(self, tags=tags)

    @property
    def parts(self) -> dict[str, NDArray[np.bool_]]:
        """Which images are in each subset that has figures of its own."""
        return parts_of(self.tags, self.groups)

    def without_classes(self, names: frozenset[str]) -> "ImageSet":
        """The same images, those of some classes without a label."""
        if not names:
            return self
        return replace(self, labels=tuple(None if label in names else label for label in self.labels))

    def rare_classes(self, least: int) -> frozenset[str]:
        """The classes that fewer than `least` patients have, a patient counting for the class of its first image."""
        first: dict[str, str] = {}
        for unit, label in zip(self.units, self.labels, strict=True):
            if label is not None:
                first.setdefault(unit, label)
        counts = Counter(first.values())
        return frozenset(label for label in self.labels if label is not None and counts[label] < least)

    def classes_beyond(self, other: "ImageSet") -> frozenset[str]:
        """The classes that `other` has no image of."""
        return frozenset(label for label in self.labels if label is not None) - frozenset(
            label for label in other.labels if label is not None
        )

    def labelled(self) -> "ImageSet":
        """The images that have a label."""
        return self.rows([row for row, label in enumerate(self.labels) if label is not None])


def parts_of(tags: Sequence[Sequence[str]], groups: Sequence[str] | NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Which rows are in each subset: by tags, or where there are none by modality, if there are several."""
    if not len(tags):
        names = sorted({str(group) for group in groups})
        return {name: np.asarray(groups) == name for name in names} if len(names) > 1 else {}
    known = sorted({name for own in tags for name in own})
    return {name: np.array([name in own for own in tags]) for name in known}


def real_set(manifest: Manifest, label: str, name: str) -> ImageSet:
    """Real images: the units are patients."""
    samples = manifest.samples()
    counted = "images" if manifest.patients_are_images else "patients"
    return ImageSet(name, samples, tuple(sample.patient for sample in samples), counted, read_labels(manifest, label))


def synthetic_set(manifest: Manifest, label: str) -> ImageSet:
    """Synthetic images: the units are prompts (text, modality, view), else source patients, else single images."""
    samples = manifest.samples()
    labels = read_labels(manifest, label)
    if any(sample.condition.text for sample in samples):
        units = tuple(_prompt(sample) for sample in samples)
        return ImageSet("synthetic", samples, units, "prompts", labels)
    patients = tuple(sample.patient for sample in samples)
    if NO_PATIENT in patients:
        return ImageSet("synthetic", samples, tuple(str(sample.row) for sample in samples), "images", labels)
    return ImageSet("synthetic", samples, patients, "patients", labels)


def _prompt(sample: Sample) -> str:
    condition = sample.condition
    return "\x1f".join(str(part) for part in (condition.text, condition.modality, condition.view))


def choose_label(label: str, real: Manifest, synthetic: Manifest) -> str:
    """The column that says an image's class, or `none`.

    Args:
        label: a column of both manifests (`modality` is one), `none`, or `auto`: a column called label, finding or
            class that both have with 2 to 100 values, else the modality where there are two or more, else none.
        real: the real manifest.
        synthetic: the synthetic one.

    Raises:
        UserError: a column that one of them lacks, or one with fewer than 2 or more than 100 values in `real`.
    """
    if label == NONE:
        return NONE
    if label == AUTO:
        found = (_column(real, name) for name in LABEL_COLUMNS)
        usable = [name for name in found if name and all(_is_class(table, name) for table in (real, synthetic))]
        return usable[0] if usable else MODALITY if len(real.modalities) > 1 else NONE
    if label != MODALITY:
        for manifest in (real, synthetic):
            columns = [name for name in manifest.frame.columns if name not in (*PATH_COLUMNS, "line")]
            look_up(dict.fromkeys(columns), label, f"--label column of {manifest.source}")
    values = len(_classes(real, label))
    if not CLASSES[0] <= values <= CLASSES[1]:
        raise UserError(
            f"--label {label}: {real.source} has {values} different {'value' if values == 1 else 'values'} in it;"
            f" a class label has {CLASSES[0]} to {CLASSES[1]}: name another column, or --label none."
        )
    return label


def _column(manifest: Manifest, name: str) -> str | None:
    return next((column for column in manifest.clinical_columns if column.casefold() == name), None)


def _is_class(manifest: Manifest, name: str) -> bool:
    return name in manifest.clinical_columns and CLASSES[0] <= len(_classes(manifest, name)) <= CLASSES[1]


def _classes(manifest: Manifest, label: str) -> set[str]:
    return {value for value in read_labels(manifest, label) if value is not None}


def read_labels(manifest: Manifest, label: str) -> tuple[str | None, ...]:
    """The class of each row as text, None where the cell is empty or there is no label."""
    if label == NONE:
        return (None,) * len(manifest)
    return tuple(_text(cell) for cell in manifest.frame[label])


def _text(cell: Any) -> str | None:
    if cell is None or cell != cell:
        return None
    return f"{cell:g}" if isinstance(cell, int | float | np.number) else str(cell).strip()


def refuse_shared_files(synthetic: Manifest, real: Manifest) -> None:
    """Refuse to compare a file with itself.

    Raises:
        UserError: says how many files are in both manifests, and one of them.
    """
    shared = sorted(set(synthetic.frame["path"]) & set(real.frame["path"]))
    if shared:
        raise UserError(
            f"{synthetic.source} and {real.source} share {len(shared)} of their files ({Path(shared[0])}, ...);"
            " synthetic and real images have to be different files."
        )


def refuse_shared_patients(train: Manifest, real: Manifest) -> None:
    """Refuse real images of patients in the training set.

    Raises:
        UserError: says how many patients are in both manifests.
    """
    shared = set(train.frame["patient_id"]) & set(real.frame["patient_id"])
    if shared:
        raise UserError(
            f"{len(shared)} of the {real.frame['patient_id'].nunique()} patients of {real.source} are in {train.source}"
            " too; --real has to be of patients that were not trained on."
        )


def refuse_unknown(synthetic: ImageSet, real: ImageSet, source: Path) -> None:
    """Refuse synthetic images of a modality of which there is no real image.

    Raises:
        UserError: names what is unknown, what is known, and how many rows have it.
    """
    known = set(real.groups)
    unknown = Counter(group for group in synthetic.groups if group not in known)
    if unknown:
        name, count = unknown.most_common(1)[0]
        raise UserError(
            f"{source}: {count} rows are of modality {name!r}, of which there is no real image;"
            f" known: {', '.join(sorted(known))}."
        )
