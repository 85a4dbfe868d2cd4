"""`medloom ablate`: a chain over a grid of options, shared steps run once, one table out."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from medloom.cli.main import main
from medloom.core.files import hash_file
from medloom.recipes.commands import run_command

SMALL = {name: value for name, value in TINY.items() if name != "device"}


def grid_of(manifest: Path, **told: object) -> dict[str, object]:
    evaluation = {"real": str(manifest), "synthetic": "{generate}/manifest.csv", "only": ["identifiers"]}
    evaluation |= {"image_size": [16], "label": "none", "device": "cpu"}
    return {
        "steps": [
            {"run": "train text2image", "options": {"data": str(manifest), "device": "cpu", **SMALL}},
            {"run": "generate", "options": {"model": "{train text2image}", "data": str(manifest), "device": "cpu"}},
            {"run": "evaluate images", "options": evaluation},
        ],
        **told,
    }


def write(path: Path, told: object) -> Path:
    path.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    return path


def test_every_combination_is_a_cell_and_shared_steps_are_run_once(
    make_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    grid = {"train text2image.loop.seed": [0], "generate.steps": [1, 3]}
    file = write(tmp_path / "grid.yaml", grid_of(make_manifest(24), grid=grid))
    table = run_command("ablate", grid=file, out=tmp_path / "out")
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    assert cells == ["loop.seed=0, steps=1", "loop.seed=0, steps=3"]
    assert len(list((tmp_path / "out").glob("train-text2image-*"))) == 1
    assert len(list((tmp_path / "out").glob("generate-*"))) == 2
    page = (tmp_path / "out" / "ablation.md").read_text()
    assert page.count("\n") == 2 + len({(row["metric"], row["subset"]) for row in rows}) and cells[0] in page
    before = hash_file(table)
    assert hash_file(run_command("ablate", grid=file, out=tmp_path / "out")) == before


@pytest.mark.slow
def test_named_cells(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    cells = {"as it is": {}, "few steps": {"generate.steps": 1}}
    file = write(tmp_path / "grid.yaml", grid_of(make_manifest(84), cells=cells))
    run_command("ablate", grid=file, out=tmp_path / "out")
    assert "| metric | of | as it is | few steps |" in (tmp_path / "out" / "ablation.md").read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "either `grid` or `cells`"),
        ({"grid": {"generate.steps": 3}}, "a list of values"),
        ({"grid": {"genrate.steps": [3]}}, "did you mean 'generate'"),
        ({"grid": {"generate": [3]}}, "names no option"),
        ({"cells": {"one": {"generate.stps": 3}}}, "steps"),
        ({"steps": [{"run": "trian", "options": {}}]}, "command"),
        ({"steps": [{"run": "generate", "options": {"out": "x"}}]}, "without out"),
        ({"setps": []}, "did you mean 'steps'"),
    ],
)
def test_mistakes(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, object],
    message: str,
) -> None:
    file = write(tmp_path / "grid.yaml", {**grid_of(make_manifest(12)), **changed})
    assert main(["ablate", "--grid", str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert main(["ablate", "--grid", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "o")]) == 2
