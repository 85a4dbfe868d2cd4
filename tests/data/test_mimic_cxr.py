"""The tables of MIMIC-CXR: times, order, splits, labels and demographics, each from a table of a few lines."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from medloom.core.errors import UserError
from medloom.data.sources.mimic_cxr import (
    find_layout,
    find_reports,
    on_disk,
    one_per_study,
    read_images,
    read_reports,
    report_files,
)
from medloom.data.sources.mimic_tables import add_demographics, add_labels, add_split
from medloom.data.sources.raw_tables import find_table, read_columns
from medloom.data.sources.tally import Tally

HEADER = "dicom_id,subject_id,study_id,ViewPosition,StudyDate,StudyTime\n"


def images(folder: Path, lines: str, tally: Tally | None = None) -> pd.DataFrame:
    (folder / "mimic-cxr-2.0.0-metadata.csv").write_text(HEADER + lines)
    return read_images(folder, tally or Tally())


def counts(tally: Tally) -> dict[str, int]:
    return {entry.rule: entry.count for entry in tally.entries}


def test_a_study_has_the_earliest_time_of_its_images(tmp_path: Path) -> None:
    lines = "b,10000032,5,PA,21800506,100000.5\na,10000032,5,AP,21800506,95959\nc,10000032,4,PA,21800506,100000\n"
    frame = images(tmp_path, lines)
    assert list(frame["dicom_id"]) == ["a", "b", "c"]
    assert list(frame["time"]) == ["2180-05-06T09:59:59"] * 2 + ["2180-05-06T10:00:00"]
    assert frame["file"][0] == "p10/p10000032/s5/a"


@pytest.mark.parametrize(
    ("day", "clock", "time"),
    [
        ("21800506", "213014.53100", "2180-05-06T21:30:14.531"),
        ("21800506.0", "7", "2180-05-06T00:00:07"),
        ("21800506", "245959", "2180-05-06"),
        ("21800506", "126000", "2180-05-06"),
        ("21800506", "noon", "2180-05-06"),
        ("21801306", "120000", ""),
        ("", "120000", ""),
    ],
)
def test_times(tmp_path: Path, day: str, clock: str, time: str) -> None:
    tally = Tally()
    assert images(tmp_path, f"a,10000032,5,PA,{day},{clock}\n", tally)["time"][0] == time
    assert counts(tally)["a readable date"] == (not time)
    assert counts(tally)["a readable time of day"] == (len(time) == 10)


def test_patients_are_sorted_by_number_and_a_study_belongs_to_one(tmp_path: Path) -> None:
    frame = images(tmp_path, "a,19000000,7,PA,21800101,0\nb,10000000,9,PA,21900101,0\nc,10000000,8,PA,21900101,0\n")
    assert list(frame["study_id"]) == ["8", "9", "7"]


def test_the_newest_table_is_taken_and_the_plain_one_first(tmp_path: Path) -> None:
    for name in ("t-2.0.0-x.csv", "t-2.1.0-x.csv.gz", "t-2.1.0-x.csv"):
        (tmp_path / name).write_bytes(gzip.compress(b"a\n1\n") if name.endswith("gz") else b"a\n1\n")
    assert find_table([tmp_path / "none", tmp_path], "t-*-x") == tmp_path / "t-2.1.0-x.csv"
    (tmp_path / "t-2.1.0-x.csv").unlink()
    assert find_table([tmp_path], "t-*-x") == tmp_path / "t-2.1.0-x.csv.gz"
    assert read_columns(tmp_path / "t-2.1.0-x.csv.gz", ["a"]).to_dict("list") == {"a": ["1"], "line": [2]}
    assert find_table([tmp_path], "other") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a,b\n1,"2\n', "the table is damaged"),
        (b"a,b\n1,\xff\n", "the table is damaged"),
        (b"a,b\n1,2\n3\n", "line 3: 1 fields where the header has 2"),
        (b"a,c\n1,2\n", "no column 'b'"),
        (b"", "no column 'a'"),
        (b"a,b\n", "has no row"),
    ],
)
def test_a_table_that_is_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_columns(tmp_path / "t.csv", ["a", "b"])


def test_layouts(tmp_path: Path) -> None:
    frame = images(tmp_path, "a,10000032,5,PA,21800506,0\nb,10000032,5,PA,21800506,0\n")
    with pytest.raises(UserError, match="none of the 2 images"):
        find_layout(tmp_path, frame)
    for folder, suffix in ((tmp_path, ".dcm"), (tmp_path / "files", ".jpg")):
        file = folder / f"p10/p10000032/s5/b{suffix}"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        layout = find_layout(tmp_path, frame)
        assert (layout.folder, layout.suffix) == (folder, suffix)
    tally = Tally()
    with pytest.raises(UserError, match=r"1 of 2 images lack a file \(p10/p10000032/s5/a.jpg\)"):
        on_disk(frame, layout, False, tally)
    assert list(on_disk(frame, layout, True, Tally())["dicom_id"]) == ["b"]


def test_the_preferred_view(tmp_path: Path) -> None:
    views = ("", "XTABLE", "LL", "LATERAL", "AP", "PA", "PA")
    lines = "".join(f"{name},10000032,5,{view},21800506,0\n" for name, view in zip("abcdefg", views, strict=True))
    frame = images(tmp_path, lines)
    for expected in ("f", "g", "e", "d", "c", "b", "a"):
        chosen = one_per_study(frame, (), Tally())
        assert list(chosen["dicom_id"]) == [expected]
        frame = frame[frame["dicom_id"] != expected].reset_index(drop=True)
    whole = images(tmp_path, lines)
    assert list(one_per_study(whole, ("ll", "PA"), Tally())["dicom_id"]) == ["c"]


def test_the_fraction_of_the_validation_set(tmp_path: Path) -> None:
    lines = "".join(f"i{n},{10000000 + n * 9973},{n},PA,21800506,0\n" for n in range(1000))
    frame = images(tmp_path, lines)
    split = add_split(frame, tmp_path, "p10-p18", 0.2, 0, False, Tally())
    assert set(split.loc[frame["subject_id"].str.startswith("19"), "split"]) == {"test"}
    rest = split[split["split"] != "test"]
    assert 0.16 < (rest["split"] == "validation").mean() < 0.24
    other = add_split(frame, tmp_path, "p10-p18", 0.2, 1, False, Tally())
    assert not (other["split"] == split["split"]).all()
    none = add_split(frame, tmp_path, "p10-p18", 0.0, 0, False, Tally())
    assert set(none["split"]) == {"train", "test"}


def test_labels_are_those_of_the_study(tmp_path: Path) -> None:
    frame = images(tmp_path, "a,10000032,5,PA,21800506,0\nb,10000032,5,AP,21800506,0\nc,10000032,6,AP,21800507,0\n")
    table = "subject_id,study_id,No Finding,Lung Lesion\n10000032,5,,-1.0\n10000033,7,1.0,-1.0\n"
    (tmp_path / "mimic-cxr-2.0.0-negbio.csv").write_text(table)
    tally = Tally()
    labelled, names = add_labels(frame, tmp_path, "negbio", "keep", tally)
    assert names == ["no_finding", "lung_lesion"]
    assert list(labelled["lung_lesion"]) == ["-1", "-1", ""] and list(labelled["no_finding"]) == ["", "", ""]
    assert counts(tally) == {"labels of negbio": 1, "certain labels": 1}


def test_older_releases_call_race_ethnicity(tmp_path: Path) -> None:
    frame = images(tmp_path, "a,10000032,5,PA,21800506,0\n")
    core = tmp_path / "core"
    core.mkdir()
    (core / "patients.csv").write_text("subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2180\n")
    assert add_demographics(frame, tmp_path, Tally())["race"][0] == ""
    stays = "10000032,1,2180,WHITE\n10000032,2,2181,ASIAN\n10000032,3,2182,ASIAN\n"
    (core / "admissions.csv").write_text(f"subject_id,hadm_id,admittime,ethnicity\n{stays}")
    found = add_demographics(frame, tmp_path, Tally()).iloc[0]
    assert (found["age"], found["sex"], found["race"]) == ("52", "F", "ASIAN")
    (core / "patients.csv").write_text("subject_id,gender,anchor_age,anchor_year\n10000032,F,old,2180\n")
    with pytest.raises(UserError, match="line 2, column 'anchor_age': 'old' is not a number"):
        add_demographics(frame, tmp_path, Tally())


def test_reports_are_found_where_the_archive_puts_them(tmp_path: Path) -> None:
    frame = images(tmp_path, "a,10000032,5,PA,21800506,0\nb,10000032,6,PA,21800506,0\n")
    assert find_reports(tmp_path, frame) is None
    for below in ("mimic-cxr-reports/files", "files", ""):
        folder = tmp_path / below
        (folder / "p10/p10000032").mkdir(parents=True)
        (folder / "p10/p10000032/s5.txt").write_text("IMPRESSION: Normal.\n")
        assert find_reports(tmp_path, frame) == folder
    (tmp_path / "p10/p10000032/s6.txt").write_bytes(b"IMPRESSION: \xff")
    tally = Tally()
    read = dict(read_reports(tmp_path, report_files(frame), lambda count=1, note="": None, tally))
    assert read == {"5": {"impression": "Normal."}}
    assert tally.entries[0].count == 1 and tally.entries[0].names == ("p10/p10000032/s6.txt",)
