"""`medloom data import openi`: the Open-i chest X-ray reports become a manifest, or a table of conditions."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.data.sources.importing import ReportOptions, check_options, finish, paths_of, text_rules
from medloom.data.sources.openi import COLUMNS, image_rows, read_openi, report_rows
from medloom.data.sources.report_texts import add_texts, gather_texts
from medloom.data.sources.tally import Tally, keep_values

MODALITY = "X-ray"


@dataclass(frozen=True, kw_only=True)
class Config(ReportOptions):
    """Make a manifest of the Open-i reports; without images, a table of texts for `medloom generate --data`.

    Attributes:
        root: folder of the reports' XML files, or their archive (NLMCXR_reports.tgz), which is read where it lies.
        images: folder of the images, named <image>.png (NLMCXR_png.tgz); without it, a row is a report and has no path.
        view: views that are taken: PA, AP, lateral (default: all, those without a view included).
    """

    common: ClassVar[tuple[str, ...]] = (
        "out",
        "images",
        "view",
        "sections",
        "section_columns",
        "strip_comparisons",
        "keep_without_text",
        "skip_bad",
        "preview",
    )
    example: ClassVar[str] = "medloom data import openi NLMCXR_reports.tgz --images NLMCXR_png/ --out openi.csv"

    images: Path | None = None
    view: tuple[str, ...] = ()


def run(config: Config) -> Path | None:
    """Import; returns the table's path, or None after a preview.

    Raises:
        UserError: reports that cannot be read, images that are missing and not to be skipped, an unknown view or
            section, or no row that is left.
    """

    check_options(config)
    rules = text_rules(config, COLUMNS)
    tally = Tally()
    read = read_openi(config.root)
    tally.add("a file that can be read", len(read.problems), "files", names=read.problems)
    if read.problems and not (config.skip_bad and read.reports):
        name, reason = next(iter(read.problems.items()))
        raise UserError(
            f"{config.root}: {len(read.problems)} files cannot be read ({name}: {reason}, say); get them again, or go"
            " on without them with --skip-bad."
        )
    if config.images is None:
        frame = report_rows(read.reports)
    else:
        frame = image_rows(read.reports, config.images, config.skip_bad, tally)
        frame = frame.assign(path=paths_of(config, config.images, frame["file"]))
    frame = keep_values(frame, "view", config.view, tally)
    named = set(frame["patient_id"])
    texts = gather_texts(((report.id, report.sections) for report in read.reports if report.id in named), rules)
    frame = add_texts(frame, "patient_id", texts, rules, tally).assign(modality=MODALITY)
    first = ["path"] if config.images else []
    columns = [*first, "Text", "modality", "view", "patient_id", *rules.column_names, "mesh"]
    return finish(config, frame, columns, tally, texts)
