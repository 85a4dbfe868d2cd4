"""`medloom data import mimic-cxr`: MIMIC-CXR or MIMIC-CXR-JPG becomes a manifest with reports, labels and patients."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.progress import progress, say
from medloom.core.seeds import check_seed
from medloom.data.sources.importing import ReportOptions, check_folder, check_options, finish, paths_of, text_rules
from medloom.data.sources.mimic_cxr import (
    find_layout,
    find_reports,
    on_disk,
    one_per_study,
    read_images,
    read_reports,
    report_files,
    require_reports,
)
from medloom.data.sources.mimic_tables import add_demographics, add_labels, add_split
from medloom.data.sources.report_texts import add_texts, gather_texts
from medloom.data.sources.tally import Tally, keep_values

MODALITY = "X-ray"
READ_FOR_PREVIEW = 100
FIRST = ("path", "Text", "modality", "view", "patient_id", "study_id", "time")


@dataclass(frozen=True, kw_only=True)
class Config(ReportOptions):
    """Make a manifest of MIMIC-CXR: one image a row, with its report, view, time, split, labels and patient.

    Attributes:
        root: folder of MIMIC-CXR-JPG or MIMIC-CXR: holds `files`, or p10, p11, ... itself.
        tables: folder of mimic-cxr-*-metadata.csv and the tables of labels and splits, gzipped or not (default: root).
        reports: folder of the unpacked reports (default: root).
        demographics: folder of MIMIC-IV, for age, sex and race.
        view: views that are taken, as ViewPosition has them (default: all).
        one_per_study: take one image of each study: the first view of --view, else of PA, AP, LATERAL, LL.
        split: official (the table), p10-p18 (p19 is the test, the others training and validation), or none.
        validation: share of the patients of p10-p18 for validation.
        seed: of that share.
        labels: chexpert, negbio or none.
        uncertain: what becomes of labels that the report is uncertain of: mask (empty), positive, negative, or keep
            (-1).
    """

    common: ClassVar[tuple[str, ...]] = (
        "out",
        "tables",
        "reports",
        "view",
        "one_per_study",
        "split",
        "labels",
        "uncertain",
        "sections",
        "section_columns",
        "strip_comparisons",
        "skip_bad",
        "preview",
    )
    example: ClassVar[str] = "medloom data import mimic-cxr mimic-cxr-jpg/ --reports mimic-cxr-reports/ --out mimic.csv"

    tables: Path | None = None
    reports: Path | None = None
    demographics: Path | None = None
    view: tuple[str, ...] = ()
    one_per_study: bool = False
    split: str = "official"
    validation: float = 0.1
    seed: int = 0
    labels: str = "chexpert"
    uncertain: str = "mask"


def run(config: Config) -> Path | None:
    """Import; returns the manifest's path, or None after a preview.

    Raises:
        UserError: folders that lack what is looked for, tables that are damaged, options out of range, images that
            cannot be used and are not to be skipped, or no row that is left.
    """

    check_options(config)
    check_seed(config.seed)
    check_folder(config)
    rules = text_rules(config)
    tally = Tally()

    # The images that are wanted and there, with path and split.
    tables = config.tables or config.root
    frame = keep_values(read_images(tables, tally), "view", config.view, tally)
    layout = find_layout(config.root, frame)
    frame = on_disk(frame, layout, config.skip_bad, tally)
    frame["path"] = paths_of(config, layout.folder, frame["file"] + layout.suffix)
    frame = add_split(frame, tables, config.split, config.validation, config.seed, config.skip_bad, tally)
    if config.one_per_study:
        frame = one_per_study(frame, config.view, tally)

    # What tables say of their patients and studies.
    if config.demographics is not None:
        frame = add_demographics(frame, config.demographics, tally)
    frame, labels = add_labels(frame, tables, config.labels, config.uncertain, tally)

    if config.preview and len(frame) > READ_FOR_PREVIEW:
        # The reports of 227,835 studies are the slow part.
        say(f"preview: the reports of the first {READ_FOR_PREVIEW} of {len(frame)} images are read.")
        frame = frame.head(READ_FOR_PREVIEW)
    where = config.reports or config.root
    folder = find_reports(where, frame) if config.keep_without_text else require_reports(where, frame)
    files = report_files(frame) if folder else {}
    with progress("reports", len(files), "reports", shown=not config.preview) as advance:
        texts = gather_texts(read_reports(folder or where, files, advance, tally), rules)
    frame = add_texts(frame, "study_id", texts, rules, tally)
    frame = frame.assign(modality=MODALITY, patient_id=frame["subject_id"])
    patient = [name for name in ("split", "age", "sex", "race") if name in frame]
    return finish(config, frame, [*FIRST, *patient, *rules.column_names, *labels], tally, texts)
