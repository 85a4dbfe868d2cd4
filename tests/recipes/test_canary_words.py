"""Words that stand in one cell of a table each: none of them is found in any byte of what may be shared.

Documented exceptions (docs/privacy.md): the paths of masks and prior images in manifests, columns that a user asks to
carry along, and files whose names end in -internal.
"""

import csv
import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw
from PIL import Image

from medloom.recipes.commands import run_command

ROWS = 24
# What each column's words begin with; a number follows.
NAME, PATIENT, FURTHER, FILE, PLACE = "quokka", "zebu", "okapi", "tapir", "dugong"
TEMPLATE = """
columns:
  age: {say: "{value} years old", unit: years}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a word of its own in every cell, and models of it."""
    root = tmp_path_factory.mktemp("canary")
    rng = np.random.default_rng(0)
    header = ["path", "mask", "prior", "Text", "modality", "patient_id", "ward", "age", "label"]
    rows = []
    for number in range(ROWS):
        for name in ("", "m", "p"):
            picture = draw(rng, "disc")
            Image.fromarray((picture > 90).astype(np.uint8) if name == "m" else picture).save(
                root / f"{FILE}{number}{name}.png"
            )
        text = (
            f"{40 + number % 6} years old. Seen by {NAME.title()}{number}, a {'small' if number % 2 else 'large'} disc."
        )
        files = [f"{FILE}{number}{name}.png" for name in ("", "m", "p")]
        age = 40 + number % 6
        rows.append([*files, text, "CT", f"{PATIENT}{number}", f"{FURTHER}{number}", age, "disc"])
    for file, part in (("train.csv", rows[:16]), ("test.csv", rows[16:])):
        with (root / file).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *part])
    (root / "template.yaml").write_text(TEMPLATE)
    masked = {**TINY, "network.mask": "channels", "text.dropout": 0.2}
    data = root / "train.csv"
    run_command("train text2image", data=data, out=root / "run", table=["age"], **masked)
    run_command("train edit", data=data, out=root / "editor", **TINY)
    encoder = {"loop.steps": 2, "loop.batch": 8, "image_size": [16], "encoder.image_widths": [8, 8], "device": "cpu"}
    run_command("train text-encoder", data=data, out=root / "words", **encoder)
    return root


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder, decompressed, and its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield str(path.relative_to(folder)), gzip.decompress(data) if path.suffix == ".gz" else data


def found(folder: Path, *allowed: str) -> set[tuple[str, str]]:
    """The files in which a word stands, in their name or bytes; `allowed` words are not looked for."""
    words = {word for word in (NAME, PATIENT, FURTHER, FILE, PLACE) if word not in allowed}
    return {
        (name, word)
        for name, data in contents(folder)
        for word in words
        if word.encode() in data.lower() or word in name.lower()
    }


@pytest.mark.parametrize("name", ["run", "editor", "words"])
def test_a_run(name: str, root: Path) -> None:
    assert found(root / name) == set()
    events = [path.name for path in (root / name / "logs").glob("events*")]
    assert events and not [event for event in events if socket.gethostname() in event]


def test_images_of_a_table(root: Path) -> None:
    given = {"model": root / "run", "data": root / "test.csv", "steps": 2, "device": "cpu"}
    run_command("generate", out=root / "made", **given)
    # The mask that an image follows is named by its path.
    assert found(root / "made", FILE) == set()
    assert {name for name, _ in found(root / "made")} == {"manifest.csv"}
    with (root / "made" / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert "text" not in rows[0] and all(len(row["condition"]) == len(row["source_id"]) == 16 for row in rows)
    for form in ("dicom", "tiff", "nifti"):
        run_command("generate", out=root / form, format=form, **given)
        assert found(root / form, FILE) == set()


def test_what_is_asked_for_by_name_is_written(root: Path) -> None:
    given = {"model": root / "run", "data": root / "test.csv", "steps": 2, "device": "cpu"}
    run_command("generate", out=root / "texts", with_text=True, keep=["ward"], **given)
    assert {word for _, word in found(root / "texts")} == {NAME, FURTHER, FILE}
    prompt = {
        "prompt": "41 years old. Seen by Dugong.",
        "modality": "CT",
        "mask": root / f"{FILE}1m.png",
        "table": "age=41",
    }
    manifest = run_command("generate", out=root / "asked", model=root / "run", steps=2, device="cpu", **prompt)
    assert "Seen by Dugong." in manifest.read_text()


def test_arms_and_edits(root: Path) -> None:
    whatif = {"model": root / "run", "data": root / "test.csv", "set": ["age=45"], "rows": 3, "n": 1, "steps": 2}
    run_command("whatif", out=root / "arms", device="cpu", **whatif)
    assert found(root / "arms", FILE) == set()
    edit = {"model": root / "editor", "data": root / "test.csv", "steps": 2, "region": "everywhere", "device": "cpu"}
    run_command("edit", out=root / "edits", **edit)
    assert found(root / "edits", FILE) == set()


def test_a_report(root: Path) -> None:
    made = root / "made" / "manifest.csv"
    report = {"real": root / "test.csv", "synthetic": made, "train": root / "train.csv", "image_size": [16]}
    options = {"steps": 4, "device": "cpu", "features": ["pixels"], "model": root / "run"}
    run_command("evaluate images", out=root / "report", conditions=root / "test.csv", **report, **options)
    for name, word in found(root / "report"):
        assert "-internal" in name, (name, word)
