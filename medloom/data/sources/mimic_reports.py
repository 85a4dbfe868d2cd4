"""The reports of MIMIC-CXR: p10/p10000032/s50414267.txt, one for each study."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.progress import Advance
from medloom.data.sources.tally import Tally
from medloom.report_text.sections import sections_of

if TYPE_CHECKING:
    import pandas as pd

# Where the archive of the reports puts them, below the folder that it is unpacked in.
BELOW = ("", "files", "mimic-cxr-reports", "mimic-cxr-reports/files")


def find_reports(folder: Path, frame: "pd.DataFrame") -> Path | None:
    """The folder below `folder` that holds the reports' p10, p11, ...; None where no report of the studies is there."""
    names = report_files(frame)
    for below in BELOW:
        candidate = folder / below
        if candidate.is_dir() and any((candidate / name).is_file() for name in names.values()):
            return candidate
    return None


def require_reports(folder: Path, frame: "pd.DataFrame") -> Path:
    """As `find_reports`.

    Raises:
        UserError: no report of the studies is there.
    """
    if found := find_reports(folder, frame):
        return found
    first = next(iter(report_files(frame).values()))
    raise UserError(
        f"{folder} holds no report of these studies ({first}, say); unpack mimic-cxr-reports.zip and name its folder"
        " with --reports, or go on without texts with --keep-without-text."
    )


def report_files(frame: "pd.DataFrame") -> dict[str, str]:
    """Study -> its report's path, in the order of the studies."""
    studies = frame.drop_duplicates("study_id")
    subject, study = studies["subject_id"], studies["study_id"]
    files = "p" + subject.str[:2] + "/p" + subject + "/s" + study + ".txt"
    return dict(zip(study, files, strict=True))


def read_reports(
    folder: Path, files: dict[str, str], advance: Advance, tally: Tally
) -> Iterator[tuple[str, dict[str, str]]]:
    """Study and sections of each report that is there; those that are not UTF-8 are counted and passed over.

    Args:
        folder: as `find_reports` gives it.
        files: as `report_files` gives them.
        advance: told of each report.
        tally: gets the count, after the last report.
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
    tally.add("UTF-8 in each report", len(unreadable), "reports", "taken as missing", unreadable)
