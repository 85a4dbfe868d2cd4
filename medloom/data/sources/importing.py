"""Shared parts of the imports: options, printed tables, and the written manifest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.paths import absolute, portable

if TYPE_CHECKING:
    import pandas as pd

    from medloom.data.sources.report_texts import TextRules, Texts
    from medloom.data.sources.tally import Tally

PREVIEWED = 10
DESCRIPTION = ".import.json"
# The options that the description leaves out.
FOLDERS = ("root", "out", "reports", "tables", "demographics", "images")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of every import.

    Attributes:
        root: folder of the data.
        out: manifest to write, CSV; a file of the same name ending in .import.json describes what was left out.
        skip_bad: skip unusable images, and print their number.
        preview: print ten rows and write nothing.
    """

    root: Path
    out: Path | None = None
    skip_bad: bool = False
    preview: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportOptions(ImportOptions):
    """Options of an import with reports.

    Attributes:
        sections: sections of the report that may become its Text; the first one in the report does.
        section_columns: sections that get a column of their own, verbatim; report means all of them with their
            headings, which `medloom data journeys --columns text=report` compares.
        strip_comparisons: remove comparisons with prior studies from Text, by the rules of
            medloom.report_text.comparisons.
        keep_without_text: keep rows without a text, with an empty Text, instead of leaving them out.
    """

    sections: tuple[str, ...] = ("impression", "findings")
    section_columns: tuple[str, ...] = ()
    strip_comparisons: bool = False
    keep_without_text: bool = False


def text_rules(config: ReportOptions, columns: Sequence[str] = ()) -> "TextRules":
    """The text rules of the options; `columns` are sections that always get a column.

    Raises:
        UserError: a name that is not a section.
    """
    from medloom.data.sources.report_texts import TextRules

    named = tuple(dict.fromkeys((*columns, *config.section_columns)))
    return TextRules(config.sections, named, config.strip_comparisons, config.keep_without_text)


def check_options(config: ImportOptions) -> None:
    """Check the output options before anything is read.

    Raises:
        UserError: no --out, not a CSV file, or a file of another origin.
    """
    out = config.out
    if config.preview:
        return
    if out is None:
        raise UserError("name the manifest to write with --out, or print ten rows with --preview.")
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: the manifest is a CSV file; give a name that ends in .csv.")
    if out.exists() and not (out.is_file() and description_of(out).is_file()):
        raise UserError(f"--out {out} already exists and was not written by this command; give another name.")


def check_folder(config: ImportOptions) -> None:
    """Check that the root is a folder.

    Raises:
        UserError: it is not.
    """
    if not config.root.is_dir():
        raise UserError(f"{config.root} does not exist or is not a folder; name the folder of the data.")


def description_of(out: Path) -> Path:
    """The file that describes the import of a manifest."""
    return out.with_suffix(DESCRIPTION)


def paths_of(config: ImportOptions, folder: Path, files: "pd.Series[str]") -> "pd.Series[str]":
    """The manifest's paths for files in a folder: relative to the manifest's own folder where they can be."""
    where = portable(str(absolute(folder)), absolute(config.out.parent if config.out else Path()))
    return files if where in (None, ".") else f"{where}/" + files


def finish(
    config: ImportOptions, frame: "pd.DataFrame", columns: Sequence[str], tally: "Tally", texts: "Texts | None" = None
) -> Path | None:
    """Print a summary, and write the manifest or, for a preview, print its first rows.

    Args:
        config: output file and preview.
        frame: the rows.
        columns: columns to write, in order.
        tally: counts of what was left out.
        texts: the texts of the reports, if any.

    Returns:
        The manifest's path, or None after a preview.

    Raises:
        UserError: no row remains.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from medloom.core.config import plain
    from medloom.core.files import write_json
    from medloom.core.output_folder import output_files
    from medloom.core.progress import say
    from medloom.data.tables import write_csv

    console = Console(highlight=False)
    if texts is not None:
        table = Table("section", "reports with it", "used as Text", title="reports", title_justify="left")
        for name, count in texts.had.items():
            used = texts.used[name]
            table.add_row("all" if name == "reports" else name, str(count), str(used) if used else "")
        console.print(table)
    # Rows and patients of each modality, view and split.
    table = Table("", "rows", "patients", title="rows", title_justify="left")
    table.add_row("all", str(len(frame)), str(frame["patient_id"].nunique()))
    for name in ("modality", "view", "split"):
        if name in frame:
            for value, part in frame.groupby(name):
                table.add_row(f"{name} {str(value) or '(none)'}", str(len(part)), str(part["patient_id"].nunique()))
    console.print(table)
    # Names are wrapped, not truncated, so that they can be looked up.
    names = Column("examples", overflow="fold")
    table = Table("requirement", "not met by", "", names, title="rules", title_justify="left")
    for entry in tally.entries:
        table.add_row(
            entry.rule, f"{entry.count} {entry.what}", entry.fate if entry.count else "", ", ".join(entry.names)
        )
    console.print(table)
    if not len(frame):
        raise UserError(f"{config.root}: no row remains; the table above states what each rule left out.")
    if config.preview or config.out is None:
        for number, row in enumerate(frame.head(PREVIEWED)[list(columns)].to_dict("records"), 1):
            print(f"row {number}")
            for column, cell in row.items():
                if cell != "":
                    print(f"  {column}: {cell}")
        return None
    described = {
        "options": {name: value for name, value in plain(asdict(config)).items() if name not in FOLDERS},
        "rows": len(frame),
        "rules": [{"rule": e.rule, "count": e.count, "of": e.what, "fate": e.fate} for e in tally.entries],
        "reports": {"had": texts.had, "used": dict(texts.used)} if texts else {},
    }
    with output_files(config.out, description_of(config.out)):
        # First what says that this command writes the manifest, so that it may be killed.
        write_json(description_of(config.out), described)
        write_csv(config.out, columns, frame[list(columns)].values.tolist())
    say(f"{len(frame)} rows of {frame['patient_id'].nunique()} patients: {config.out}")
    return config.out
