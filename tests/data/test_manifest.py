"""Manifests: forms, aliases, types, problems by line, memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.data.manifest import inspect_manifest, read_manifest
from medloom.data.splits import Split, assign_splits, make_split


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(4):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    return tmp_path


ROWS = [("0.png", "one, two", "CT", "p0", 61.5), ("1.png", "three", "CT", "p1", None), ("2.png", "x", "MR", "p1", 0)]


def write_as(folder: Path, form: str) -> Path:
    frame = pd.DataFrame(ROWS, columns=["path", "Text", "modality", "patient_id", "pack years"])
    path = folder / f"m.{form}"
    if form == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, sep="\t" if form == "tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_every_form_gives_the_same(pictures: Path, form: str) -> None:
    manifest = read_manifest(write_as(pictures, form))
    samples = manifest.samples()
    assert [sample.condition.text for sample in samples] == ["one, two", "three", "x"]
    assert [sample.condition.table["pack years"] for sample in samples] == [61.5, None, 0.0]
    assert samples[0].path == (pictures / "0.png").resolve() and samples[2].patient == "p1"
    assert [sample.line for sample in samples] == ([1, 2, 3] if form == "jsonl" else [2, 3, 4])


def test_blanks_after_commas_and_aliases(pictures: Path) -> None:
    (pictures / "m.csv").write_text('path, Caption, modal, Subject\n0.png, "a, b", CT, 7\n1.png, c, MR, 8\n')
    manifest = read_manifest(pictures / "m.csv")
    assert manifest.modalities == ["CT", "MR"] and manifest.frame["text"].tolist() == ["a, b", "c"]
    assert manifest.frame["patient_id"].tolist() == ["7", "8"]


def test_two_aliases_must_be_distinguished(pictures: Path) -> None:
    (pictures / "m.csv").write_text("path,report,impression,patient_id\n0.png,long,short,1\n")
    with pytest.raises(UserError, match="'report' and 'impression' could both be the text"):
        read_manifest(pictures / "m.csv")
    manifest = read_manifest(pictures / "m.csv", named={"text": "impression"})
    assert manifest.frame["text"].tolist() == ["short"] and manifest.clinical_columns == ["report"]


def test_columns_that_have_another_name(pictures: Path) -> None:
    path = pictures / "m.csv"
    path.write_text("file,Clinical note,sex,patient_id\n0.png,long,f,1\n")
    named = {"text": "Clinical note"}
    assert read_manifest(path, named=named).columns["text"] == "Clinical note"
    with pytest.raises(UserError, match="unknown standard column of --columns 'txt', did you mean 'text'. Known: path"):
        read_manifest(path, named={"txt": "Clinical note"})
    with pytest.raises(UserError, match="no column 'Clinical notes' for text, did you mean 'Clinical note'"):
        read_manifest(path, named={"text": "Clinical notes"})
    with pytest.raises(UserError, match="no text column; it is recognised as .* name it with --columns text=NAME."):
        read_manifest(path)


def test_clinical_columns_keep_their_type(pictures: Path) -> None:
    (pictures / "m.csv").write_text("path,Text,patient_id,age,stage,line\n0.png,a,1,61,2A,x\n1.png,b,2,NA,,y\n")
    frame = read_manifest(pictures / "m.csv").frame
    assert frame["age"].dtype.kind == "f" and frame["stage"].tolist() == ["2A", None] and frame["line_"][0] == "x"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_word_none_is_a_value_among_words_only(pictures: Path, form: str) -> None:
    cells = {"path": ["0.png", "1.png"], "Text": ["a", "b"], "patient_id": ["1", "2"], "view": ["none", "PA"]}
    frame = pd.DataFrame({**cells, "diagnosis": ["none", "None"], "stage": ["2A", "N/A"], "age": ["none", "61"]})
    frame.to_csv(pictures / "m.csv", index=False) if form == "csv" else frame.to_parquet(pictures / "m.parquet")
    read = read_manifest(pictures / f"m.{form}").frame
    assert read["diagnosis"].tolist() == ["none", "none"] and read["view"].tolist() == [None, "PA"]
    assert read["stage"].tolist() == ["2A", None]
    assert form == "parquet" or (read["age"].isna().tolist() == [True, False] and read["age"][1] == 61)


def test_a_text_over_several_lines_keeps_line_numbers_right(pictures: Path) -> None:
    (pictures / "m.csv").write_text('path,Text,patient_id\n0.png,"first\nsecond",1\n1.png,bad,comma,2\n2.png,x,3\n')
    manifest = inspect_manifest(pictures / "m.csv")
    assert [(problem.line, problem.reason[:8]) for problem in manifest.problems] == [(4, "4 fields")]
    assert manifest.frame["line"].tolist() == [2, 5]


def test_a_quote_that_never_closes(pictures: Path) -> None:
    (pictures / "m.csv").write_text('path,Text,patient_id\n0.png,a,1\n1.png,"b,2\n2.png,c,3\n')
    with pytest.raises(UserError, match="line 3: .* a quote that opens here is never closed"):
        read_manifest(pictures / "m.csv")


def test_skip_bad_says_how_many(pictures: Path) -> None:
    (pictures / "m.csv").write_text("path,Text,patient_id\n0.png,a,1\ngone.png,b,2\n")
    manifest = read_manifest(pictures / "m.csv", skip_bad=True)
    assert len(manifest) == 1 and "1 bad rows were left out (--skip-bad), 1 are used" in manifest.notes[0]


def test_json_lines_with_a_broken_one(pictures: Path) -> None:
    lines = [json.dumps({"path": "0.png", "text": "a", "patient_id": 1}), "{broken", "[1]"]
    (pictures / "m.jsonl").write_text("\n".join(lines))
    assert [problem.line for problem in inspect_manifest(pictures / "m.jsonl").problems] == [2, 3]


def test_an_image_of_several_pairs_has_a_row_with_each_earlier_one(pictures: Path) -> None:
    lines = ["path,Text,patient_id,prior", "2.png,a,1,0.png", "2.png,b,1,1.png", "2.png,c,1,1.png"]
    (pictures / "m.csv").write_text("\n".join(lines))
    problems = inspect_manifest(pictures / "m.csv").problems
    assert [(problem.line, "same path as line 3" in problem.reason) for problem in problems] == [(4, True)]


def test_images_are_patients_by_content(pictures: Path) -> None:
    (pictures / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    (pictures / "m.csv").write_text("path,Text\n0.png,a\n1.png,b\ncopy.png,c\n")
    patients = read_manifest(pictures / "m.csv", images_are_patients=True).frame["patient_id"].tolist()
    assert patients[0] == patients[2] != patients[1]


def test_images_are_no_patients_where_a_patient_has_several(pictures: Path) -> None:
    (pictures / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    table = pictures / "m.csv"
    table.write_text("path,Text,Subject\n0.png,a,1\n1.png,b,2\n2.png,c,2.0\n")
    with pytest.raises(UserError, match="by column 'Subject' 1 of 2 patients have several images"):
        read_manifest(table, images_are_patients=True)
    alone = read_manifest(table, images_are_patients=True, named={"patient_id": "none"})
    assert alone.frame["patient_id"].nunique() == 3
    # One image each, in as many rows as there are texts of it, and rows without a patient.
    table.write_text("path,Text,Subject\n0.png,a,1\ncopy.png,b,1\n1.png,c,2\n2.png,d,\n")
    assert read_manifest(table, images_are_patients=True).frame["patient_id"].nunique() == 3


def test_written_and_read_again(pictures: Path) -> None:
    manifest = read_manifest(write_as(pictures, "csv"))
    manifest.write(pictures / "again.csv")
    again = read_manifest(pictures / "again.csv")
    assert [s.condition for s in again.samples()] == [s.condition for s in manifest.samples()]
    assert (pictures / "again.csv").read_text().splitlines()[1].startswith("0.png,")


def test_no_row_is_still_a_manifest(pictures: Path) -> None:
    manifest = read_manifest(write_as(pictures, "csv"))
    nothing = manifest.select([False] * len(manifest))
    assert len(nothing.select([])) == 0 and nothing.select([]).samples() == [] and nothing.fingerprint()


def test_splits_keep_patients_together_and_recognise_them(make_manifest: Callable[..., Path]) -> None:
    path = make_manifest(40)
    path.write_text(path.read_text().replace(",p1,", ",p3,"))
    manifest = read_manifest(path)
    splits = assign_splits(manifest, {"train": 0.5, "validation": 0.2, "test": 0.3}, seed=0)
    of_patient: dict[str, set[str]] = {}
    for patient, name in zip(manifest.frame["patient_id"], splits, strict=True):
        of_patient.setdefault(patient, set()).add(name)
    assert all(len(names) == 1 for names in of_patient.values()) and set(splits) == {"train", "validation", "test"}
    split = Split.from_dict(make_split(manifest, splits).to_dict())
    assert split == make_split(manifest, splits) and "p3" not in json.dumps(split.to_dict())
    with pytest.raises(UserError, match="of its 39 patients were in the training set of the model"):
        split.refuse_overlap(manifest, "the model")
    unseen = manifest.select(name != "train" for name in splits)
    split.refuse_overlap(unseen, "the model")


def test_a_patient_in_two_splits_is_refused(pictures: Path) -> None:
    (pictures / "m.csv").write_text("path,Text,patient_id,split\n0.png,a,1,train\n1.png,b,1,test\n")
    with pytest.raises(UserError, match="line 3: this patient is in train and in test"):
        assign_splits(read_manifest(pictures / "m.csv"), {"train": 1.0}, 0)


def test_the_fingerprint_moves_with_the_folder_and_sees_every_change(pictures: Path, tmp_path: Path) -> None:
    text = "path,Text,patient_id,mask,view\n0.png,a,1,3.png,PA\n1.png,b,2,,\n"
    (pictures / "m.csv").write_text(text)
    first = read_manifest(pictures / "m.csv").fingerprint()
    copy = shutil.copytree(pictures, tmp_path.parent / f"{tmp_path.name}-moved")
    assert read_manifest(copy / "m.csv").fingerprint() == first
    for old, new in (("a,1", "c,1"), ("2,,", "3,,"), (",PA", ",AP"), ("3.png", "2.png")):
        (copy / "m.csv").write_text(text.replace(old, new))
        assert read_manifest(copy / "m.csv").fingerprint() != first


def test_a_column_with_a_taken_name_is_renamed(pictures: Path, tmp_path: Path) -> None:
    (pictures / "two.csv").write_text("path,Text,report,patient_id\n0.png,worded,written,p\n", encoding="utf-8")
    manifest = read_manifest(pictures / "two.csv", named={"text": "report"})
    assert manifest.samples()[0].condition.text == "written" and manifest.clinical_columns == ["Text_"]
    manifest.write(tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").samples()[0].condition.text == "written"
