"""metadata.csv of ieee8023/covid-chestxray-dataset as rows of a manifest.

The rules:

- The image is <folder>/<filename> in the folder of the table.
- `finding` is the last part of the table's finding (COVID-19 of "Pneumonia/Viral/COVID-19"), `finding_path` all of it.
  "Unknown" and "todo" are missing.
- `time` and `offset_days` are the days since the onset of symptoms or the admission (`offset`), comparable only within
  a patient; cells that are not numbers are empty.
- `went_icu` becomes `icu`, `license` becomes `licence`; other columns are unchanged.
- `Text` is `clinical_notes`, which remains as a column. Lines without notes are left out, unless there are no texts.

Each image has its own licence, the table another one: see the README of the dataset.

Cohen et al., COVID-19 Image Data Collection: Prospective Predictions Are the Future, MELBA 2020.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.data.sources.tally import LEFT_OUT, Tally

if TYPE_CHECKING:
    import pandas as pd

METADATA = "metadata.csv"
NEEDED = ("patientid", "offset", "finding", "view", "modality", "folder", "filename", "license", "clinical_notes")
RENAMED = {"patientid": "patient_id", "offset": "offset_days", "went_icu": "icu", "license": "licence"}
NO_FINDING_STATED = ("unknown", "todo")
TEXTS = ("notes", "none")


def read_covid(root: Path, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """The lines of the table, with `file` (the image's path within `root`) and `line`.

    Args:
        root: folder of metadata.csv.
        skip_bad: continue without lines with too many or too few fields.
        tally: records the counts.

    Raises:
        UserError: a missing table, a missing column, or unreadable lines that are not skipped.
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
    lacking = [name for name in NEEDED if name not in table.header]
    if lacking:
        raise UserError(
            f"{path} has no column {lacking[0]!r}{did_you_mean(lacking[0], table.header)} Columns:"
            f" {', '.join(table.header)}."
        )
    nameless = [index for index, name in enumerate(table.header) if not name]
    tally.add("a name for each column", sum(bool(row[index]) for row in table.rows for index in nameless), "cells")
    header = {name: index for index, name in enumerate(table.header) if name}
    rows = [[row[index] for index in header.values()] for row in table.rows]
    frame = pd.DataFrame(rows, columns=list(header)).assign(line=table.lines)
    files = [PurePosixPath(*parts) for parts in zip(frame["folder"], frame["filename"], strict=True)]
    for line, file in zip(frame["line"], files, strict=True):
        if file.is_absolute() or ".." in file.parts:
            raise UserError(f"{path}, line {line}: {file} leads out of the folder; correct the line.")
    return frame.assign(file=[str(file) for file in files])


def covid_rows(frame: "pd.DataFrame", text: str, tally: Tally) -> "pd.DataFrame":
    """The lines under the names of a manifest.

    Args:
        frame: lines from `read_covid`.
        text: one of TEXTS: the notes become the text, or there is no text.
        tally: records the counts.
    """
    import pandas as pd

    written = frame["offset"].where(pd.to_numeric(frame["offset"], errors="coerce").notna(), "")
    tally.add("a number of days", int((written == "").sum()), "images", "retained, time is empty")
    paths = frame["finding"].mask(frame["finding"].str.casefold().isin(NO_FINDING_STATED), "")
    tally.add("a finding", int((paths == "").sum()), "images", "retained, finding is empty")
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
