"""`data check` opens masks and prior images, and prints whatever cells hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.cli.main import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(3):
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) + number).save(tmp_path / f"{number}.png")
        Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / f"mask{number}.png")
    rows = (f"{number}.png,t,p{number},mask{number}.png,{(number + 1) % 3}.png" for number in range(3))
    (tmp_path / "m.csv").write_text("\n".join(["path,Text,patient_id,mask,prior", *rows]) + "\n")
    return tmp_path / "m.csv"


@pytest.mark.parametrize("decode", ["always", "never"])
def test_a_sound_table(table: Path, decode: str) -> None:
    assert main(["data", "check", str(table), "--decode", decode]) == 0


@pytest.mark.parametrize("name", ["mask1.png", "2.png"])
def test_a_damaged_mask_or_prior_image_is_found(table: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table.write_text(table.read_text().replace("2.png,t,p2,mask2.png,0.png\n", ""))
    (table.parent / name).write_bytes(b"not an image")
    assert main(["data", "check", str(table)]) == 2
    column = "mask" if name.startswith("mask") else "prior"
    assert f"line 3: column '{column}': " in capsys.readouterr().out


def test_a_mask_that_is_no_label_map_is_found(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)).save(table.parent / "mask0.png")
    assert main(["data", "check", str(table)]) == 2
    assert "line 2: column 'mask': " in capsys.readouterr().out


def test_cells_with_brackets_and_controls_are_printed(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = table.read_text().splitlines()
    cells = ("[/bold] 5 [mg", "\x1b[31mred", "[link=x]y")
    lines = [f"{head},[note]", *(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True))]
    table.write_text("\n".join(lines) + "\n")
    assert main(["data", "check", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "[note]" in printed and "[/bold] 5 [mg" in printed and "\x1b[31m" not in printed


def test_identifiers_and_separators_are_remarked(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = table.read_text().replace("p0", "007").replace("p1", "7").replace("p2", "7.0").replace(",", ";")
    table.write_text(text)
    assert main(["data", "check", str(table)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "columns are separated by a semicolon" in printed
    assert "1 patient is spelled in several ways" in printed and "differs only by zeros in front" in printed


def test_images_of_one_patient_are_not_taken_for_patients(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(table), "--images-are-patients"]) == 0
    table.write_text(table.read_text().replace("p1", "p0"))
    assert main(["data", "check", str(table), "--images-are-patients"]) == 2
    assert "by column 'patient_id' 1 of 2 patients have several images" in capsys.readouterr().err
