"""The images and reports of MIMIC-CXR (DICOM) and MIMIC-CXR-JPG: the list, its order, and the files.

The rules:

- Each row of mimic-cxr-*-metadata.csv is an image; its file is p10/p10000032/s50414267/<dicom_id>.jpg or .dcm, in ROOT
  or its folder `files`. The first file found decides between the two kinds; JPEG is tried first.
- The time of a study is the earliest of its images (StudyDate and StudyTime), such as 2180-05-06T21:30:14.531. An
  unreadable time of day is omitted; an unreadable date leaves the time empty.
- Rows are sorted by patient, time of the study, study and image.
- Dates are shifted per patient: they are comparable only within a patient.
- One image per study: the first view in the order of --view, by default PA, AP, LATERAL, LL, others in alphabetical
  order, none; of several such images, the first by name.
- The report of a study is p10/p10000032/s50414267.txt.

Johnson et al., MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports,
Scientific Data 2019.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.progress import Advance
from medloom.data.sources.raw_tables import read_columns, require_table
from medloom.data.sources.tally import Tally
from medloom.report_text.sections import sections_of

if TYPE_CHECKING:
    import pandas as pd

METADATA = "mimic-cxr-*-metadata"
COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
# Names become paths: they must not lead out of the folder.
NAMES = {"subject_id": r"\d{3,}", "study_id": r"\d+", "dicom_id": r"[0-9A-Za-z][0-9A-Za-z-]*"}
SUFFIXES = (".jpg", ".dcm")
PREFERRED = ("PA", "AP", "LATERAL", "LL")
# Folders of the reports within the folder of their unpacked archive.
REPORT_FOLDERS = ("", "files", "mimic-cxr-reports", "mimic-cxr-reports/files")
TIME = re.compile(r"(\d{1,6})(\.\d+)?")


@dataclass(frozen=True)
class Layout:
    """Where images are stored.

    Attributes:
        folder: the folder of p10, p11, ...
        suffix: .jpg or .dcm.
    """

    folder: Path
    suffix: str


def read_images(tables: Path, tally: Tally) -> "pd.DataFrame":
    """The images in the metadata, in order.

    Args:
        tables: folder of the table.
        tally: records the counts.

    Returns:
        Columns dicom_id, subject_id, study_id, view, time and file (path within the folder of p10, without ending), all
        texts; missing values are empty.

    Raises:
        UserError: a missing or damaged table, an invalid name, or a repeated image.
    """
    path = require_table([tables], METADATA, "--tables")
    frame = read_columns(path, COLUMNS)
    for column, pattern in NAMES.items():
        bad = frame[~frame[column].str.fullmatch(pattern)]
        if len(bad):
            cell, line = bad[column].iloc[0], bad["line"].iloc[0]
            raise UserError(f"{path}, line {line}, column {column!r}: {cell!r} is not valid; download the table again.")
    twice = frame[frame["dicom_id"].duplicated()]
    if len(twice):
        cell, line = twice["dicom_id"].iloc[0], twice["line"].iloc[0]
        raise UserError(f"{path}, line {line}: image {cell} is already in an earlier line; remove one of them.")
    subject, study, image = frame["subject_id"], frame["study_id"], frame["dicom_id"]
    frame["file"] = "p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + image
    frame["view"] = frame["ViewPosition"]
    # The time of each image's study.
    dates = frame["StudyDate"].map({cell: _date(cell) for cell in frame["StudyDate"].unique()})
    clocks = frame["StudyTime"].map({cell: _clock(cell) for cell in frame["StudyTime"].unique()})
    own = (dates + clocks).where(dates != "")
    frame["time"] = own.groupby([subject, study]).transform("min").fillna("")
    undated, unclocked = frame["time"] == "", (dates != "") & (clocks == "")
    tally.add("a readable date", int(undated.sum()), "images", "retained, time is empty", frame.loc[undated, "file"])
    tally.add("a readable time of day", int(unclocked.sum()), "images", "retained, time is the date")
    keys = frame.assign(subject=subject.astype("int64"), study=study.astype("int64"))
    frame = keys.sort_values(["subject", "time", "study", "dicom_id"], kind="stable").reset_index(drop=True)
    return frame[["dicom_id", "subject_id", "study_id", "view", "time", "file"]]


def _date(cell: str) -> str:
    """A date, 21800506, as 2180-05-06; empty if invalid."""
    digits = cell.removesuffix(".0")
    if not re.fullmatch(r"\d{8}", digits):
        return ""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).isoformat()
    except ValueError:
        # The caller counts invalid dates.
        return ""


def _clock(cell: str) -> str:
    """A time of day, 213014.531 or 85529.0 (08:55:29), as T21:30:14.531; empty if invalid."""
    found = TIME.fullmatch(cell)
    if found is None:
        return ""
    digits = found[1].zfill(6)
    hours, minutes, seconds = digits[:2], digits[2:4], digits[4:]
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        return ""
    return f"T{hours}:{minutes}:{seconds}{(found[2] or '').rstrip('0').rstrip('.')}"


def one_per_study(frame: "pd.DataFrame", views: Sequence[str], tally: Tally) -> "pd.DataFrame":
    """The image of each study with the preferred view."""
    ranks = {view.casefold(): rank for rank, view in enumerate(views or PREFERRED)}
    # Other views follow the named ones in alphabetical order; no view comes last.
    rank = frame["view"].map(
        {view: ranks.get(view.casefold(), len(ranks) + (not view)) for view in frame["view"].unique()}
    )
    chosen = frame.assign(rank=rank).sort_values(["rank", "view", "dicom_id"], kind="stable")
    first = chosen.drop_duplicates(["subject_id", "study_id"]).index
    tally.add("one image per study", len(frame) - len(first), "images")
    return frame.loc[sorted(first)].reset_index(drop=True)


def find_layout(root: Path, frame: "pd.DataFrame") -> Layout:
    """Folder and kind of the image files.

    Raises:
        UserError: no image of the table exists.
    """
    for folder in (root / "files", root):
        for suffix in SUFFIXES:
            if folder.is_dir() and any((folder / f"{file}{suffix}").is_file() for file in frame["file"]):
                return Layout(folder, suffix)
    first = frame["file"].iloc[0]
    raise UserError(
        f"{root} holds none of the {len(frame)} images of the metadata, such as files/{first}.jpg or .dcm;"
        " name the folder of `files` (or of p10, p11, ...)."
    )


def on_disk(frame: "pd.DataFrame", layout: Layout, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """The images whose files exist.

    Raises:
        UserError: missing files that are not skipped.
    """
    exists = [(layout.folder / f"{file}{layout.suffix}").is_file() for file in frame["file"]]
    missing = [f"{file}{layout.suffix}" for file, found in zip(frame["file"], exists, strict=True) if not found]
    tally.skip_or_refuse(skip_bad, str(layout.folder), "a file", missing, len(frame))
    return frame[exists].reset_index(drop=True)


def find_reports(folder: Path, frame: "pd.DataFrame") -> Path | None:
    """The folder of the reports' p10, p11, ... in `folder`; None if it has no report of the studies."""
    names = report_files(frame)
    for below in REPORT_FOLDERS:
        candidate = folder / below
        if candidate.is_dir() and any((candidate / name).is_file() for name in names.values()):
            return candidate
    return None


def require_reports(folder: Path, frame: "pd.DataFrame") -> Path:
    """As `find_reports`.

    Raises:
        UserError: no report of the studies exists.
    """
    if found := find_reports(folder, frame):
        return found
    first = next(iter(report_files(frame).values()))
    raise UserError(
        f"{folder} holds no report of these studies, for example {first}; unpack mimic-cxr-reports.zip and name its"
        " folder with --reports, or continue without texts with --keep-without-text."
    )


def report_files(frame: "pd.DataFrame") -> dict[str, str]:
    """Study -> path of its report, in the order of the studies."""
    studies = frame.drop_duplicates("study_id")
    subject, study = studies["subject_id"], studies["study_id"]
    return dict(zip(study, "p" + subject.str[:2] + "/p" + subject + "/s" + study + ".txt", strict=True))


def read_reports(
    folder: Path, files: dict[str, str], advance: Advance, tally: Tally
) -> Iterator[tuple[str, dict[str, str]]]:
    """Study and sections of each existing report; reports that are not UTF-8 are counted and skipped.

    Args:
        folder: from `find_reports`.
        files: from `report_files`.
        advance: called for each report.
        tally: records the count after the last report.
    """
    unreadable = []
    for study, name in files.items():
        advance()
        path = folder / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            unreadable.append(name)
            continue
        yield study, sections_of(text)
    tally.add("UTF-8 in each report", len(unreadable), "reports", "treated as missing", unreadable)
