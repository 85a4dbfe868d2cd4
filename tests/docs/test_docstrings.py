"""The examples of the package: everything in the reference has one, and all of them run and are true."""

import doctest
import re
from importlib import import_module
from inspect import isclass, isfunction, ismodule
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

import medloom
from medloom.core.image import Image
from medloom.core.spec import HU
from medloom.data.images import write_image

ROOT = Path(__file__).resolve().parents[2]
# `::: name` of an entry of the reference, and its options.
ENTRY = re.compile(r"^::: ([\w.]+)\n((?: {4}.*\n?)*)", re.MULTILINE)
REFERENCE = {
    name: (yaml.safe_load(options) or {}).get("options", {})
    for page in ("reference.md", "metric-functions.md")
    for name, options in ENTRY.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
}
FILES = [
    str(file.relative_to(ROOT))
    for file in sorted((ROOT / "medloom").rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]
# What an example of the reference may use without importing it: the pages say so.
ASSUMED = {"medloom": medloom, "np": np}
# The smallest networks, trained for one step.
TINY: dict[str, Any] = {
    "image_size": [16],
    "text": {"width": 16, "layers": 1, "vocabulary": 300, "max_tokens": 32},
    "loop": {"steps": 1, "batch": 2},
}
UNET = {"widths": [16, 16], "attention": [False, True], "head_width": 16, "patch": 1, "condition_width": 16}
TOKENIZER = {"widths": [8, 8], "depth": 1, "perceptual": "none", "adversarial_weight": 0}
TRANSFORMER = {"width": 32, "layers": 1, "heads": 2, "condition_width": 16}


def resolved(name: str) -> Any:
    """The object of a dotted name."""
    found: Any = medloom
    for part in name.split(".")[1:]:
        found = getattr(found, part) if hasattr(found, part) else import_module(f"{found.__name__}.{part}")
    return found


def documented(name: str) -> list[Any]:
    """What an entry of the reference shows: a function; a class and its methods; members of a module."""
    found, members = resolved(name), REFERENCE[name].get("members")
    if ismodule(found):
        return [getattr(found, member) for member in members]
    if not isclass(found):
        return [found]
    shown = [member for member in vars(found) if not member.startswith("_")] if members is None else members
    return [found, *(method for method in (getattr(found, member) for member in shown) if isfunction(method))]


def identity(found: Any) -> str:
    return f"{found.__module__}.{found.__qualname__}"


SHOWN = {identity(found): found for name in REFERENCE for found in documented(name)}


@pytest.mark.parametrize("name", SHOWN)
def test_everything_in_the_reference_has_an_example(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(SHOWN[name].__doc__ or "")
    assert examples, f"{name} has no example in its docstring"


def test_everything_public_is_in_the_reference() -> None:
    public = [getattr(medloom, name) for name in medloom.__all__]
    functions = [getattr(medloom.metrics, name) for name in dir(medloom.metrics)]
    missing = {identity(found) for found in [*public, *functions] if not ismodule(found)} - SHOWN.keys()
    assert not missing


def make_files(folder: Path) -> None:
    """The files that examples name: tables of images with masks, and a volume with its mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:14], mask[8:24, 18:28] = 1, 2
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows = []
    for row in range(12):
        pixels = rng.integers(0, 100, (32, 32)) + 70 * (mask > row % 2)
        Pillow.fromarray(pixels.astype(np.uint8)).save(folder / f"images/{row}.png")
        Pillow.fromarray(mask).save(folder / f"masks/{row}.png")
        text = ("Normal chest.", "Small left effusion.")[row % 2]
        rows.append(f"images/{row}.png,{text},CXR,PA,p{row},{40 + row},masks/{row}.png")
    header = "path,Text,modality,view,patient_id,age,mask"
    pairs = [f"{row},images/{number - 1}.png,The effusion has resolved." for number, row in enumerate(rows) if number]
    tables = {"train": rows[:4], "test": rows[4:8], "synthetic": rows[8:], "pairs": pairs}
    for name, lines in tables.items():
        first = f"{header},prior,instruction" if name == "pairs" else header
        (folder / f"{name}.csv").write_text("\n".join([first, *lines]) + "\n", encoding="utf-8")
    values = rng.integers(-1000, 400, (1, 6, 5, 4)).astype(np.float32)
    for name, pixels in (("scan", values), ("seg", (values > 0).astype(np.float32))):
        write_image(folder / f"{name}.nii.gz", Image(pixels, HU, spacing=(1.0, 1.0, 2.5)), {})


def train_models(folder: Path) -> None:
    """The runs that examples name: a generator, an editor and a generator of tokens."""
    runs, train = folder / "runs", folder / "train.csv"
    medloom.train("text2image", data=train, out=runs / "mm", network=UNET, **TINY)
    medloom.train("edit", data=folder / "pairs.csv", out=runs / "edit", network=UNET, **TINY)
    first = {"kind": "vq", "autoencoder": TOKENIZER, "image_size": [16], "loop": TINY["loop"]}
    tokens = {"tokenizer": runs / "vq", "network": TRANSFORMER, "text": TINY["text"], "loop": TINY["loop"]}
    medloom.train("autoencoder", data=train, out=runs / "vq", **first)
    medloom.train("tokens", data=train, out=runs / "tokens", **tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's working folder."""
    folder = tmp_path_factory.mktemp("examples")
    make_files(folder)
    train_models(folder)
    return folder


@pytest.mark.parametrize("file", FILES)
def test_examples_are_true(file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    module = import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    ran = 0
    for test in doctest.DocTestFinder().find(module):
        # Elsewhere an example may use the names of its module.
        test.globs = dict(ASSUMED if test.name in SHOWN else vars(module))
        assert not any(doctest.SKIP in example.options for example in test.examples), f"{test.name} is skipped"
        report: list[str] = []
        ran += doctest.DocTestRunner(verbose=False).run(test, out=report.append).attempted
        assert not report, "".join(report)
    assert ran, f"examples in {file} are outside of docstrings"
