"""Every benchmark runs with its smallest setting."""

import importlib
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from test_edit_settings import with_triples

from benchmarks.__main__ import BENCHMARKS
from benchmarks.drawings import write_drawings
from medloom.recipes.commands import run_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
Words = Callable[[Path], str]


def _said(words: str) -> Words:
    """Words with the test's folder in place of OUT."""
    return lambda folder: words.replace("OUT", str(folder))


def _recovery(family: str, *more: str) -> Words:
    words = f"--out OUT --family {family} --dims 2 --patients 160 --steps 1 --rows 2 --n 1"
    return _said(" ".join([words, *more]))


def _with_drawings(words: str) -> Words:
    return lambda folder: _said(words)(folder).replace("DATA", str(write_drawings(folder / "data", 240, 32, seed=0)))


def _with_lesions(folder: Path) -> str:
    """A model of squares with their masks, and held-out squares."""
    random, lines = np.random.default_rng(0), ["path,mask,Text,modality,patient_id"]
    for number in range(8):
        mask = np.zeros((32, 32), np.uint8)
        row, column = random.integers(2, 18, 2)
        mask[row : row + 9, column : column + 9] = 1
        Image.fromarray((40 + 180 * mask + random.integers(0, 20, mask.shape)).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
        Image.fromarray(mask).save(folder / f"m{number}.png")
        lines.append(f"{number}.png,m{number}.png,a square,X-ray,p{number}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    options = {**TINY, "image_size": [32], "network.mask": "channels"}
    model = run_command("train text2image", data=folder / "data.csv", out=folder / "run", **options)
    return f"--model {model} --data {folder / 'data.csv'} --labels 1 --n 1 --out {folder / 'out'}"


def _served(folder: Path) -> str:
    """A model of drawings, which a studio serves."""
    train = write_drawings(folder / "train", 24, 16, 0)
    model = run_command("train text2image", data=train, out=folder / "run", **TINY)
    return f"--model {model} --data {train} --jobs 2"


def _photographed(folder: Path) -> str:
    """A model of a column, which a studio shows."""
    train = write_drawings(folder / "train", 24, 16, 0)
    head, *lines = train.read_text().splitlines()
    train.write_text("\n".join([f"{head},age", *(f"{line},{30 + k}" for k, line in enumerate(lines))]) + "\n")
    model = run_command("train text2image", data=train, out=folder / "run", table=["age"], **TINY)
    return f"--model {model} --data {train} --set age=45 --out {folder / 'pictures'}"


def _with_images(folder: Path) -> str:
    """A model of drawings, more drawings of training, and held-out ones."""
    train, test = (write_drawings(folder / name, 24, 16, seed) for seed, name in enumerate(("train", "test")))
    model = run_command("train text2image", data=train, out=folder / "run", **TINY)
    return f"--model {model} --data {test} --train {train} --steps 20 2 --count 12"


def _with_findings(folder: Path) -> str:
    """A model of a cohort's images, and its cohort."""
    run_command("data phantom", out=folder / "cohort", patients=60, size=32, workers=1)
    coder = {"autoencoder.widths": [8, 8], "autoencoder.codes": 16, "loop.steps": 1, "loop.batch": 8, "device": "cpu"}
    data = {"data": folder / "cohort" / "train.csv", "hu_window": [-1024, 476]}
    vq = run_command("train autoencoder", kind="vq", out=folder / "vq", image_size=[32], **data, **coder)
    network = {"network.width": 32, "network.layers": 1, "network.heads": 2, "text.width": 16, "text.layers": 1}
    loop = {"loop.steps": 1, "loop.batch": 8, "device": "cpu"}
    model = run_command("train tokens", tokenizer=vq, out=folder / "run", **data, **network, **loop)
    given = f"--cohort {folder / 'cohort'} --out {folder / 'out'} --model {model} --coder {vq} --images 8 --steps 2"
    return f"{given} --guidance-text 2 --top-p 0.9 --precision fp32"


def _with_demo(folder: Path) -> str:
    """A demo of few patients and one step."""
    run_command("demo", out=folder / "demo", patients=80, steps=1, rows=6, n=1)
    return f"--demo {folder / 'demo'} --out {folder / 'demo.png'} --rows 2"


def _with_editor(folder: Path) -> str:
    """An editor of a cohort's patients, and triples of others."""
    given = " ".join(f"--{name} {path}" for name, path in with_triples(folder).items() if name != "train")
    return f"{given} --out {folder / 'out'} --steps 1 --setting start=noise --setting start=inversion,text=2"


def _with_textures(folder: Path) -> str:
    """Smooth random X-rays, by two of which registration is measured."""
    random, lines = np.random.default_rng(0), ["path,patient_id"]
    for number in range(2):
        coarse = Image.fromarray(random.integers(0, 255, (12, 12), dtype=np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(f"{number}.png,p{number}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return f"--data {folder / 'data.csv'} --out {folder}"


SMALLEST: dict[str, list[Words]] = {
    # Latents of 8 x 8, below which a convolution in bf16 on a CPU gives gradients of any size.
    "training_speed": [_said(f"--pixels 64 --batch 2 --turns 1 --steps 1 {more}") for more in ("", "--edit")],
    "sampling_speed": [_said("--train-steps 1 --train-images 60 --images 24 --pndm-steps 2")],
    "detail_by_steps": [_with_images],
    "kills": [_said("--kills 1 --only 'data prompts'")],
    "phantom_oracle": [_said("--patients 30 --sizes 32")],
    "token_decoding": [_said("--width 48 --layers 1 --grid 4 --codes 16 --images 2 --steps 2 --turns 1")],
    "token_quality": [
        _said("--out OUT --coder-steps 1 --train-steps 1 --train-images 60 --images 24 --steps 1 --diffusion-steps 1")
    ],
    "effect_recovery": [_said("--out OUT --seeds 1 --patients 40 --steps 1 --rows 2")],
    "family_recovery": [
        _recovery("diffusion", "--size 16 --columns-as text --fusion cross-attention"),
        _recovery("gan", "--size 48"),
        _recovery("tokens", "--size 16 --tokenizer-steps 1 --tokenizer-widths 8 8 8"),
    ],
    "edit_settings": [_with_editor],
    "findings_shown": [_with_findings],
    "demo_picture": [_with_demo],
    "phantom_gallery": [_said("--out OUT/phantom.png")],
    "whole_volume": [_said("--volume 16 16 8 --patch 8 8 8 --widths 8 8 --fold 1 --turns 1 --memory 16")],
    "moved_masks": [_with_lesions],
    "registration": [_with_textures],
    "planted_copies": [_with_drawings("--out OUT --data DATA --images-are-patients --planted 4")],
    "bad_sets": [
        _with_drawings(
            "--data DATA --label label --out OUT/sets --size 16 --steps 1 --good 1 --deals thirds --most 30"
            " --sets 'class means, blobs and grain' fresh"
        )
    ],
    "coverage": [_said("--repetitions 3")],
    "reader_studies": [_said("--studies 3 --bootstraps 2 --ratings 2 --readers 3 --cases 20")],
    "membership_attack": [_said("--out OUT --images 30 --size 16 --overfitted 2 --stopped 1")],
    "report_time": [_said("--images 40 --size 16")],
    "evaluation_scale": [_said("--images 64 --size 16 --only copies")],
    "studio_load": [_served],
    "studio_pictures": [_photographed],
    "rating_kills": [_said("--raters 2 --ratings 3 --kills 1")],
    "rating_speed": [_said("--images 3 --size 32 --pause 1")],
    "metrics_speed": [_said("--n 60 --width 8 --turns 1")],
    "million_rows": [_said("--rows 100")],
}
CASES = [(name, words) for name, all_words in SMALLEST.items() for words in all_words]


def test_every_benchmark_is_run() -> None:
    assert set(SMALLEST) == set(BENCHMARKS)


@pytest.mark.parametrize(("name", "words"), CASES, ids=[name for name, _ in CASES])
def test_a_benchmark_runs(
    name: str, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Some start themselves again, as `python -m benchmarks`.
    monkeypatch.chdir(ROOT)
    given = shlex.split(words(tmp_path))
    capsys.readouterr()
    importlib.import_module(f"benchmarks.{name}").main(given)
    assert capsys.readouterr().out.strip()
