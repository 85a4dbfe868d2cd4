"""Refusing to test a model on patients that it, or what it starts from, was trained on."""

from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.data.manifest import Manifest, images_as_patients
from medloom.data.splits import Split
from medloom.generators.preparation import Prepared
from medloom.generators.run_folder import RunFolder


def refuse_seen(model: Path, path: Path, real: Manifest) -> None:
    """Refuse patients that the generator was trained on, identified in the way in which its run identified them."""
    from medloom.generators.storage import open_generator

    refuse_seen_by(open_generator(model), model, path, real)


def refuse_seen_by(run: RunFolder, model: Path, path: Path, real: Manifest, option: str = "--model") -> None:
    """Refuse patients that a run was trained on, identified in the way in which it identified them.

    Args:
        run: of any family.
        model: its folder, as the user named it.
        path: of the manifest of `real`.
        real: images to evaluate on.
        option: that named the run, for messages.

    Raises:
        UserError: a patient of `real` was in training, or patients that cannot be compared.
    """
    description = run.description()
    if description["images_are_patients"] and not real.patients_are_images:
        real = images_as_patients(real)
    elif real.patients_are_images and not description["images_are_patients"]:
        raise UserError(
            f"{model} knows its patients by name and {path} was read with --images-are-patients, so that its"
            f" training patients cannot be compared with them; name the patients in --real, or leave out {option}."
        )
    for split in run.splits():
        split.refuse_overlap(real, str(model))


def refuse_seen_parent(found: RunFolder, prepared: Prepared, what: str) -> None:
    """Refuse a run to start from that has seen the test set; say where it has seen images held out for validation.

    Args:
        found: the run.
        prepared: the data of what starts from it.
        what: it is: autoencoder, text encoder.
    """

    seen = Split.from_dict(found.description()["split"])
    frame, split = prepared.manifest.frame, prepared.split
    tested = set(split.seen(list(frame["patient_id"]), "test"))
    test = prepared.manifest.select(patient in tested for patient in frame["patient_id"])
    seen.refuse_overlap(test, f"the {what} {found.path}")
    held_out = [sample.patient for sample in prepared.validation.samples]
    if known := seen.seen(held_out):
        say(f"{len(known)} patients held out for validation were in the training set of the {what} {found.path}.")
