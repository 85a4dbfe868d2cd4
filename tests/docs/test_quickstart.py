"""The notebook of the quickstart runs from its first to its last cell, here with a few patients and steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
SETTINGS = 'TABLE = None\nPATIENTS, STEPS = 60, 4\nSECTIONS = ["identifiers"]'


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_has_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    assert code_cells()[0].startswith("TABLE = None\nPATIENTS, STEPS")
    compile("\n\n".join(code_cells()), str(NOTEBOOK), "exec")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs(tmp_path: Path) -> None:
    script = tmp_path / "quickstart.py"
    script.write_text("\n\n".join([SETTINGS, *code_cells()[1:]]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "images" / "manifest.csv").is_file()
