"""`medloom data split`: a training and a test manifest with no patient in both."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.files import atomic_file, read_json, write_json, write_text
from medloom.core.lookup import look_up
from medloom.core.output_folder import output_folder
from medloom.core.progress import say
from medloom.core.seeds import check_seed
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import Manifest, ManifestOptions, load_manifest, template_of
from medloom.data.splits import assign_splits, make_split
from medloom.data.tables import READERS

LABELS = ("label", "finding", "class")
# A column with more values is no label, and a split cannot have a share of each.
MOST_VALUES = 100
FILES = {"train.csv": ("train", "validation"), "test.csv": ("test",)}
SPLIT = "split.json"


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Split a manifest by patient.

    Attributes:
        data: the manifest.
        out: folder for train.csv (training and validation rows, distinguished by its column `split`), test.csv and
            split.json; the table's prompt template is copied along.
        validation: share of the patients for validation.
        test: share of the patients for the test.
        stratify: columns of which each part gets its share of the patients of every value, beside modality and a
            column called label, finding or class.
        seed: of the random order of patients.
    """

    common: ClassVar[tuple[str, ...]] = (
        "validation",
        "test",
        "stratify",
        "seed",
        "images_are_patients",
        "skip_bad",
        "columns",
    )
    example: ClassVar[str] = "medloom data split mine.csv --out split/"

    data: Path
    out: Path
    validation: float = 0.1
    test: float = 0.2
    stratify: tuple[str, ...] = ()
    seed: int = 0


def run(config: Config) -> Path:
    """Split; returns the folder.

    Raises:
        UserError: shares that leave nothing to train on, a seed out of range, too few patients, a column `split`
            without rows for a share, or an --out that is a table or holds another split.
    """
    if min(config.validation, config.test) < 0 or config.validation + config.test >= 1:
        raise UserError(
            f"--validation {config.validation} and --test {config.test}: shares are not negative and together below 1."
        )
    check_seed(config.seed)
    if config.out.suffix.lower() in READERS:
        raise UserError(f"--out {config.out}: give a folder; train.csv, test.csv and split.json are written into it.")
    if config.data.resolve() in [(config.out / name).resolve() for name in (*FILES, SPLIT)]:
        raise UserError(f"--out {config.out}: the split would overwrite {config.data} itself; name another folder.")
    manifest = load_manifest(config.data, config, ("path",))
    for note in manifest.notes:
        say(note)
    columns = _stratified_columns(config, manifest)
    shares = {"train": 1 - config.validation - config.test, "validation": config.validation, "test": config.test}
    splits = assign_splits(manifest, shares, config.seed, columns)
    for name, share in shares.items():
        if share > 0 and name not in splits:
            raise UserError(
                f"{config.data}: its column 'split' gives no row to {name}; leave the column out to split anew, or give"
                f" --{name} 0."
            )
    manifest.frame["split"] = splits
    _write(config, manifest, splits)
    for name in shares:
        part = manifest.select(split == name for split in splits)
        file = next(file for file, names in FILES.items() if name in names)
        say(f"{name}: {len(part)} images of {part.frame['patient_id'].nunique()} patients in {config.out / file}")
        for column in columns:
            lacking = sorted(set(_values(manifest, column)) - set(_values(part, column)))
            if len(part) and lacking:
                named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
                say(f"{name} has no image with {column} {named}; too few patients have it.")
    return config.out


def _write(config: Config, manifest: Manifest, splits: list[str]) -> None:
    """Write the parts, unless the folder holds other ones.

    Raises:
        UserError: the folder holds another split, or something else.
    """
    with output_folder(config.out, SPLIT) as out:
        # First what the folder holds, so that a run that is killed can be resumed.
        wanted = make_split(manifest, splits).to_dict()
        if (out / SPLIT).is_file() and read_json(out / SPLIT) != wanted:
            raise UserError(f"--out {out} holds another split ({SPLIT} differs); name a new folder.")
        write_json(out / SPLIT, wanted)
        for file, names in FILES.items():
            # Written where it will lie, because paths are relative to the folder.
            with atomic_file(out / file) as part:
                manifest.select(split in names for split in splits).write(part)
                if (out / file).exists() and (out / file).read_bytes() != part.read_bytes():
                    raise UserError(f"--out {out} holds another split ({file} differs); name a new folder.")
        if template := template_of(config.data):
            write_text(out / "template.yaml", template.read_text(encoding="utf-8"))


def _stratified_columns(config: Config, manifest: Manifest) -> list[str]:
    """Modality, a column of labels, and those that are asked for; without columns of one value.

    Raises:
        UserError: a column that is not there, or that has too many values.
    """
    known = {name: name for name in manifest.frame.columns if name not in (*PATH_COLUMNS, "line", "patient_id")}
    asked = [look_up(known, name, f"--stratify: column of {config.data}") for name in config.stratify]
    for name in asked:
        if len(set(_values(manifest, name))) > MOST_VALUES:
            raise UserError(f"--stratify {name}: more than {MOST_VALUES} values; name a column of few.")
    usual = ["modality", *(name for name in manifest.clinical_columns if name.casefold() in LABELS)]
    found = dict.fromkeys([*usual, *asked])
    return [name for name in found if 1 < len(set(_values(manifest, name))) <= MOST_VALUES]


def _values(manifest: Manifest, column: str) -> list[str]:
    return [text for cell in manifest.frame[column] if (text := spelled(cell))]
