"""What images are asked for, one by one, and where their conditions come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_text
from medloom.core.progress import say
from medloom.core.seeds import MAX_SEED
from medloom.core.types import Condition, Sample
from medloom.data.manifest import Manifest, read_manifest
from medloom.generation.options import LABEL_COLUMNS, GenerationOptions
from medloom.generators.generated_images import FACTUAL


@dataclass(frozen=True)
class Source:
    """Where an image's condition comes from.

    Attributes:
        source: hash of the row, salted by the table.
        patient: hash of the patient, salted by the table.
        image: file of the row's own image, which may not exist; None without a row.
    """

    source: str = ""
    patient: str = ""
    image: Path | None = None


@dataclass(frozen=True)
class Request:
    """One image to generate.

    Attributes:
        number: of the image in the folder.
        condition: what it shows.
        seed: of all its noise.
        origin: where the condition comes from.
        cells: of the manifest's further columns.
        arm: `factual`, or what was changed.
        attribute: the columns that were changed.
        value: what they were changed to.
    """

    number: int
    condition: Condition
    seed: int
    origin: Source
    cells: tuple[object, ...] = ()
    arm: str = FACTUAL
    attribute: str | None = None
    value: str | None = None

    @property
    def sample_id(self) -> str:
        """The image's name; nothing of a table is in it."""
        return f"{self.number:06d}"


def read_conditions(options: GenerationOptions, data: Path, need: Sequence[str]) -> Manifest:
    """The manifest of conditions, whose images need not be there; says what was left out of it."""
    manifest = read_manifest(
        data,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
        need_patients=False,
    )
    for note in manifest.notes:
        say(note)
    return manifest


def kept_columns(keep: Sequence[str], manifest: Manifest) -> list[str]:
    """The clinical columns to carry along.

    Raises:
        UserError: one that was asked for and is not there.
    """
    kept = [name for name in keep if name in manifest.clinical_columns]
    if missing := [name for name in keep if name not in kept and name not in LABEL_COLUMNS]:
        raise UserError(f"--keep: {manifest.source} has no clinical column {missing[0]!r}.")
    return kept


def origins(data: Path, samples: Sequence[Sample]) -> list[Source]:
    """Where the images of some rows come from, without saying whose they are."""
    salt = hash_file(data)
    return [
        Source(hash_text(f"{salt}{sample.row}"), hash_text(f"{salt}{sample.patient}"), sample.path)
        for sample in samples
    ]


def check_seeds(options: GenerationOptions, images: int) -> None:
    """Refuse a seed from which so many cannot be counted.

    Raises:
        UserError: the last seed would pass 63 bits.
    """
    if options.seed + images - 1 > MAX_SEED:
        raise UserError(f"--seed {options.seed} with {images} images passes {MAX_SEED}; take a smaller one.")
