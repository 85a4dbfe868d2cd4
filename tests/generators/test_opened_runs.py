"""Opening runs: the last model, the best, an earlier one, and folders that are damaged."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import TINY, medloom, write_manifest

import medloom as library
from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.recipes.commands import run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("opened")
    options = {**TINY, "loop.steps": 9, "loop.validate_every": 3, "loop.keep_best": 2, "loop.checkpoint_every": 3}
    return run_command("train text2image", data=write_manifest(root / "data"), out=root / "run", **options)


def image(model: Path) -> bytes:
    return library.load(model).generate(library.Condition("A disc.", "Disc"), seed=0).pixels.tobytes()


def test_the_best_model_and_an_earlier_one_are_used(folder: Path, tmp_path: Path) -> None:
    losses = read_json(folder / "best" / "best.json")
    assert len(losses) == 2
    best = min(losses, key=lambda name: losses[name])
    other = max(losses, key=lambda name: losses[name])
    assert image(folder / "best") == image(folder / "best" / best) != image(folder / "best" / other)
    words = ["generate", "--model", folder / "best", "--prompt", "A disc.", "--modality", "Disc", "--steps", 2]
    assert medloom([*words, "--out", tmp_path / "out"]) == 0
    model = run_command("train text2image", data=folder.parent / "data/manifest.csv", out=tmp_path / "more",
                        from_run=folder / "best" / other, **TINY)  # fmt: skip
    assert json.loads((model / "run.json").read_text())["inherited_splits"]


def test_a_run_without_validation_has_no_best(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "best")
    (tmp_path / "run" / "best").mkdir()
    with pytest.raises(UserError, match="has no model: the run was never validated; give"):
        library.load(tmp_path / "run" / "best")
    with pytest.raises(UserError, match="is not a run folder"):
        library.load(folder / "samples")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("index.json", "[]"),
        ("index.json", "null"),
        ("index.json", '{"family": 3}'),
        ("index.json", "[" * 100_000),
        ("index.json", '{"family": "diffusion"'),
        ("run.json", "[]"),
        ("run.json", '{"identity": {}}'),
        ("model/generator.json", "[]"),
        ("model/generator.json", "null"),
        ("model/generator.json", "{}"),
        ("model/generator.json", "spec"),
        ("model/generator.json", "trained_on"),
        ("model/generator.json", "sampling"),
        ("model/generator.json", "masks"),
        ("model/text_encoder/config.json", "{}"),
        ("model/text_encoder/config.json", "[]"),
        ("model/text_encoder/model.safetensors", ""),
        ("model/tokenizer/tokenizer.json", "{}"),
        ("model/condition/config.json", "[]"),
        ("model/denoiser/config.json", '{"dims": "two"}'),
        ("model/denoiser/model.safetensors", "cut"),
        ("best/best.json", "[]"),
    ],
)
def test_a_damaged_folder_is_one_sentence(
    file: str, content: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(folder, tmp_path / "run")
    path = run / file
    if content.isalpha() and path.suffix == ".json" and content != "null":
        values = read_json(path)
        content = json.dumps({**values, content: "damaged"})
    path.write_text(content)
    opened = run / "best" if file.startswith("best") else run
    if file == "run.json":
        words = ["evaluate", "images", "--real", folder.parent / "data/manifest.csv", "--model", opened,
                 "--synthetic", folder.parent / "data/manifest.csv"]  # fmt: skip
    else:
        words = ["generate", "--model", opened, "--prompt", "A disc.", "--modality", "Disc"]
    assert medloom([*words, "--out", tmp_path / "out"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and str(run) in said
    assert not (tmp_path / "out").exists()
