"""The table of ieee8023/covid-chestxray-dataset, metadata.csv, as rows of a manifest.

The rules:

- The image is <folder>/<filename> beside the table.
- `finding` is the last part of what the table says ("Pneumonia/Viral/COVID-19" is COVID-19); `finding_path` is all of
  it. "Unknown" and "todo" are missing.
- `time` and `offset_days` are the days since the symptoms or the admission began (`offset`), which are compared within
  a patient only; a cell that is no number is empty.
- `went_icu` is `icu`, `license` is `licence`; other columns keep their names and cells.
- `Text` is `clinical_notes`, which keeps its column. Lines without notes are left out, or the table gets no texts.

Each image has a licence of its own, and the table one for all: see the dataset's README.

Cohen et al., COVID-19 Image Data Collection: Prospective Predictions Are the Future, MELBA 2020.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.data.sources.tally import LEFT_OUT, Tally

if TYPE_CHECKING:
    import pandas as pd

    from medloom.data.tables import Table

METADATA = "metadata.csv"
NEEDED = ("patientid", "offset", "finding", "view", "modality", "folder", "filename", "license", "clinical_notes")
RENAMED = {"patientid": "patient_id", "offset": "offset_days", "went_icu": "icu", "license": "licence"}
NO_FINDING_STATED = ("unknown", "todo")
TEXTS = ("notes", "none")


def read_covid(root: Path, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """The table's lines, with file (the image's path below `root`), and `line`.

    Args:
        root: folder of metadata.csv.
        skip_bad: go on without lines that have too many or too few fields.
        tally: gets the counts.

    Raises:
        UserError: no such table, a column that it lacks, or lines that cannot be read and are not to be skipped.
    """
    import pandas as pd

    from medloom.data.manifest import list_problems
    from medloom.data.tables import read_table

    path = root / METADATA
    if not path.is_file():
        raise UserError(f"{root} holds no {METADATA}; name the folder of ieee8023/covid-chestxray-dataset.")
    table = read_table(path)
    if table.problems and not skip_bad:
        raise UserError(list_problems(str(path), table.problems, len(table.rows) + len(table.problems)))
    tally.add(
        "as many fields as columns", len(table.problems), "lines", LEFT_OUT, [f"{p.line}" for p in table.problems]
    )
    header = _header(path, table, tally)
    rows = [[row[place] for place in header.values()] for row in table.rows]
    frame = pd.DataFrame(rows, columns=list(header)).assign(line=table.lines)
    return _with_files(frame, path)


def _header(path: Path, table: "Table", tally: Tally) -> dict[str, int]:
    """Column -> place, without columns that have no name."""
    lacking = [name for name in NEEDED if name not in table.header]
    if lacking:
        close = did_you_mean(lacking[0], table.header)
        raise UserError(f"{path} has no column {lacking[0]!r}{close} Columns: {', '.join(table.header)}.")
    nameless = [place for place, name in enumerate(table.header) if not name]
    cells = sum(bool(row[place]) for row in table.rows for place in nameless)
    tally.add("a name for each column", cells, "cells")
    return {name: place for place, name in enumerate(table.header) if name}


def _with_files(frame: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """The lines with the paths of their images."""
    files = [PurePosixPath(*parts) for parts in zip(frame["folder"], frame["filename"], strict=True)]
    for line, file in zip(frame["line"], files, strict=True):
        if file.is_absolute() or ".." in file.parts:
            raise UserError(f"{path}, line {line}: {file} leads out of the folder; correct the line.")
    return frame.assign(file=[str(file) for file in files])


def covid_rows(frame: "pd.DataFrame", text: str, tally: Tally) -> "pd.DataFrame":
    """The lines under the names of a manifest.

    Args:
        frame: lines that `read_covid` gave, those that are wanted.
        text: one of TEXTS: the notes become the text, or nothing does.
        tally: gets the counts.
    """
    import pandas as pd

    days = pd.to_numeric(frame["offset"], errors="coerce")
    written = frame["offset"].where(days.notna(), "")
    tally.add("days that are a number", int((written == "").sum()), "images", "kept, time is empty")
    paths = frame["finding"].mask(frame["finding"].str.casefold().isin(NO_FINDING_STATED), "")
    tally.add("a finding", int((paths == "").sum()), "images", "kept, finding is empty")
    finding = paths.str.rsplit("/", n=1).str[-1].str.strip()
    rows = frame.assign(offset=written, time=written, finding=finding, finding_path=paths).rename(columns=RENAMED)
    nameless = rows["patient_id"] == ""
    tally.add("a patient", int(nameless.sum()), "images", names=rows.loc[nameless, "file"])
    rows = rows[~nameless]
    if text == "notes":
        rows = rows.assign(Text=rows["clinical_notes"].str.split().str.join(" "))
        tally.add(
            "clinical notes", int((rows["Text"] == "").sum()), "images", names=rows.loc[rows["Text"] == "", "file"]
        )
        rows = rows[rows["Text"] != ""]
    return rows.drop(columns=["line", "folder", "filename"]).reset_index(drop=True)
