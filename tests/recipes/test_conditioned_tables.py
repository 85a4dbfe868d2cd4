"""Columns of a table from a manifest to images: trained, generated, changed, and refused where they do not fit."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from medloom.cli.main import main
from medloom.generators.storage import load_generator
from medloom.recipes.commands import run_command

TEMPLATE = """
columns:
  kind: {values: {disc: a disc, square: a square, ring: a ring}}
  level: {say: "", unit: grey levels, sentinels: [-1]}
"""
ROWS = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat images whose grey level is a column of the table that the text does not say, and a run trained on them."""
    root = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = ["path,Text,patient_id,modality,kind,level"]
    for number in range(ROWS):
        level = int(rng.integers(20, 236))
        pixels = np.clip(rng.normal(level, 3, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        told = ("", "-1")[number // 8 % 2] if number % 8 == 0 else str(level)
        kind = ("disc", "square")[number % 2]
        lines.append(f"{number}.png,a {kind},p{number},X-ray,{kind},{told}")
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    (root / "template.yaml").write_text(TEMPLATE)
    options = {**TINY, "loop.steps": 250, "loop.batch": 16, "loop.learning_rate": 5e-3}
    options |= {"loop.validate_every": 250, "loop.checkpoint_every": 250, "network.fusion": "affine"}
    run_command("train text2image", data=root / "data.csv", out=root / "run", table=["level", "kind"], **options)
    return root


def level_of(out: Path, row: dict[str, str]) -> float:
    return float(np.asarray(Image.open(out / row["path"])).mean())


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_run_keeps_what_it_saw_of_each_column(folder: Path) -> None:
    level, kind = load_generator(folder / "run" / "model").columns
    assert level.sentinels == ("-1",) and 20 <= level.low < level.mean < level.high < 236
    assert kind.categories == ("disc", "square")


def test_a_change_of_a_column_that_no_text_says_changes_the_image_as_it_should(folder: Path, tmp_path: Path) -> None:
    given = {"model": folder / "run", "data": folder / "data.csv", "rows": 4, "steps": 8, "device": "cpu"}
    arms = ("level=60", "level=200")
    manifest = run_command("whatif", out=tmp_path, set=arms, guidance=["1"], with_text=True, **given)
    rows = rows_of(manifest)
    by_arm = {arm: np.mean([level_of(tmp_path, row) for row in rows if row["arm"] == arm]) for arm in arms}
    assert by_arm["level=200"] - by_arm["level=60"] > 70
    assert {row["text"] for row in rows} <= {"a disc", "a square"}


def test_generate_takes_cells_and_writes_them_to_its_manifest(folder: Path, tmp_path: Path) -> None:
    given = {"model": folder / "run", "modality": "X-ray", "steps": 8, "guidance": ["1"], "device": "cpu", "n": 4}
    levels = {}
    for level in (60, 200):
        out = tmp_path / str(level)
        manifest = run_command("generate", out=out, prompt="a disc", table=f"level={level},kind=disc", **given)
        rows = rows_of(manifest)
        assert {(row["level"], row["kind"]) for row in rows} == {(f"{level}", "disc")}
        levels[level] = np.mean([level_of(out, row) for row in rows])
    assert levels[200] - levels[60] > 70
    described = json.loads((out / "generation.json").read_text())
    assert described["options"]["table"] == "level=200,kind=disc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "kind=triangle"], "'triangle' was never trained on"),
        (["--table", "lvel=3"], "did you mean 'level'?"),
        (["--table", "level=high"], "'high' is not a number"),
        (["--table", "level"], "is not COLUMN=VALUE"),
        (["--table", "kind=disc", "--guidance", "tabel=2"], "did you mean 'table'?"),
    ],
)
def test_cells_that_do_not_fit_are_refused_in_one_sentence(
    folder: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["generate", "--model", str(folder / "run"), "--prompt", "a disc", "--modality", "X-ray", "--out", str(out)]
    assert main([*given, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and not out.exists()


def test_a_change_to_what_training_never_saw_is_refused_unless_allowed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["whatif", "--model", str(folder / "run"), "--data", str(folder / "data.csv"), "--rows", "1", "--n", "1"]
    given += ["--steps", "2", "--out", str(out), "--set"]
    assert main([*given, "level=900"]) == 2
    error = capsys.readouterr().err
    assert "training has not seen level=900; seen: 33 to 235" in error and "--allow-unseen" in error
    assert not out.exists()
    assert main([*given, "kind=ring"]) == 2
    assert "training has not seen kind=ring; seen: disc, square" in capsys.readouterr().err
    assert main([*given, "level=900", "--allow-unseen"]) == 0
    assert (out / "manifest.csv").is_file()


def test_a_manifest_without_a_column_of_the_model_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder / "other.csv"
    other.write_text("path,Text,patient_id,modality,kind\n0.png,a disc,p0,X-ray,disc\n")
    given = ["generate", "--model", str(folder / "run"), "--data", str(other), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert "line 2: no column 'level', which conditions the model" in capsys.readouterr().err
