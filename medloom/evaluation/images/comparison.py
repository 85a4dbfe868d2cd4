"""From manifests to the sets that are compared: which real images are the reference, which train the classifier."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource, measure_spec
from medloom.data.manifest import Manifest
from medloom.downstream.classifier import hold_out
from medloom.evaluation.images.sets import (
    AUTO,
    MODALITY,
    NONE,
    ImageSet,
    choose_label,
    real_set,
    refuse_shared_files,
    refuse_shared_patients,
    refuse_unknown,
    synthetic_set,
)
from medloom.evaluation.images.subsets import bands, check_columns, tagged

HALF = 0.5
# A classifier is trained on some patients of a class and selected on others.
PATIENTS_A_CLASS = 2
SHOWN_CLASSES = 20
READ_AT_ONCE = 64


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        real: held-out real images, the reference of everything.
        synthetic: the images in question.
        fit: labelled real images that the classifier is trained on, or None where there is no label.
        seen: all real images outside of the reference, on which encoders of features are trained.
        train: the generator's training images, or None where they were not given.
        label: the column of the classes, `modality` or `none`.
        spec: the space in which images are read, measured on real images.
        table: for the report, a row for each set.
        notes: how the sets came about.
    """

    real: ImageSet
    synthetic: ImageSet
    fit: ImageSet | None
    seen: ImageSet
    train: ImageSet | None
    label: str
    spec: ImageSpec
    table: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def compare(
    real: Manifest,
    synthetic: Manifest,
    train: Manifest | None,
    *,
    label: str,
    image_size: tuple[int, ...],
    resize: str,
    seed: int,
    unit: str | None = None,
    set_apart: bool = False,
    by: Sequence[str] = (),
) -> Comparison:
    """Put the sets of an evaluation together.

    With a training manifest the classifier is trained on it and all of `real` is the reference. Without one it is
    trained on one half of the patients of `real`, and the other half is the reference.

    Args:
        real: real images that the generator was not trained on.
        synthetic: what it made.
        train: what it was trained on, or None.
        label: see `choose_label`.
        image_size: pixels of the classifier's images.
        resize: how images get there.
        seed: of the halves.
        unit: what the values of files are that do not say so.
        set_apart: without a label and a training manifest, whether half of `real` is kept to train an encoder on.
        by: columns of both manifests whose values, or bands of whose numbers, have figures of their own.

    Raises:
        UserError: files or patients in two sets; a column that is missing; a label that cannot be used; a class or
            modality without real images.
    """
    _refuse_overlap(real, synthetic, train)
    check_columns(by, *(manifest for manifest in (real, synthetic, train) if manifest is not None))
    chosen = choose_label(label, real, synthetic)
    sets = _labelled_sets(chosen, real, synthetic, train)
    if label == AUTO and chosen != MODALITY and sets.unjudged and len(real.modalities) > 1:
        # A free column of that name is no class label; one that was asked for is taken as far as it goes.
        chosen = MODALITY
        sets = _labelled_sets(chosen, real, synthetic, train)
    everything, ours, trained = sets.real, sets.synthetic, sets.train
    if trained is not None:
        reference, fit, seen = everything, trained.labelled(), trained
    else:
        reference, fit = _halves(everything, chosen, seed, set_apart)
        seen = fit
    samples = [*everything.samples, *(trained.samples if trained else ())]
    known = [*manifest_notes(real, synthetic, train), *_label_notes(chosen, ours), *_unjudged_notes(sets.unjudged)]
    cuts, several = bands(reference, by), len(set(reference.groups)) > 1
    return Comparison(
        real=tagged(reference, by, cuts, several),
        synthetic=tagged(ours, by, cuts, several),
        fit=fit if chosen != NONE else None,
        seen=seen,
        train=tagged(trained, by, cuts, several) if trained is not None else None,
        label=chosen,
        spec=measure_spec(samples, image_size, resize, unit),
        table=_table(real, synthetic, train, reference, ours, fit if trained is None else trained),
        notes=tuple(known),
    )


def _refuse_overlap(real: Manifest, synthetic: Manifest, train: Manifest | None) -> None:
    """Refuse files in two sets, and real images of patients that the generator was trained on."""
    refuse_shared_files(synthetic, real)
    if train is not None:
        refuse_shared_files(synthetic, train)
        refuse_shared_patients(train, real)


def readable_only(comparison: Comparison, unit: str | None = None) -> Comparison:
    """The comparison without images that cannot be decoded, for `--skip-bad`; the notes say how many there were.

    Raises:
        UserError: none of a set can be read.
    """
    notes = list(comparison.notes)
    changed: dict[str, ImageSet] = {}
    for name in ("real", "synthetic", "fit", "seen", "train"):
        members: ImageSet | None = getattr(comparison, name)
        if members is not None and len(members):
            changed[name], note = _readable(members, comparison.spec, unit)
            notes += [note] if note else []
    return replace(comparison, **changed, notes=tuple(notes))  # type: ignore[arg-type]


def _readable(members: ImageSet, spec: ImageSpec, unit: str | None) -> tuple[ImageSet, str]:
    source = ImageSource(members.samples, spec, unit, {})
    usable: list[int] = []
    with progress(f"reading {members.name} images", len(members), "images") as advance:
        for start in range(0, len(members), READ_AT_ONCE):
            rows = range(start, min(start + READ_AT_ONCE, len(members)))
            _, bad = source.readable_images(rows)
            usable += [row for row, refused in zip(rows, bad, strict=True) if not refused]
            advance(len(rows))
    if not usable:
        raise UserError(f"none of the {len(members)} {members.name} images can be read; `medloom data check` says why.")
    left_out = len(members) - len(usable)
    note = f"{left_out} {members.name} images cannot be read and were left out (--skip-bad)." if left_out else ""
    return members.rows(usable), note


def _halves(everything: ImageSet, label: str, seed: int, set_apart: bool) -> tuple[ImageSet, ImageSet]:
    """The reference, and what the classifier or an encoder is trained on, with no patient in common."""
    if label == NONE and not set_apart:
        return everything, everything.rows([])
    if label == NONE:
        everyone = numpy_generator("halves", seed).permutation(np.unique(everything.units))
        first = np.isin(everything.units, everyone[: len(everyone) // 2])
        sides = np.flatnonzero(~first), np.flatnonzero(first)
        return everything.rows(sides[0], "real, second half"), everything.rows(sides[1], "real, first half")
    labelled = everything.labelled()
    held = hold_out(labelled.units, [str(name) for name in labelled.labels], HALF, seed)
    fit = labelled.rows(np.setdiff1d(np.arange(len(labelled)), held), "real, first half")
    taken = set(fit.units)
    others = [row for row, patient in enumerate(everything.units) if patient not in taken]
    return everything.rows(others, "real, second half"), fit


def manifest_notes(*manifests: Manifest | None) -> list[str]:
    """What was left out when the manifests were read."""
    return [note for manifest in manifests if manifest is not None for note in manifest.notes]


def _label_notes(label: str, synthetic: ImageSet) -> list[str]:
    if label == NONE:
        return ["No class label: alignment is not measured."]
    nameless = sum(value is None for value in synthetic.labels)
    named = f"The class of an image is its {label!r}."
    return (
        [named] if not nameless else [f"{named} {nameless} synthetic images have none and do not count for alignment."]
    )


@dataclass(frozen=True)
class _Sets:
    """The three sets with their labels, less the classes on which no classifier can be trained and judged."""

    real: ImageSet
    synthetic: ImageSet
    train: ImageSet | None
    unjudged: frozenset[str]


def _labelled_sets(label: str, real: Manifest, synthetic: Manifest, train: Manifest | None) -> _Sets:
    everything, ours = real_set(real, label, "real"), synthetic_set(synthetic, label)
    trained = real_set(train, label, "training") if train is not None else None
    for known in (everything, trained):
        if known is not None:
            refuse_unknown(ours, known, synthetic.source)
    source = trained or everything
    rare = source.rare_classes(PATIENTS_A_CLASS if trained else 2 * PATIENTS_A_CLASS)
    rare |= everything.rare_classes(PATIENTS_A_CLASS)
    unjudged = rare | ours.classes_beyond(everything) | ours.classes_beyond(source)
    return _Sets(
        everything.without_classes(unjudged),
        ours.without_classes(unjudged),
        trained.without_classes(unjudged) if trained else None,
        unjudged,
    )


def _unjudged_notes(unjudged: frozenset[str]) -> list[str]:
    if not unjudged:
        return []
    shown = sorted(unjudged)[:SHOWN_CLASSES]
    more = f" and {len(unjudged) - len(shown)} more" if len(unjudged) > len(shown) else ""
    return [
        "Classes without enough real patients to train and judge a classifier on, left out of alignment:"
        f" {', '.join(shown)}{more}."
    ]


def _table(
    real: Manifest, synthetic: Manifest, train: Manifest | None, reference: ImageSet, ours: ImageSet, fit: ImageSet
) -> tuple[Mapping[str, Any], ...]:
    rows = [
        _entry(ours, synthetic, "the images in question"),
        _entry(reference, real, "reference: held-out real images"),
    ]
    if len(fit):
        role = (
            "training images of the generator; the judging networks are trained on them"
            if train
            else "trains the judging networks"
        )
        rows.append(_entry(fit, train or real, role))
    return tuple(rows)


def _entry(members: ImageSet, manifest: Manifest, role: str) -> dict[str, Any]:
    return {
        "name": members.name,
        "file": manifest.source.name,
        "fingerprint": manifest.fingerprint(),
        "role": role,
        "images": len(members),
        "units": len(set(members.units)),
        "counted": members.counted,
        "modalities": dict(sorted(Counter(members.groups).items())),
        "classes": dict(sorted(Counter(label for label in members.labels if label is not None).items())),
    }


def require_classes(comparison: Comparison, least: int) -> None:
    """Refuse alignment without a label, or with too few synthetic images that have one.

    Raises:
        UserError: says how many there are and are needed.
    """
    if comparison.fit is None:
        raise UserError(
            "alignment needs a class of each image: name a column of both manifests with --label (they do not both have"
            " a label, finding or class with 2 to 100 values, and there is one modality)."
        )
    labelled = len(comparison.synthetic.labelled())
    if labelled < least:
        raise UserError(f"alignment cannot be measured: {labelled} synthetic images have a class and it needs {least}.")
