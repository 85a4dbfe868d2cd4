"""Age, sex and race of the patients of MIMIC-CXR, from the tables of MIMIC-IV.

The rules:

- Age is the patient's anchor_age plus the study's year less anchor_year; above 89 it is 90 (45 CFR 164.514(b)(2)).
- MIMIC-IV gives 91 for every anchor age above 89; where such a patient's study is so much earlier that this sum is
  below 90, the age is not known and stays empty. So it does where the study has no date, or the sum is below zero.
- Sex is gender as it stands: F or M.
- Race is the one that most of the patient's admissions state, those that say it is unknown or was not told left aside;
  of two that are stated equally often, the one that was stated first. Older releases call it ethnicity.
- A patient whom the tables do not have keeps empty cells.

Johnson et al., MIMIC-IV, a freely accessible electronic health record dataset, Scientific Data 2023.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.sources.raw_tables import columns_of, find_table, read_columns, require_table
from medloom.data.sources.tally import Tally

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("age", "sex", "race")
OLDEST = 89
CAPPED = 90
UNKNOWN = ("", "UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER", "UNKNOWN/NOT SPECIFIED")
EMPTY = "kept, {} empty"


def add_demographics(frame: "pd.DataFrame", folder: Path, tally: Tally) -> "pd.DataFrame":
    """The images with age, sex and race.

    Args:
        frame: images with subject_id and time.
        folder: of MIMIC-IV: holds patients.csv and admissions.csv, gzipped or not, itself or in `hosp` (`core` in older
            releases).
        tally: gets the counts.

    Raises:
        UserError: no table of patients, one that is damaged, or an age that is no number.
    """
    folders = [folder / "hosp", folder, folder / "core"]
    path = require_table(folders, "patients", "--demographics")
    read = read_columns(path, ("subject_id", "gender", "anchor_age", "anchor_year"))
    patients = read[read["subject_id"].isin(frame["subject_id"])].drop_duplicates("subject_id").set_index("subject_id")
    unknown = ~frame["subject_id"].isin(patients.index)
    lost = "p" + frame.loc[unknown, "subject_id"].drop_duplicates()
    fate = EMPTY.format("age, sex and race")
    tally.add("the patient in MIMIC-IV", int(unknown.sum()), f"images of {len(lost)} patients", fate, lost)
    age = _ages(frame, patients, path, tally)
    sex = frame["subject_id"].map(patients["gender"]).fillna("")
    return frame.assign(age=age, sex=sex, race=_races(frame, folders, tally))


def _ages(frame: "pd.DataFrame", patients: "pd.DataFrame", path: Path, tally: Tally) -> "pd.Series[str]":
    import pandas as pd

    anchors = {name: _numbers(patients[name], patients["line"], path) for name in ("anchor_age", "anchor_year")}
    anchor = frame["subject_id"].map(anchors["anchor_age"])
    years = pd.to_numeric(frame["time"].str[:4], errors="coerce") - frame["subject_id"].map(anchors["anchor_year"])
    ages = anchor + years
    unsure = ((anchor > OLDEST) & (ages <= OLDEST)) | (ages < 0)
    tally.add("an age that can be told", int(unsure.sum()), "images", EMPTY.format("age"))
    ages = ages.where(~unsure).mask(ages > OLDEST, CAPPED)
    tally.add(f"an age of {OLDEST} at most", int((ages == CAPPED).sum()), "images", f"kept, age is {CAPPED}")
    return ages.map(lambda age: "" if age != age else f"{age:.0f}").astype(object)


def _numbers(cells: "pd.Series[str]", lines: "pd.Series[int]", path: Path) -> "pd.Series[float]":
    import pandas as pd

    numbers: pd.Series[float] = pd.to_numeric(cells, errors="coerce")
    bad = numbers.isna()
    if bad.any():
        raise UserError(
            f"{path}, line {lines[bad].iloc[0]}, column {cells.name!r}: {cells[bad].iloc[0]!r} is no number; get the"
            " table again from its source."
        )
    return numbers


def _races(frame: "pd.DataFrame", folders: list[Path], tally: Tally) -> "pd.Series[str]":
    path = find_table(folders, "admissions")
    if path is None:
        tally.add("a table of admissions", len(frame), "images", EMPTY.format("race"))
        return frame["subject_id"].map(lambda _: "")
    name = "ethnicity" if "race" not in columns_of(path) else "race"
    stated = read_columns(path, ("subject_id", "admittime", name)).rename(columns={name: "race"})
    stated = stated[stated["subject_id"].isin(frame["subject_id"]) & ~stated["race"].str.upper().isin(UNKNOWN)]
    by_race = stated.groupby(["subject_id", "race"])["admittime"].agg(["size", "min"]).reset_index()
    by_race = by_race.sort_values(["subject_id", "size", "min"], ascending=[True, False, True], kind="stable")
    race = frame["subject_id"].map(by_race.drop_duplicates("subject_id").set_index("subject_id")["race"]).fillna("")
    tally.add("a race that is stated", int((race == "").sum()), "images", EMPTY.format("race"))
    return race
