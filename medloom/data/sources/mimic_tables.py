"""The labels and the splits of MIMIC-CXR.

The rules:

- Labels are columns in lower case with underscores (`pleural_effusion`, `no_finding`): 1 present, 0 absent. An empty
  cell means that the report does not mention the finding: it stays empty and is never zero. -1 means that the report
  is uncertain; by default the cell becomes empty ("mask").
- Split "official" is mimic-cxr-*-split.csv. Split "p10-p18", as BiomedJourney takes it, is by the folder: p19 is the
  test, p10 to p18 are training and validation; a patient is in the validation where a number from 0 to 1 that is
  made of the patient's name and the seed is below the share, whatever other images are imported.

Irvin et al., CheXpert, AAAI 2019; Peng et al., NegBio, AMIA 2018; Gu et al., BiomedJourney, 2023.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.sources.raw_tables import columns_of, read_columns, require_table
from medloom.data.sources.tally import Tally
from medloom.data.splits import NAMES, hash_patient

if TYPE_CHECKING:
    import pandas as pd

LABELLERS = ("chexpert", "negbio", "none")
# What becomes of a label that the report is uncertain of.
UNCERTAIN = {"mask": "", "positive": "1", "negative": "0", "keep": "-1"}
DOUBTED = ("-1.0", "-1")
SPLITS = ("official", "p10-p18", "none")
TEST_FOLDER = "19"
HASHES = 1 << 64  # hash_patient gives 16 hexadecimal digits


def add_labels(
    frame: "pd.DataFrame", tables: Path, labeller: str, uncertain: str, tally: Tally
) -> tuple["pd.DataFrame", list[str]]:
    """The images with the labels of their studies.

    Args:
        frame: images with study_id.
        tables: folder of the table.
        labeller: one of LABELLERS.
        uncertain: one of UNCERTAIN.
        tally: gets the counts.

    Returns:
        The images, and the names of the columns of labels.

    Raises:
        UserError: an unknown choice, no such table, one that is damaged, or a cell that is no label.
    """
    import pandas as pd

    look_up(dict.fromkeys(LABELLERS), labeller, "--labels")
    instead = look_up(UNCERTAIN, uncertain, "--uncertain")
    if labeller == "none":
        return frame, []
    path = require_table([tables], f"mimic-cxr-*-{labeller}", "--tables, or say --labels none")
    names = [name for name in columns_of(path) if name not in ("subject_id", "study_id")]
    read = read_columns(path, ["study_id", *names])
    labels = read.drop_duplicates("study_id").set_index("study_id")
    unlabelled = ~frame["study_id"].isin(labels.index)
    studies = frame.loc[unlabelled, "study_id"].drop_duplicates()
    tally.add(f"labels of {labeller}", int(unlabelled.sum()), "images", "kept, labels are empty", studies)
    columns = [name.casefold().replace(" ", "_") for name in names]
    # One look-up for all labels; a study without labels has place -1, where the empty cell is put.
    places = labels.index.get_indexer(pd.Index(frame["study_id"]))
    imported = labels.index.isin(frame["study_id"])
    doubted = 0
    for name, column in zip(names, columns, strict=True):
        given = labels[name].astype(object)
        doubted += int((imported & given.isin(DOUBTED)).sum())
        cells = [*_cells(path, name, given, labels["line"], instead), ""]
        frame = frame.assign(**{column: [cells[place] for place in places]})
    tally.add("uncertain labels", doubted, "labels of studies", f"become {instead or 'empty'}")
    return frame, columns


def _cells(path: Path, name: str, cells: "pd.Series[str]", lines: "pd.Series[int]", instead: str) -> "pd.Series[str]":
    """One label's cells as they are written."""
    values = {"": "", "1.0": "1", "1": "1", "0.0": "0", "0": "0"} | dict.fromkeys(DOUBTED, instead)
    written: pd.Series[str] = cells.map(values)
    unknown = written.isna()
    if unknown.any():
        raise UserError(
            f"{path}, line {lines[unknown].iloc[0]}, column {name!r}: {cells[unknown].iloc[0]!r} is no label; allowed"
            " are 1.0, 0.0, -1.0 and nothing; get the table again from its source."
        )
    return written


def add_split(
    frame: "pd.DataFrame", tables: Path, way: str, validation: float, seed: int, skip_bad: bool, tally: Tally
) -> "pd.DataFrame":
    """The images with their split; as they are where no split is asked for.

    Args:
        frame: images with subject_id and dicom_id.
        tables: folder of the table of the official split.
        way: one of SPLITS.
        validation: share of the patients of p10 to p18 for validation.
        seed: of that share.
        skip_bad: go on without images that the official split does not list.
        tally: gets the counts.

    Raises:
        UserError: an unknown choice, no such table, a cell that is no split, a patient in two, or images without one
            that are not to be skipped.
    """
    look_up(dict.fromkeys(SPLITS), way, "--split")
    if not 0 <= validation < 1:
        raise UserError(f"--validation {validation}: a share of the patients, from 0 to below 1.")
    if way == "none":
        return frame
    if way == "p10-p18":
        return _by_folder(frame, validation, seed)
    path = require_table([tables], "mimic-cxr-*-split", "--tables, or say --split none")
    official = read_columns(path, ("dicom_id", "split"))
    known = official["split"].str.casefold().map(NAMES)
    if known.isna().any():
        first = official[known.isna()].iloc[0]
        raise UserError(f"{path}, line {first['line']}: {first['split']!r} is no split; get the table again.")
    of_image = dict(zip(official["dicom_id"], known, strict=True))
    frame = frame.assign(split=frame["dicom_id"].map(of_image))
    without = frame["split"].isna()
    tally.skip_or_refuse(skip_bad, str(path), "a split", list(frame.loc[without, "file"]), len(frame))
    frame = frame[~without].reset_index(drop=True)
    _refuse_overlap(frame, path)
    return frame


def _by_folder(frame: "pd.DataFrame", validation: float, seed: int) -> "pd.DataFrame":
    def split_of(patient: str) -> str:
        if patient[:2] == TEST_FOLDER:
            return "test"
        part = int(hash_patient(patient, f"validation-{seed}"), 16) / HASHES
        return "validation" if part < validation else "train"

    return frame.assign(split=frame["subject_id"].map({name: split_of(name) for name in frame["subject_id"].unique()}))


def _refuse_overlap(frame: "pd.DataFrame", path: Path) -> None:
    splits = frame.groupby("subject_id")["split"].nunique()
    if overlapping := list(splits[splits > 1].index):
        raise UserError(
            f"{path}: {len(overlapping)} patients are in two splits (p{overlapping[0]}, say); take another split with"
            " --split, or none and `medloom data split`."
        )
