"""A public data set that medloom does not know: a file with its options and a row of the commands."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.data.manifest import read_manifest
from medloom.data.sources.importing import ImportOptions, check_folder, check_options, finish, paths_of
from medloom.data.sources.tally import Tally
from medloom.recipes.commands import RECIPES


@dataclass(frozen=True, kw_only=True)
class Config(ImportOptions):
    """Import a folder of slides whose file names say what they show."""


def run(config: Config) -> Path | None:
    """Every PNG file is a row."""
    check_options(config)
    check_folder(config)
    files = pd.Series(sorted(path.name for path in config.root.glob("*.png")))
    rows = pd.DataFrame({"path": paths_of(config, config.root, files), "Text": files.str.removesuffix(".png")})
    rows = rows.assign(modality="Slide", patient_id=[f"p{number}" for number in range(len(rows))])
    return finish(config, rows, list(rows.columns), Tally())


def test_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("slides")
    module.__dict__.update(Config=Config, run=run)
    monkeypatch.setitem(sys.modules, "slides", module)
    monkeypatch.setitem(RECIPES, "data import slides", ("slides", "a folder of slides becomes a manifest"))
    (tmp_path / "slides").mkdir()
    for name in ("Necrosis", "Normal tissue"):
        Image.new("L", (8, 8)).save(tmp_path / "slides" / f"{name}.png")
    out = tmp_path / "slides.csv"
    assert main(["data", "import", "slides", str(tmp_path / "slides"), "--out", str(out)]) == 0
    samples = read_manifest(out).samples()
    assert [sample.condition.text for sample in samples] == ["Necrosis", "Normal tissue"]
    assert main(["data", "import", "--help"]) == 0
    assert "a folder of slides becomes a manifest" in capsys.readouterr().out
