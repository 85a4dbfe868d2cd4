"""From manifests to the sets that are compared: the reference, the synthetic images, and images to train judges on."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medloom.core.errors import UserError
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import ImageSource, measure_spec, read_headers
from medloom.data.manifest import Manifest
from medloom.downstream.classifier import hold_out
from medloom.evaluation.images.joint_encoders import JointEncoder
from medloom.evaluation.images.sets import (
    AUTO,
    CLASSES,
    MODALITY,
    NONE,
    ImageSet,
    choose_label,
    real_set,
    synthetic_set,
)
from medloom.evaluation.images.subsets import bands, check_columns, tagged
from medloom.phantom.cohort import count_virtual

HALF = 0.5
FIRST_HALF, SECOND_HALF = "real, first half", "real, second half"
# A classifier is trained on some patients of a class and selected on others.
PATIENTS_PER_CLASS = 2
LISTED_CLASSES = 20
READ_AT_ONCE = 64
# Pixels of the images of two axes and of volumes, where no number is given.
DEFAULT_SIZE = {2: (64,), 3: (32,)}
# Name of the control set, and the images that it needs: as many as the synthetic set for fidelity.
CONTROL, LEAST_CONTROL = "control", 20


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        real: held-out real images, the reference of everything.
        synthetic: the images that are evaluated.
        fit: labelled real images that the classifier is trained on; None if there is no label.
        other_real: all real images outside the reference; feature encoders are trained on them.
        train: the generator's training images; None if they were not given.
        label: the column of the classes, `modality` or `none`.
        spec: the space in which images are read, measured on real images.
        table: a row per set, for the report.
        notes: how the sets were made.
        control: images that the user knows to be bad; None if they were not given.
        joint: encoder of images and texts in one space; None if none was given.
    """

    real: ImageSet
    synthetic: ImageSet
    fit: ImageSet | None
    other_real: ImageSet
    train: ImageSet | None
    label: str
    spec: ImageSpec
    table: tuple[Mapping[str, object], ...]
    notes: tuple[str, ...]
    control: ImageSet | None = None
    joint: JointEncoder | None = None


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
    control: Manifest | None = None,
) -> Comparison:
    """Put the sets of an evaluation together.

    With a training manifest the classifier is trained on it, and all of `real` is the reference. Without one the
    classifier is trained on one half of the patients of `real`, and the other half is the reference.

    Args:
        real: real images that the generator was not trained on.
        synthetic: what it generated.
        train: what it was trained on, or None.
        label: see `choose_label`.
        image_size: pixels of the classifier's images: of each axis, one for all axes, or none for DEFAULT_SIZE.
        resize: how images are brought to that size.
        seed: of the halves.
        unit: of files that do not state theirs.
        set_apart: without a label and a training manifest, whether half of `real` is kept to train an encoder on.
        by: columns of all manifests whose values, or bands of numbers, are measured on their own.
        control: images that are known to be bad, or None.

    Raises:
        UserError: files or patients in two sets; a column that is missing; a label that cannot be used; a class or
            modality without real images.
    """
    references = [real] if train is None else [real, train]
    for other in references:
        _refuse_shared(synthetic, other, "synthetic and as real images")
    if train is not None and (known := set(train.frame["patient_id"]) & set(real.frame["patient_id"])):
        raise UserError(
            f"{len(known)} of the {real.frame['patient_id'].nunique()} patients of {real.source} are in {train.source}"
            " too; give images of patients that were not trained on as --real."
        )
    check_columns(by, synthetic, *references, *([control] if control is not None else []))
    chosen = choose_label(label, real, synthetic)
    everything, ours, trained, unjudged = _labelled_sets(chosen, real, synthetic, train)
    if label == AUTO and chosen != MODALITY and unjudged and len(real.modalities) > 1:
        # A column of free text is no class label, whatever its name; one that was asked for is used as far as it goes.
        chosen = MODALITY
        everything, ours, trained, unjudged = _labelled_sets(chosen, real, synthetic, train)
    alone: list[str] = []
    if chosen != NONE and len((trained or everything).classes) < CLASSES[0]:
        alone.append(f"The class would be {chosen!r}, but fewer than two of its values have enough real patients.")
        chosen = NONE
        everything, ours, trained, unjudged = _labelled_sets(chosen, real, synthetic, train)
    if trained is not None:
        reference, fit, other_real = everything, trained.labelled(), trained
    else:
        reference, fit = _divided(everything, chosen != NONE, set_apart, seed)
        other_real = fit
    notes = [note for manifest in (real, synthetic, train) if manifest is not None for note in manifest.notes]
    notes += alone + _class_notes(chosen, synthetic_set(synthetic, chosen).labels, unjudged)
    role = f"{'training images of the generator; ' if train else ''}the judging networks are trained on them"
    table = [
        _entry(ours, synthetic, "the images that are evaluated"),
        _entry(reference, real, "reference: held-out real images"),
        *([_entry(trained or fit, train or real, role)] if len(trained or fit) else []),
    ]
    bad = None if control is None else _control(control, [synthetic, *references], chosen, everything, fit)
    if bad is not None and control is not None:
        table.append(_entry(bad, control, "control: images that are known to be bad"))
    cuts, several = bands(reference, by), len(set(reference.groups)) > 1
    return Comparison(
        real=tagged(reference, by, cuts, several),
        synthetic=tagged(ours, by, cuts, several),
        fit=fit if chosen != NONE else None,
        other_real=other_real,
        train=tagged(trained, by, cuts, several) if trained is not None else None,
        label=chosen,
        spec=measure_spec(
            [*everything.samples, *(trained.samples if trained else ())],
            _size(everything.samples[0], image_size, unit),
            resize,
            unit,
        ),
        table=tuple(table),
        notes=tuple(notes),
        control=tagged(bad, by, cuts, several) if bad is not None else None,
    )


def _divided(everything: ImageSet, has_classes: bool, set_apart: bool, seed: int) -> tuple[ImageSet, ImageSet]:
    """The real images that are the reference, and those of other patients that judging networks are trained on.

    Without classes the latter are half of the patients if they are `set_apart`, else none.
    """
    if has_classes:
        labelled = everything.labelled()
        held = hold_out(labelled.units, [str(name) for name in labelled.labels], HALF, seed)
        fit = labelled.rows(np.setdiff1d(np.arange(len(labelled)), held), FIRST_HALF)
        taken = set(fit.units)
        others = [row for row, patient in enumerate(everything.units) if patient not in taken]
        return everything.rows(others, SECOND_HALF), fit
    if not set_apart:
        return everything, everything.rows([])
    everyone = numpy_generator("halves", seed).permutation(np.unique(everything.units))
    first = np.isin(everything.units, everyone[: len(everyone) // 2])
    return everything.rows(np.flatnonzero(~first), SECOND_HALF), everything.rows(np.flatnonzero(first), FIRST_HALF)


def _size(first: Sample, image_size: tuple[int, ...], unit: str | None) -> tuple[int, ...]:
    """Pixels of each axis, of which a number without others is of all."""
    if len(image_size) > 1:
        return image_size
    (header,) = read_headers([first], unit, verbose=False)
    axes = len(header.size)
    return (image_size or DEFAULT_SIZE[axes])[:1] * axes


def _refuse_shared(one: Manifest, other: Manifest, different: str) -> None:
    """Refuse two manifests that share files; `different` says as what different files are to be given."""
    if shared := sorted(set(one.frame["path"]) & set(other.frame["path"])):
        raise UserError(
            f"{one.source} and {other.source} share {len(shared)} of their files ({Path(shared[0])}, ...);"
            f" give different files as {different}."
        )


def _control(control: Manifest, others: Sequence[Manifest], label: str, real: ImageSet, fit: ImageSet) -> ImageSet:
    """The control set, whose images of classes that are not judged have none.

    Raises:
        UserError: files of another set, too few images, no column of the class, or a modality without real images.
    """
    for other in others:
        _refuse_shared(control, other, "--control and as the other sets")
    if len(control) < LEAST_CONTROL:
        raise UserError(f"--control: {control.source} has {len(control)} images; give {LEAST_CONTROL} or more.")
    if label not in (NONE, *control.frame.columns):
        raise UserError(
            f"--control: {control.source} has no column {label!r}, the class of the other sets; add it (`medloom"
            f" generate --keep {label}` writes it), or give --label none."
        )
    members = replace(synthetic_set(control, label), name=CONTROL)
    if unknown := sorted(set(members.groups) - set(real.groups)):
        raise UserError(
            f"--control: {control.source} has images of modality {unknown[0]!r}, of which there is no real image;"
            f" known: {', '.join(sorted(set(real.groups)))}."
        )
    return members.without_classes(members.classes - (real.classes & fit.classes))


def _class_notes(label: str, synthetic: Sequence[str | None], unjudged: Collection[str]) -> list[str]:
    """What is said about the classes of the synthetic images, and which of them are not judged."""
    if label == NONE:
        return ["No class label: alignment is not measured."]
    unnamed = sum(value is None for value in synthetic)
    lacking = f" {unnamed} synthetic images have none and do not count for alignment." if unnamed else ""
    left_out = sum(value in unjudged for value in synthetic)
    notes = [f"The class of an image is its {label!r}.{lacking}"]
    if unjudged:
        listed = sorted(unjudged)[:LISTED_CLASSES]
        more = f" and {len(unjudged) - len(listed)} more" if len(unjudged) > len(listed) else ""
        notes.append(
            "Classes without enough real patients to train and test a classifier on, left out of alignment:"
            f" {', '.join(listed)}{more}. {left_out} synthetic images are of these classes."
        )
    return notes


def _labelled_sets(
    label: str, real: Manifest, synthetic: Manifest, train: Manifest | None
) -> tuple[ImageSet, ImageSet, ImageSet | None, frozenset[str]]:
    """The real, synthetic and training images without the classes that no classifier can be trained and tested on; and
    these classes.
    """
    everything, ours = real_set(real, label, "real"), synthetic_set(synthetic, label)
    trained = real_set(train, label, "training") if train is not None else None
    for known in (everything, *([trained] if trained else [])):
        modalities = set(known.groups)
        if unknown := Counter(group for group in ours.groups if group not in modalities):
            name, count = unknown.most_common(1)[0]
            raise UserError(
                f"{synthetic.source}: {count} rows are of modality {name!r}, of which there is no real image;"
                f" known: {', '.join(sorted(modalities))}."
            )
    source = trained or everything
    unjudged = source.rare_classes(PATIENTS_PER_CLASS if trained else 2 * PATIENTS_PER_CLASS)
    unjudged |= everything.rare_classes(PATIENTS_PER_CLASS)
    unjudged |= ours.classes - (everything.classes & source.classes)
    judged = [known.without_classes(unjudged) for known in (everything, ours)]
    return judged[0], judged[1], trained.without_classes(unjudged) if trained else None, unjudged


def _entry(members: ImageSet, manifest: Manifest, role: str) -> dict[str, object]:
    return {
        "name": members.name,
        "file": manifest.source.name,
        "fingerprint": manifest.fingerprint(),
        "role": role,
        "virtual_images": count_virtual(sample.path for sample in members.samples),
        **_counts(members),
    }


def _counts(members: ImageSet) -> dict[str, object]:
    """What the report's table counts in a set."""
    return {
        "images": len(members),
        "units": len(set(members.units)),
        "counted": members.counted,
        "modalities": dict(sorted(Counter(members.groups).items())),
        "classes": dict(sorted(Counter(label for label in members.labels if label is not None).items())),
    }


def with_fewer(comparison: Comparison, fewer: Mapping[str, ImageSet], notes: Sequence[str]) -> Comparison:
    """The comparison with fewer images in some sets, which its table counts anew.

    Args:
        comparison: the whole one.
        fewer: name of an attribute to what is left of the set.
        notes: say what was left out.
    """
    left = {members.name: _counts(members) for members in fewer.values()}
    table = tuple({**entry, **left.get(str(entry["name"]), {})} for entry in comparison.table)
    return replace(comparison, **fewer, table=table, notes=(*comparison.notes, *notes))  # type: ignore[arg-type]


def readable_only(comparison: Comparison, unit: str | None = None) -> Comparison:
    """The comparison without images that cannot be decoded, for `--skip-bad`; the notes say how many there were.

    Raises:
        UserError: no image of a set can be read.
    """
    notes: list[str] = []
    changed: dict[str, ImageSet] = {}
    for name in ("real", "synthetic", "fit", "other_real", "train", "control"):
        members: ImageSet | None = getattr(comparison, name)
        if members is None or not len(members):
            continue
        source = ImageSource(members.samples, comparison.spec, unit, {})
        usable: list[int] = []
        with progress(f"reading {members.name} images", len(members), "images") as advance:
            for start in range(0, len(members), READ_AT_ONCE):
                rows = range(start, min(start + READ_AT_ONCE, len(members)))
                _, bad = source.readable_images(rows)
                usable += [row for row, refused in zip(rows, bad, strict=True) if not refused]
                advance(len(rows))
        if not usable:
            raise UserError(
                f"none of the {len(members)} {members.name} images can be read; `medloom data check` says why."
            )
        if left_out := len(members) - len(usable):
            notes.append(f"{left_out} {members.name} images cannot be read and were left out (--skip-bad).")
        changed[name] = members.rows(usable)
    return with_fewer(comparison, changed, notes)
