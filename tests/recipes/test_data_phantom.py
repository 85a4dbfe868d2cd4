"""`medloom data phantom` from the command line."""

import csv
from pathlib import Path

import pytest

from medloom.cli.main import main


def test_a_hidden_column_is_in_no_table_and_no_text(tmp_path: Path) -> None:
    words = ["--patients", "6", "--size", "16", "--hide", "age", "--workers", "1", "--complete"]
    assert main(["data", "phantom", "--out", str(tmp_path / "c"), *words]) == 0
    for name in ("train.csv", "test.csv"):
        with (tmp_path / "c" / name).open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert all("age" not in row and "in the" not in row["Text"] for row in rows)
    assert "age:" not in (tmp_path / "c" / "template.yaml").read_text()
    assert main(["data", "check", str(tmp_path / "c" / "train.csv")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dims", "4"], "--dims 4"),
        (["--hide", "agee"], "did you mean 'age'"),
        (["--amplify", "9"], "--amplify 9"),
        (["--workers", "-1"], "--workers -1"),
        (["--template", "phantm"], "did you mean 'phantom'"),
        (["--template", "covid-cxr"], "which the table lacks"),
    ],
)
def test_bad_options_leave_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "phantom", "--out", str(tmp_path / "c"), "--patients", "2", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
