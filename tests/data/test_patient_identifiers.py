"""A patient is one, however a program spelled the identifier, in every form of table."""

import unicodedata
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from PIL import Image

from medloom.core.cells import alike_identifier, identifier
from medloom.core.errors import UserError
from medloom.data.manifest import inspect_manifest, read_manifest
from medloom.data.splits import make_split
from medloom.recipes import data_split

COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "Zoë-7"), unicodedata.normalize("NFD", "Zoë-7")


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("10007.0", "10007"),
        (10007.0, "10007"),
        (10007, "10007"),
        (1e15, "1000000000000000"),
        ("007", "007"),
        (DECOMPOSED, COMPOSED),
        ("P\u200b12\ufeff", "P12"),
        ("P\u00a012 \t3", "P 12 3"),
        ("7.5", "7.5"),
        ("10007.", "10007"),
        ("1e+05", "100000"),
        ("1E5", "1E5"),
        ("Zoe\u200b\u0308", COMPOSED[:3]),
        ("A\ufe0f1", "A1"),
        ("N/A", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_one_form_of_an_identifier(cell: object, form: str | None) -> None:
    assert identifier(cell) == form


def test_what_is_alike() -> None:
    assert alike_identifier("007") == alike_identifier("7") and alike_identifier("P010-a") == alike_identifier("p10-A")
    assert alike_identifier("100") != alike_identifier("10") and alike_identifier("0") == "0"


def write(folder: Path, form: str, cells: list[object]) -> Path:
    for number in range(len(cells)):
        Image.new("L", (4, 4), number).save(folder / f"{number}.png")
    frame = pd.DataFrame({"path": [f"{n}.png" for n in range(len(cells))], "Text": "a", "patient_id": cells})
    path = folder / f"m.{form}"
    if form == "xlsx":
        sheet = openpyxl.Workbook()
        for row in [list(frame.columns), *frame.values.tolist()]:
            sheet.active.append(row)
        sheet.save(path)
    elif form == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_texts_stay_texts_and_spellings_are_one_patient_in_every_form(tmp_path: Path, form: str) -> None:
    manifest = read_manifest(write(tmp_path, form, ["007", "7", "8.0", "8", DECOMPOSED, COMPOSED]))
    assert manifest.frame["patient_id"].tolist() == ["007", "7", "8", "8", COMPOSED, COMPOSED]
    spelled, close = manifest.notes
    start = 1 if form == "jsonl" else 2
    assert "2 patients are spelled in several ways" in spelled and f"lines {start + 2} and {start + 3}" in spelled
    assert "1 patient has another one that differs only by zeros" in close and f"lines {start} and {start + 1}" in close


def test_numbers_of_a_spreadsheet_with_an_empty_cell_have_no_point(tmp_path: Path) -> None:
    frame = inspect_manifest(write(tmp_path, "parquet", [12345.0, None, 12346.0])).frame
    assert frame["patient_id"].tolist() == ["12345", None, "12346"]


def test_no_patient_is_in_two_splits_under_two_spellings(tmp_path: Path) -> None:
    cells = [f"{number}.0" if visit else str(number) for number in range(100, 120) for visit in (0, 1)]
    out = data_split.run(data_split.Config(data=write(tmp_path, "csv", cells), out=tmp_path / "split", test=0.3))
    train, test = (set(read_manifest(out / f"{name}.csv").frame["patient_id"]) for name in ("train", "test"))
    assert not train & test and len(train | test) == 20


def test_the_guard_against_overlap_sees_other_spellings(tmp_path: Path) -> None:
    trained = read_manifest(write(tmp_path, "xlsx", ["001", "002", "7.0", DECOMPOSED]))
    split = make_split(trained, ["train"] * 4)
    (tmp_path / "other").mkdir()
    tested = read_manifest(write(tmp_path / "other", "csv", ["001", "002", "7", COMPOSED]))
    with pytest.raises(UserError, match="4 of its 4 patients were in the training set"):
        split.refuse_overlap(tested, "model")
