"""`medloom data check`: what is in a manifest, and what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from medloom.core.cells import printable
from medloom.core.errors import UserError
from medloom.data.columns import PATH_COLUMNS
from medloom.data.inspection import inspect_images
from medloom.data.manifest import (
    Manifest,
    ManifestOptions,
    frame_option,
    inspect_manifest,
    refuse_several_images,
)
from medloom.data.units import AIR, joined_units, require_modalities

# Up to this many rows pixels are read without asking.
DECODED_ROWS = 10_000
SHOWN, LISTED = 50, 8
PROBLEMS_FOUND = 2


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Check a manifest; ends with status 2 where rows cannot be used.

    Attributes:
        data: the manifest.
        decode: read every pixel (always, never, or auto: up to 10,000 rows).
    """

    common: ClassVar[tuple[str, ...]] = ("decode", "images_are_patients", "columns", "unit")
    example: ClassVar[str] = "medloom data check mine.csv"

    data: Path
    decode: str = "auto"


def run(config: Config) -> int:
    """Print the tables; returns the exit status.

    Raises:
        UserError: the table as a whole cannot be read, or has patients with several images and
            --images-are-patients.
    """

    if config.decode not in ("always", "never", "auto"):
        raise UserError(f"--decode {config.decode}: allowed are always, never, auto.")
    manifest = inspect_manifest(config.data, named=config.columns, image_frame=frame_option(config.frame))
    if config.images_are_patients:
        refuse_several_images(manifest)
    decode = config.decode == "always" or (config.decode == "auto" and len(manifest) <= DECODED_ROWS)
    unit = joined_units(config.unit, manifest.units)
    require_modalities(unit, manifest.modalities)
    inspection = inspect_images(manifest, decode, unit)
    problems = sorted([*manifest.problems, *inspection.problems], key=lambda problem: problem.line)

    # Cells may hold anything, square brackets too.
    console = Console(highlight=False, markup=False)
    summary = Table(title=str(config.data), title_justify="left", show_header=False)
    summary.add_row("rows", f"{len(manifest) + len(manifest.problems)}")
    summary.add_row("rows that cannot be used", f"{len(problems)}")
    summary.add_row("patients", _patients(config, manifest))
    summary.add_row("modalities", printable(", ".join(manifest.modalities)))
    summary.add_row("different texts", str(manifest.frame["text"].nunique()))
    summary.add_row("pixels", "read" if inspection.decoded else "not read (--decode always reads them)")
    console.print(summary)

    images = Table("modality", "images", "files", title="images", title_justify="left")
    for modality, kinds in sorted(inspection.kinds.items()):
        common = kinds.most_common(4)
        listed = "\n".join(f"{count} {description}" for description, count in common)
        more = "" if len(kinds) <= len(common) else f"\n... and {len(kinds) - len(common)} more kinds"
        images.add_row(printable(modality), str(sum(kinds.values())), listed + more)
    console.print(images)

    columns = Table("column", "type", "missing", "examples", title="columns", title_justify="left")
    standard = [str(name) for name in manifest.frame.columns if name in manifest.columns]
    for name in [*standard, *manifest.clinical_columns]:
        present = manifest.frame[name].dropna()
        numeric = len(present) and present.map(lambda cell: isinstance(cell, int | float)).all()
        kind = "standard" if name in standard else ("number" if numeric else "text")
        examples = ", ".join(str(cell)[:24] for cell in present.drop_duplicates().head(3))
        missing = str(len(manifest) - len(present))
        hidden = name in (*PATH_COLUMNS, "patient_id")
        columns.add_row(printable(name), kind, missing, "" if hidden else printable(examples))
    console.print(columns)

    if inspection.identical:
        what = "whose pixels are the same" if inspection.decoded else "that are the same byte for byte"
        console.print(f"{len(inspection.identical)} groups of images {what}; lines:")
        for lines in inspection.identical[:SHOWN]:
            console.print("  " + ", ".join(map(str, lines)))
    for note in manifest.notes:
        print(printable(note))
    if doubtful := inspection.doubtful:
        more = f" and {len(doubtful) - LISTED} more" if len(doubtful) > LISTED else ""
        print(
            f"{len(doubtful)} images are said to be in HU and are hardly CT: no value below {AIR:g}, or another"
            f" modality; lines {', '.join(map(str, doubtful[:LISTED]))}{more}"
        )
    for folder, names in inspection.left_aside.items():
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        print(printable(f"{folder}: {len(names)} files are no slices: {', '.join(names[:LISTED])}{more}"))
    for problem in problems[:SHOWN]:
        print(printable(f"line {problem.line}: {problem.reason}"))
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN} more")
    return PROBLEMS_FOUND if problems else 0


def _patients(config: Config, manifest: Manifest) -> str:
    if config.images_are_patients:
        return f"{len(manifest)} (every image is one)"
    if "patient_id" not in manifest.frame:
        return "not named: training needs a column patient_id, or --images-are-patients"
    nameless = int(manifest.frame["patient_id"].isna().sum())
    return f"{manifest.frame['patient_id'].nunique()}" + (f"; {nameless} rows name none" if nameless else "")
