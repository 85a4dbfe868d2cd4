"""Refusing to test a generator on patients that it was trained on."""

from pathlib import Path

from medloom.core.errors import UserError
from medloom.data.manifest import Manifest
from medloom.data.options import ManifestOptions, named_columns

FAMILIES = ("diffusion", "gan", "tokens")


def refuse_seen(config: ManifestOptions, model: Path, path: Path, real: Manifest) -> None:
    """Refuse patients that the generator was trained on, told in the way in which its run told them."""
    from medloom.data.manifest import read_manifest
    from medloom.generators.run_folder import open_run

    run = open_run(model, FAMILIES)
    description = run.description()
    if description["images_are_patients"] and not real.patients_are_images:
        named, skip = named_columns(config), config.skip_bad
        real = read_manifest(path, named=named, images_are_patients=True, skip_bad=skip, need=("path",))
    elif real.patients_are_images and not description["images_are_patients"]:
        raise UserError(
            f"{model} knows its patients by name and {path} was read with --images-are-patients, so that it"
            " cannot be told whom it has seen; name the patients in --real, or leave out --model."
        )
    for split in run.splits():
        split.refuse_overlap(real, str(model))
