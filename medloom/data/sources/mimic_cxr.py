"""The images of MIMIC-CXR (DICOM) and MIMIC-CXR-JPG: which there are, in which order, and where they lie.

The rules:

- An image is a row of mimic-cxr-*-metadata.csv; its file is p10/p10000032/s50414267/<dicom_id>.jpg or .dcm, below ROOT
  or its folder `files`. Which of both kinds, is found by the first image that is there; JPEG is looked for first.
- The time of a study is the earliest that its images state (StudyDate and StudyTime), as 2180-05-06T21:30:14.531; a
  time of day that cannot be read is left away, a date that cannot be read leaves the time empty.
- Rows are sorted by patient, time of the study, study, and image: two studies of a day stand in their order.
- Dates are shifted for each patient: they are compared within one only.
- One image a study: the first view in the order asked for by --view, else in the order PA, AP, LATERAL, LL, others by
  the alphabet, none; of two such images the first by its name.

Johnson et al., MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports,
Scientific Data 2019.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.sources.raw_tables import read_columns, require_table
from medloom.data.sources.tally import Tally

if TYPE_CHECKING:
    import pandas as pd

METADATA = "mimic-cxr-*-metadata"
COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
# Names become paths, so they hold nothing that could lead elsewhere.
NAMES = {"subject_id": r"\d{3,}", "study_id": r"\d+", "dicom_id": r"[0-9A-Za-z][0-9A-Za-z-]*"}
SUFFIXES = (".jpg", ".dcm")
PREFERRED = ("PA", "AP", "LATERAL", "LL")
TIME = re.compile(r"(\d{1,6})(\.\d+)?")


@dataclass(frozen=True)
class Layout:
    """Where images lie.

    Attributes:
        folder: the folder that holds p10, p11, ...
        suffix: .jpg or .dcm.
    """

    folder: Path
    suffix: str


def read_images(tables: Path, tally: Tally) -> "pd.DataFrame":
    """The images that the metadata lists, in order.

    Args:
        tables: folder of the table.
        tally: gets the counts.

    Returns:
        Columns dicom_id, subject_id, study_id, view, time and file, the image's path below p10's folder without its
        ending; all texts, empty where the table says nothing.

    Raises:
        UserError: no such table, one that is damaged, a name that is none, or an image that stands twice.
    """
    path = require_table([tables], METADATA, "--tables")
    frame = read_columns(path, COLUMNS)
    _check_names(frame, path)
    subject, study, image = frame["subject_id"], frame["study_id"], frame["dicom_id"]
    frame["file"] = "p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + image
    frame["view"] = frame["ViewPosition"]
    frame["time"] = _times(frame, tally)
    return _in_order(frame)[["dicom_id", "subject_id", "study_id", "view", "time", "file"]]


def _check_names(frame: "pd.DataFrame", path: Path) -> None:
    for column, pattern in NAMES.items():
        bad = frame[~frame[column].str.fullmatch(pattern)]
        if len(bad):
            cell, line = bad[column].iloc[0], bad["line"].iloc[0]
            raise UserError(f"{path}, line {line}, column {column!r}: {cell!r} is no such name; get the table again.")
    twice = frame[frame["dicom_id"].duplicated()]
    if len(twice):
        cell, line = twice["dicom_id"].iloc[0], twice["line"].iloc[0]
        raise UserError(f"{path}, line {line}: image {cell} stands in an earlier line already; remove one of both.")


def _times(frame: "pd.DataFrame", tally: Tally) -> "pd.Series[str]":
    """The time of each image's study."""
    dates = frame["StudyDate"].map({cell: _date(cell) for cell in frame["StudyDate"].unique()})
    clocks = frame["StudyTime"].map({cell: _clock(cell) for cell in frame["StudyTime"].unique()})
    own = (dates + clocks).where(dates != "")
    times: pd.Series[str] = own.groupby([frame["subject_id"], frame["study_id"]]).transform("min").fillna("")
    undated = times == ""
    tally.add(
        "a date that can be read", int(undated.sum()), "images", "kept, time is empty", frame.loc[undated, "file"]
    )
    unclocked = (dates != "") & (clocks == "")
    tally.add("a time of day that can be read", int(unclocked.sum()), "images", "kept, time is the date")
    return times


def _date(cell: str) -> str:
    """A date, 21800506, as 2180-05-06; empty where it is none."""
    digits = cell.removesuffix(".0")
    if not re.fullmatch(r"\d{8}", digits):
        return ""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).isoformat()
    except ValueError:
        # No such day; the caller counts it.
        return ""


def _clock(cell: str) -> str:
    """A time of day, 213014.531 or 85529.0 (08:55:29), as T21:30:14.531; empty where it is none."""
    found = TIME.fullmatch(cell)
    if found is None:
        return ""
    digits = found[1].zfill(6)
    hours, minutes, seconds = digits[:2], digits[2:4], digits[4:]
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        return ""
    return f"T{hours}:{minutes}:{seconds}{(found[2] or '').rstrip('0').rstrip('.')}"


def _in_order(frame: "pd.DataFrame") -> "pd.DataFrame":
    keys = frame.assign(subject=frame["subject_id"].astype("int64"), study=frame["study_id"].astype("int64"))
    return keys.sort_values(["subject", "time", "study", "dicom_id"], kind="stable").reset_index(drop=True)


def one_a_study(frame: "pd.DataFrame", views: Sequence[str], tally: Tally) -> "pd.DataFrame":
    """The image of each study whose view is preferred, by the rule of this module."""
    ranks = {view.casefold(): rank for rank, view in enumerate(views or PREFERRED)}
    # Another view comes after the named ones, by the alphabet, and no view after all.
    rank = frame["view"].map(
        {view: ranks.get(view.casefold(), len(ranks) + (not view)) for view in frame["view"].unique()}
    )
    chosen = frame.assign(rank=rank).sort_values(["rank", "view", "dicom_id"], kind="stable")
    kept = chosen.drop_duplicates(["subject_id", "study_id"]).index
    tally.add("one image a study", len(frame) - len(kept), "images")
    return frame.loc[sorted(kept)].reset_index(drop=True)


def find_layout(root: Path, frame: "pd.DataFrame") -> Layout:
    """Where the images lie, and of which kind they are.

    Raises:
        UserError: no image of the table is there.
    """
    for folder in (root / "files", root):
        for suffix in SUFFIXES:
            if folder.is_dir() and any((folder / f"{file}{suffix}").is_file() for file in frame["file"]):
                return Layout(folder, suffix)
    first = frame["file"].iloc[0]
    raise UserError(
        f"{root} holds none of the {len(frame)} images of the metadata: neither files/{first}.jpg nor .dcm, say;"
        " name the folder that holds `files` (or p10, p11, ...)."
    )


def on_disk(frame: "pd.DataFrame", layout: Layout, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """The images whose files are there.

    Raises:
        UserError: some are not, and they are not to be skipped.
    """
    there = [(layout.folder / f"{file}{layout.suffix}").is_file() for file in frame["file"]]
    missing = [f"{file}{layout.suffix}" for file, is_there in zip(frame["file"], there, strict=True) if not is_there]
    tally.skip_or_refuse(skip_bad, str(layout.folder), "a file", missing, len(frame))
    return frame[there].reset_index(drop=True)
