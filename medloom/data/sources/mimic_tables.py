"""Labels and splits of MIMIC-CXR; age, sex and race of its patients from the tables of MIMIC-IV.

The rules:

- Labels are columns in lower case with underscores (`pleural_effusion`, `no_finding`): 1 present, 0 absent. An empty
  cell means that the report does not mention the finding: it remains empty and is never 0. -1 means that the report is
  uncertain; by default the cell becomes empty ("mask").
- Split "official" is mimic-cxr-*-split.csv. Split "p10-p18" is by folder, as in BiomedJourney: p19 is the test set, p10
  to p18 are training and validation. A patient is in the validation set if a hash of the patient and the seed, scaled
  to [0, 1], is below the fraction; it does not depend on the other images.
- Age is anchor_age plus the year of the study minus anchor_year; above 89 it is 90 (45 CFR 164.514(b)(2)).
- MIMIC-IV gives 91 for every anchor age above 89. If the sum is then below 90, the age is unknown and remains empty, as
  it does without a date of the study and for sums below 0.
- Sex is gender, verbatim: F or M.
- Race is the most frequent one in the patient's admissions, except unknown and undisclosed values; of equally frequent
  ones, the one that was recorded first. Older releases name the column ethnicity.
- Patients who are not in the tables have empty cells.

Irvin et al., CheXpert, AAAI 2019; Peng et al., NegBio, AMIA 2018; Gu et al., BiomedJourney, 2023; Johnson et al.,
MIMIC-IV, a freely accessible electronic health record dataset, Scientific Data 2023.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.sources.raw_tables import columns_of, find_table, read_columns, require_table
from medloom.data.sources.tally import Tally
from medloom.data.splits import NAMES, hash_patient

if TYPE_CHECKING:
    import pandas as pd

LABELLERS = ("chexpert", "negbio", "none")
# Replacements of uncertain labels.
UNCERTAIN = {"mask": "", "positive": "1", "negative": "0", "keep": "-1"}
UNCERTAIN_CELLS = ("-1.0", "-1")
SPLITS = ("official", "p10-p18", "none")
TEST_FOLDER = "19"
HASHES = 1 << 64  # hash_patient gives 16 hexadecimal digits
OLDEST = 89
CAPPED = 90
UNKNOWN = ("", "UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER", "UNKNOWN/NOT SPECIFIED")
EMPTY = "retained, {} empty"


def add_labels(
    frame: "pd.DataFrame", tables: Path, labeller: str, uncertain: str, tally: Tally
) -> tuple["pd.DataFrame", list[str]]:
    """The images with the labels of their studies.

    Args:
        frame: images with study_id.
        tables: folder of the table.
        labeller: one of LABELLERS.
        uncertain: one of UNCERTAIN.
        tally: records the counts.

    Returns:
        The images, and the names of the label columns.

    Raises:
        UserError: an unknown choice, a missing or damaged table, or an invalid label.
    """
    import pandas as pd

    look_up(dict.fromkeys(LABELLERS), labeller, "--labels")
    instead = look_up(UNCERTAIN, uncertain, "--uncertain")
    if labeller == "none":
        return frame, []
    path = require_table([tables], f"mimic-cxr-*-{labeller}", "--tables, or give --labels none")
    names = [name for name in columns_of(path) if name not in ("subject_id", "study_id")]
    labels = read_columns(path, ["study_id", *names]).drop_duplicates("study_id").set_index("study_id")
    unlabelled = ~frame["study_id"].isin(labels.index)
    studies = frame.loc[unlabelled, "study_id"].drop_duplicates()
    tally.add(f"labels of {labeller}", int(unlabelled.sum()), "images", "retained, labels are empty", studies)
    columns = [name.casefold().replace(" ", "_") for name in names]
    # One look-up for all labels; a study without labels has index -1, which is the empty cell at the end.
    indices = labels.index.get_indexer(pd.Index(frame["study_id"]))
    imported = labels.index.isin(frame["study_id"])
    uncertain_labels = 0
    values = {"": "", "1.0": "1", "1": "1", "0.0": "0", "0": "0"} | dict.fromkeys(UNCERTAIN_CELLS, instead)
    for name, column in zip(names, columns, strict=True):
        given = labels[name].astype(object)
        uncertain_labels += int((imported & given.isin(UNCERTAIN_CELLS)).sum())
        written = given.map(values)
        unknown = written.isna()
        if unknown.any():
            raise UserError(
                f"{path}, line {labels['line'][unknown].iloc[0]}, column {name!r}: {given[unknown].iloc[0]!r} is not a"
                " label; allowed are 1.0, 0.0, -1.0 and empty cells; download the table again."
            )
        cells = [*written, ""]
        frame = frame.assign(**{column: [cells[index] for index in indices]})
    tally.add("certain labels", uncertain_labels, "labels of studies", f"become {instead or 'empty'}")
    return frame, columns


def add_split(
    frame: "pd.DataFrame", tables: Path, way: str, validation: float, seed: int, skip_bad: bool, tally: Tally
) -> "pd.DataFrame":
    """The images with their split; unchanged with --split none.

    Args:
        frame: images with subject_id and dicom_id.
        tables: folder of the table of the official split.
        way: one of SPLITS.
        validation: fraction of the patients of p10 to p18 for validation.
        seed: of the choice of these patients.
        skip_bad: continue without images that are not in the official split.
        tally: records the counts.

    Raises:
        UserError: an unknown choice, a missing table, an invalid split, a patient in two splits, or images without a
            split that are not skipped.
    """
    look_up(dict.fromkeys(SPLITS), way, "--split")
    if not 0 <= validation < 1:
        raise UserError(f"--validation {validation}: a fraction of the patients, from 0 to below 1.")
    if way == "none":
        return frame
    if way == "p10-p18":
        of_patient: dict[str, str] = {}
        for patient in frame["subject_id"].unique():
            part = int(hash_patient(patient, f"validation-{seed}"), 16) / HASHES
            of_patient[patient] = "validation" if part < validation else "train"
            if patient[:2] == TEST_FOLDER:
                of_patient[patient] = "test"
        return frame.assign(split=frame["subject_id"].map(of_patient))
    path = require_table([tables], "mimic-cxr-*-split", "--tables, or give --split none")
    official = read_columns(path, ("dicom_id", "split"))
    known = official["split"].str.casefold().map(NAMES)
    if known.isna().any():
        first = official[known.isna()].iloc[0]
        raise UserError(f"{path}, line {first['line']}: {first['split']!r} is not a split; download the table again.")
    frame = frame.assign(split=frame["dicom_id"].map(dict(zip(official["dicom_id"], known, strict=True))))
    without = frame["split"].isna()
    tally.skip_or_refuse(skip_bad, str(path), "a split", list(frame.loc[without, "file"]), len(frame))
    frame = frame[~without].reset_index(drop=True)
    splits = frame.groupby("subject_id")["split"].nunique()
    if overlapping := list(splits[splits > 1].index):
        raise UserError(
            f"{path}: {len(overlapping)} patients are in two splits, for example p{overlapping[0]}; choose another"
            " --split, or none and `medloom data split`."
        )
    return frame


def add_demographics(frame: "pd.DataFrame", folder: Path, tally: Tally) -> "pd.DataFrame":
    """The images with age, sex and race.

    Args:
        frame: images with subject_id and time.
        folder: of MIMIC-IV, with patients.csv and admissions.csv, gzipped or not, possibly in `hosp` (`core` in older
            releases).
        tally: records the counts.

    Raises:
        UserError: a missing or damaged table of patients, or an age that is not a number.
    """
    import pandas as pd

    folders = [folder / "hosp", folder, folder / "core"]
    path = require_table(folders, "patients", "--demographics")
    read = read_columns(path, ("subject_id", "gender", "anchor_age", "anchor_year"))
    patients = read[read["subject_id"].isin(frame["subject_id"])].drop_duplicates("subject_id").set_index("subject_id")
    unknown = ~frame["subject_id"].isin(patients.index)
    absent = "p" + frame.loc[unknown, "subject_id"].drop_duplicates()
    fate = EMPTY.format("age, sex and race")
    tally.add("the patient in MIMIC-IV", int(unknown.sum()), f"images of {len(absent)} patients", fate, absent)
    anchors = {name: _numbers(patients[name], patients["line"], path) for name in ("anchor_age", "anchor_year")}
    anchor = frame["subject_id"].map(anchors["anchor_age"])
    years = pd.to_numeric(frame["time"].str[:4], errors="coerce") - frame["subject_id"].map(anchors["anchor_year"])
    ages = anchor + years
    unsure = ((anchor > OLDEST) & (ages <= OLDEST)) | (ages < 0)
    tally.add("a known age", int(unsure.sum()), "images", EMPTY.format("age"))
    ages = ages.where(~unsure).mask(ages > OLDEST, CAPPED)
    tally.add(f"an age of at most {OLDEST}", int((ages == CAPPED).sum()), "images", f"retained, age is {CAPPED}")
    age = ages.map(lambda age: "" if age != age else f"{age:.0f}").astype(object)
    sex = frame["subject_id"].map(patients["gender"]).fillna("")
    return frame.assign(age=age, sex=sex, race=_races(frame, folders, tally))


def _numbers(cells: "pd.Series[str]", lines: "pd.Series[int]", path: Path) -> "pd.Series[float]":
    import pandas as pd

    numbers: pd.Series[float] = pd.to_numeric(cells, errors="coerce")
    bad = numbers.isna()
    if bad.any():
        raise UserError(
            f"{path}, line {lines[bad].iloc[0]}, column {cells.name!r}: {cells[bad].iloc[0]!r} is not a number;"
            " download the table again."
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
    tally.add("a recorded race", int((race == "").sum()), "images", EMPTY.format("race"))
    return race
