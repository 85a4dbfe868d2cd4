"""`medloom data check`: what is in a manifest, and what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from medloom.core.errors import UserError
from medloom.data.columns import PATH_COLUMNS
from medloom.data.inspection import inspect_images
from medloom.data.manifest import Manifest, ManifestOptions, inspect_manifest

# Up to this many rows pixels are read without asking.
DECODED_ROWS = 10_000
SHOWN = 50
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
        UserError: the table as a whole cannot be read.
    """

    if config.decode not in ("always", "never", "auto"):
        raise UserError(f"--decode {config.decode}: allowed are always, never, auto.")
    manifest = inspect_manifest(config.data, named=config.columns)
    decode = config.decode == "always" or (config.decode == "auto" and len(manifest) <= DECODED_ROWS)
    inspection = inspect_images(manifest, decode, config.unit)
    problems = sorted([*manifest.problems, *inspection.problems], key=lambda problem: problem.line)

    console = Console(highlight=False)
    summary = Table(title=str(config.data), title_justify="left", show_header=False)
    summary.add_row("rows", f"{len(manifest) + len(manifest.problems)}")
    summary.add_row("rows that cannot be used", f"{len(problems)}")
    summary.add_row("patients", _patients(config, manifest))
    summary.add_row("modalities", ", ".join(manifest.modalities))
    summary.add_row("different texts", str(manifest.frame["text"].nunique()))
    summary.add_row("pixels", "read" if inspection.decoded else "not read (--decode always reads them)")
    console.print(summary)

    images = Table("modality", "images", "files", title="images", title_justify="left")
    for modality, kinds in sorted(inspection.kinds.items()):
        common = kinds.most_common(4)
        listed = "\n".join(f"{count} {description}" for description, count in common)
        more = "" if len(kinds) <= len(common) else f"\n... and {len(kinds) - len(common)} more kinds"
        images.add_row(modality, str(sum(kinds.values())), listed + more)
    console.print(images)

    columns = Table("column", "type", "missing", "examples", title="columns", title_justify="left")
    standard = [str(name) for name in manifest.frame.columns if name in manifest.columns]
    for name in [*standard, *manifest.clinical_columns]:
        present = manifest.frame[name].dropna()
        numeric = len(present) and present.map(lambda cell: isinstance(cell, int | float)).all()
        kind = "standard" if name in standard else ("number" if numeric else "text")
        examples = ", ".join(str(cell)[:24] for cell in present.drop_duplicates().head(3))
        missing = str(len(manifest) - len(present))
        columns.add_row(name, kind, missing, "" if name in (*PATH_COLUMNS, "patient_id") else examples)
    console.print(columns)

    if inspection.identical:
        what = "whose pixels are the same" if inspection.decoded else "that are the same byte for byte"
        console.print(f"{len(inspection.identical)} groups of images {what}; lines:")
        for lines in inspection.identical[:SHOWN]:
            console.print("  " + ", ".join(map(str, lines)))
    for problem in problems[:SHOWN]:
        print(f"line {problem.line}: {problem.reason}")
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
