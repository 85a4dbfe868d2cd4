"""`medloom data split`: a training and a test manifest with no patient in both."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.files import claim_output, write_json, write_text
from medloom.core.progress import say
from medloom.data.manifest import ManifestOptions, load_manifest, template_of
from medloom.data.splits import assign_splits, make_split
from medloom.data.tables import READERS


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Split a manifest by patient.

    Attributes:
        data: the manifest.
        out: folder for train.csv (training and validation rows, distinguished by its column `split`), test.csv and
            split.json; the table's prompt template is copied along.
        validation: share of the patients for validation.
        test: share of the patients for the test.
        seed: of the random order of patients.
    """

    common: ClassVar[tuple[str, ...]] = ("validation", "test", "seed", "images_are_patients", "skip_bad", "columns")
    example: ClassVar[str] = "medloom data split mine.csv --out split/"

    data: Path
    out: Path
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0


def run(config: Config) -> Path:
    """Split; returns the folder.

    Raises:
        UserError: shares that leave nothing to train on, too few patients, or a table as --out.
    """

    if min(config.validation, config.test) < 0 or config.validation + config.test >= 1:
        raise UserError(
            f"--validation {config.validation} and --test {config.test}: shares are not negative and together below 1."
        )
    if config.out.suffix.lower() in READERS:
        raise UserError(f"--out {config.out}: give a folder; train.csv, test.csv and split.json are written into it.")
    if config.out.resolve() in config.data.resolve().parents and config.data.name in ("train.csv", "test.csv"):
        raise UserError(f"--out {config.out}: the split would overwrite {config.data} itself; name another folder.")
    manifest = load_manifest(config.data, config, ("path",))
    for note in manifest.notes:
        say(note)
    shares = {"train": 1 - config.validation - config.test, "validation": config.validation, "test": config.test}
    splits = assign_splits(manifest, shares, config.seed)
    out = claim_output(config.out, "split.json")
    manifest.frame["split"] = splits
    for file, names in (("train.csv", ("train", "validation")), ("test.csv", ("test",))):
        manifest.select(split in names for split in splits).write(out / file)
        for name in names:
            part = manifest.select(split == name for split in splits)
            say(f"{name}: {len(part)} images of {part.frame['patient_id'].nunique()} patients in {out / file}")
    if template := template_of(config.data):
        write_text(out / "template.yaml", template.read_text(encoding="utf-8"))
    write_json(out / "split.json", make_split(manifest, splits).to_dict())
    return out
