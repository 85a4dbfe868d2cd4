"""The image sets of an evaluation, the class of each image, and the sets that must not be compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_file
from medloom.core.lookup import look_up
from medloom.core.types import Sample
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import Manifest
from medloom.evaluation.report.metrics import EVERYTHING

LABEL_COLUMNS = ("label", "finding", "class")
AUTO, MODALITY, NONE = "auto", "modality", "none"
CLASSES = (2, 100)
NO_PATIENT = "unknown"

Subsets = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, and what an evaluation needs to know of each.

    Attributes:
        name: of the set in the report.
        samples: one per image.
        units: patient of each real image, prompt of each synthetic one.
        counted: what the units are: patients, prompts or images.
        labels: class of each image; None if the manifest has none.
        tags: names of the subsets that each image is in; see `subsets.tagged`.
    """

    name: str
    samples: Sequence[Sample]
    units: tuple[str, ...]
    counted: str
    labels: tuple[str | None, ...]
    tags: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of_patients(
        cls, samples: Sequence[Sample], name: str, labels: Sequence[str | None] | None = None
    ) -> "ImageSet":
        """Images of patients, with or without classes."""
        classes = (None,) * len(samples) if labels is None else tuple(labels)
        return cls(name, samples, tuple(sample.patient for sample in samples), "patients", classes)

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

    def rows(self, rows: Sequence[int] | NDArray[np.integer], name: str = "") -> "ImageSet":
        """Some images, in the order of `rows`."""
        return ImageSet(
            name or self.name,
            [self.samples[row] for row in rows],
            tuple(self.units[row] for row in rows),
            self.counted,
            tuple(self.labels[row] for row in rows),
            tuple(self.tags[row] for row in rows) if self.tags else (),
        )

    @property
    def parts(self) -> Subsets:
        """Which images are in each subset that is measured on its own."""
        return parts_of(self.tags, self.groups)

    def within(self, subset: str) -> NDArray[np.bool_]:
        """Which images are in a subset, or in `all`."""
        if subset == EVERYTHING:
            return np.ones(len(self), bool)
        return self.parts.get(subset, np.zeros(len(self), bool))

    def without_classes(self, names: frozenset[str]) -> "ImageSet":
        """The same images; those of some classes lose their label."""
        return replace(self, labels=tuple(None if label in names else label for label in self.labels))

    @property
    def classes(self) -> frozenset[str]:
        """The classes that occur."""
        return frozenset(label for label in self.labels if label is not None)

    def rare_classes(self, least: int) -> frozenset[str]:
        """The classes of fewer than `least` patients; a patient counts for the class of its first image."""
        first: dict[str, str] = {}
        for unit, label in zip(self.units, self.labels, strict=True):
            if label is not None:
                first.setdefault(unit, label)
        counts = Counter(first.values())
        return frozenset(label for label in self.classes if counts[label] < least)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each image; empty if it has none."""
        return tuple(sample.condition.text or "" for sample in self.samples)

    def with_text(self) -> "ImageSet":
        """The images that have a text."""
        return self.rows([row for row, text in enumerate(self.texts) if text.strip()])

    def labelled(self) -> "ImageSet":
        """The images that have a label."""
        return self.rows([row for row, label in enumerate(self.labels) if label is not None])


def parts_of(tags: Sequence[Sequence[str]], groups: Sequence[str] | NDArray[np.str_]) -> Subsets:
    """Which rows are in each subset: by tags; without tags by modality, if there are several."""
    if not len(tags):
        names = sorted({str(group) for group in groups})
        return {name: np.asarray(groups) == name for name in names} if len(names) > 1 else {}
    return {name: np.array([name in own for own in tags]) for name in sorted({name for own in tags for name in own})}


def real_set(manifest: Manifest, label: str, name: str) -> ImageSet:
    """Real images; the units are patients."""
    counted = "images" if manifest.patients_are_images else "patients"
    return replace(ImageSet.of_patients(manifest.samples(), name, read_labels(manifest, label)), counted=counted)


def synthetic_set(manifest: Manifest, label: str) -> ImageSet:
    """Synthetic images; the units are prompts (conditions, or text, modality and view), else patients, else images."""
    samples = manifest.samples()
    conditions = [sample.condition for sample in samples]
    if all(condition.table.get("condition") for condition in conditions):
        counted, units = "prompts", [str(condition.table["condition"]) for condition in conditions]
    elif any(condition.text for condition in conditions):
        counted = "prompts"
        units = ["\x1f".join(map(str, (known.text, known.modality, known.view))) for known in conditions]
    elif any(sample.patient == NO_PATIENT for sample in samples):
        counted, units = "images", [str(sample.row) for sample in samples]
    else:
        counted, units = "patients", [sample.patient for sample in samples]
    return ImageSet("synthetic", samples, tuple(units), counted, read_labels(manifest, label))


def choose_label(label: str, real: Manifest, synthetic: Manifest) -> str:
    """The column that holds an image's class, or `none`.

    Args:
        label: a column of both manifests (`modality` is one), `none`, or `auto`: a column called label, finding or
            class with 2 to 100 values in both, or one of the real ones in the synthetic one; else the modality if there
            are two or more; else none.
        real: the real manifest.
        synthetic: the synthetic one.

    Raises:
        UserError: a column that one of them lacks, or one with fewer than 2 or more than 100 values in `real`.
    """
    if label == NONE:
        return NONE
    if label == AUTO:
        for name in LABEL_COLUMNS:
            column = next((known for known in real.clinical_columns if known.casefold() == name), None)
            if column not in synthetic.clinical_columns:
                continue
            theirs, ours = (set(read_labels(table, str(column))) - {None} for table in (real, synthetic))
            # A set of one class shows too little, which has to be seen.
            least = 1 if ours <= theirs else CLASSES[0]
            if CLASSES[0] <= len(theirs) <= CLASSES[1] and least <= len(ours) <= CLASSES[1]:
                return str(column)
        return MODALITY if len(real.modalities) > 1 else NONE
    if label != MODALITY:
        for manifest in (real, synthetic):
            columns = [name for name in manifest.frame.columns if name not in (*PATH_COLUMNS, "line")]
            look_up(dict.fromkeys(columns), label, f"--label column of {manifest.source}")
    values = len(set(read_labels(real, label)) - {None})
    if not CLASSES[0] <= values <= CLASSES[1]:
        raise UserError(
            f"--label {label}: {real.source} has {values} different {'value' if values == 1 else 'values'} in it;"
            f" a class label has {CLASSES[0]} to {CLASSES[1]}: name another column, or --label none."
        )
    return label


def read_labels(manifest: Manifest, label: str) -> tuple[str | None, ...]:
    """The class of each row as text; None if the cell is empty or there is no label."""
    if label == NONE:
        return (None,) * len(manifest)
    cells = [None if cell is None or cell != cell else cell for cell in manifest.frame[label]]
    # A whole number in a column with empty cells is read as a float.
    texts = [f"{cell:g}" if isinstance(cell, int | float | np.number) else str(cell).strip() for cell in cells]
    return tuple(None if cell is None else text for cell, text in zip(cells, texts, strict=True))
