"""`medloom data prompts`: from a clinical table to a manifest with texts."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.data.manifest import read_manifest
from medloom.data.prompts import read_template
from medloom.recipes import data_prompts

TEMPLATE = """
columns:
  age: {say: "{value} years old"}
  smoking: {values: {never: never smoker, current: smoker}, missing: smoking unknown}
"""
ROWS = [("i/0.png", "p0", 61, "never"), ("i/1.png", "p1", 93, None), ("i/2.png", "p2", 0, "current")]
TEXTS = ["61 years old, never smoker", "90 or older, smoking unknown", "0 years old, smoker"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    for number in range(3):
        Image.new("L", (4, 4), number).save(tmp_path / "i" / f"{number}.png")
    (tmp_path / "t.yaml").write_text(TEMPLATE)
    frame().to_csv(tmp_path / "clinic.csv", index=False)
    return tmp_path


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["path", "patient_id", "age", "smoking"])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def prompts(folder: Path, *words: str, table: str = "clinic.csv", out: str = "m.csv") -> int:
    given = ["--template", str(folder / "t.yaml"), "--out", str(folder / out)]
    return main(["data", "prompts", str(folder / table), *given, *words])


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_every_kind_of_table(folder: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = folder / f"clinic.{form}"
    if form == "jsonl":
        frame().to_json(table, orient="records", lines=True)
    elif form == "parquet":
        frame().to_parquet(table)
    elif form == "xlsx":
        with pd.ExcelWriter(table) as writer:
            pd.DataFrame({"notes": ["read me"]}).to_excel(writer, sheet_name="about", index=False)
            frame().to_excel(writer, sheet_name="patients", index=False)
    else:
        frame().to_csv(table, sep="\t" if form == "tsv" else ",", index=False)
    sheet = ["--sheet", "patients"] if form == "xlsx" else []
    assert prompts(folder, *sheet, table=table.name) == 0
    assert [row["Text"] for row in read(folder / "m.csv")] == TEXTS
    assert (folder / "m.template.yaml").read_text() == TEMPLATE
    out = capsys.readouterr().out
    assert any(line.split()[1:6:2] == ["smoking", "1", "3"] for line in out.splitlines())
    assert read_manifest(folder / "m.csv").samples()[0].condition.table["age"] == 61


def test_paths_follow_the_manifest_and_a_split_takes_the_template_along(folder: Path) -> None:
    assert prompts(folder, out="elsewhere/m.csv") == 0
    assert read(folder / "elsewhere" / "m.csv")[1]["path"] == "../i/1.png"
    words = ["data", "split", str(folder / "elsewhere" / "m.csv"), "--out", str(folder / "split")]
    assert main([*words, "--test", "0.3", "--validation", "0"]) == 0
    assert (folder / "split" / "template.yaml").read_text() == TEMPLATE


def test_a_split_is_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts(folder) == 0
    assert main(["data", "split", str(folder / "m.csv"), "--out", str(folder / "split.csv")]) == 2
    assert "split.csv: give a folder" in capsys.readouterr().err and not (folder / "split.csv").exists()


def test_a_preview_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    assert main(["data", "prompts", str(folder / "clinic.csv"), "--template", str(folder / "t.yaml"), "--preview"]) == 0
    assert f"line 3: {TEXTS[1]}" in capsys.readouterr().out and sorted(folder.iterdir()) == before


def test_texts_are_replaced_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame().assign(Report="old").to_csv(folder / "clinic.csv", index=False)
    assert prompts(folder) == 2 and not (folder / "m.csv").exists()
    assert "has texts already, in column 'Report'; --replace" in capsys.readouterr().err
    assert prompts(folder, "--replace") == 0
    assert [(row["Text"], "Report" in row) for row in read(folder / "m.csv")] == [(text, False) for text in TEXTS]


def test_rows_that_cannot_be_told_are_listed_by_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame().assign(smoking=["Never", "nevr", "x"]).to_csv(folder / "clinic.csv", index=False)
    assert prompts(folder) == 2 and not (folder / "m.csv").exists()
    error = capsys.readouterr().err
    assert "2 of 3 rows cannot be used" in error
    assert "line 3: column 'smoking': 'nevr' is not in the value map, did you mean 'never'? Allowed: never" in error
    assert prompts(folder, "--skip-bad") == 0 and len(read(folder / "m.csv")) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "clinic.csv"], "is the table itself"),
        (["--out", "t.yaml"], "give a name that ends in .csv"),
        (["--out", "other.csv"], "already exists and was not written by this command"),
        (["--template", "ilt"], "neither a file nor a built-in template, did you mean 'ild'"),
        (["--sheet", "x"], "has no sheets"),
    ],
)
def test_mistakes(folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    (folder / "other.csv").write_text("mine\n")
    before = sorted(folder.iterdir())
    given = [str(folder / word) if word.endswith((".csv", ".yaml")) else word for word in words]
    assert prompts(folder, *given) == 2
    assert re.search(message, capsys.readouterr().err) and sorted(folder.iterdir()) == before


def test_a_workbook_that_is_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.xlsx").write_bytes(b"PK\x03\x04 cut short")
    assert prompts(folder, table="bad.xlsx") == 2
    assert "bad.xlsx cannot be read as .xlsx" in capsys.readouterr().err


@pytest.mark.shared
def test_a_real_table(shared: Path, tmp_path: Path) -> None:
    words = ["--template", "covid-cxr", "--out", str(tmp_path / "m.csv")]
    assert main(["data", "prompts", str(shared / "cxr.csv"), *words]) == 0
    rows = read(tmp_path / "m.csv")
    assert rows[1]["Text"] == (
        "Chest X-ray. COVID-19, 3 days after symptom onset or admission, 54 years old, male, survived."
    )
    assert len(read_manifest(tmp_path / "m.csv")) == 297


AIIB23 = """path,Patient ID,DIAGNOSIS,AGE,SEX,SMOKING HISTORY,PACK-YEARS,EXPOSURES,Familial PF,OUTCOME
a.nii.gz,1,UILD,68,Male,Never,0,birds,No,Alive
b.nii.gz,2,CTD-ILD,99999,F,Former,99999,,Yes,Dead
c.nii.gz,3,another,71,male,Current,40,99999,no,alive
"""


def test_a_ready_template_fits_its_own_table(folder: Path) -> None:
    (folder / "clinic.csv").write_text(AIIB23)
    assert prompts(folder, "--template", "aiib23") == 0
    first, second, third = [row["Text"] for row in read(folder / "m.csv")]
    assert first == (
        "Lung CT. diagnosis UILD, 68 years old, male, never smoker, 0 pack-years, exposures: birds,"
        " no familial pulmonary fibrosis, alive."
    )
    assert second == "Lung CT. diagnosis CTD-ILD, female, ex-smoker, familial pulmonary fibrosis, died."
    assert third.startswith("Lung CT. diagnosis another, 71 years old, male, current smoker, 40 pack-years, no famil")
    template = read_template(folder / "m.template.yaml")
    assert template.columns["outcome"].outcome and "pack_years" in read(folder / "m.csv")[0]


def test_a_ready_template_is_used_without_columns_that_are_absent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split(",") for line in AIIB23.splitlines()]
    # Without exposures and the smoking history, on which rules depend.
    (folder / "clinic.csv").write_text("\n".join(",".join([*line[:5], line[6], *line[8:]]) for line in lines))
    assert prompts(folder, "--template", "aiib23") == 0
    assert (
        "lacks 'smoking_history', 'exposures' of the template aiib23, which is used without" in capsys.readouterr().err
    )
    template = read_template(folder / "m.template.yaml")
    assert template.columns["pack_years"].parents == ("age",) and not template.columns["pack_years"].follows
    assert "exposures" not in template.columns and len(read(folder / "m.csv")) == 3


def test_codes_of_categories_are_no_slips_for_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "clinic.csv").write_text("path,patient_id,diagnosis\na.nii.gz,1,UILD\nb.nii.gz,2,NSIPP\n")
    assert prompts(folder, "--template", "ild") == 2
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert "'UILD' is not in the value map. Allowed" in first and "did you mean 'NSIP'" in second


def test_one_that_was_killed_can_be_run_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: object) -> None:
        (folder / "out" / ".m-0a1b2c3d.partial.csv").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_prompts, "write_csv", killed)
        assert prompts(folder, out="out/m.csv") == 130
    assert prompts(folder, out="out/m.csv") == 0 and prompts(folder, out="out/m.csv") == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["m.csv", "m.template.yaml"]
