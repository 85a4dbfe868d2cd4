"""Two processes train like one, and generate the same images and tokens as one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import medloom, with_settings
from PIL import Image

from medloom.recipes.commands import run_command
from medloom.training.trackers import read_metrics

# Gradients are summed in another order.
TOLERANCE = 2e-4


def words_of(options: dict[str, object]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def launch(processes: int, *words: str, path: Path | None = None) -> None:
    if processes == 1:
        # In this process, which spares a start; all have one thread.
        assert medloom(words) == 0
        return
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*several, "-m", "medloom", "--"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    with tempfile.TemporaryDirectory() as folder:
        command += with_settings(words, Path(folder))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr


def losses(run: Path) -> list[float]:
    return [float(value) for _, name, value in read_metrics(run / "logs" / "metrics.csv") if name == "loss"]


@pytest.mark.slow
def test_two_processes_are_like_one(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = str(make_manifest())
    options = words_of({**tiny_options, "loop.steps": 8, "loop.checkpoint_every": 8, "loop.validate_every": 8})
    for processes in (1, 2):
        out = str(tmp_path / f"run{processes}")
        launch(processes, "train", "text2image", "--data", manifest, "--out", out, *options)
    one, two = losses(tmp_path / "run1"), losses(tmp_path / "run2")
    assert len(one) == len(two) == 8 and one[0] != one[-1]
    np.testing.assert_allclose(two, one, rtol=TOLERANCE)


@pytest.mark.slow
def test_two_processes_generate_like_one(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **tiny_options)
    job = ["--prompt", "A disc.", "--modality", "Disc", "--n", "6", "--batch", "2", "--steps", "3", "--device", "cpu"]
    for processes in (1, 2):
        launch(processes, "generate", "--model", str(run), "--out", str(tmp_path / f"out{processes}"), *job)
    assert (tmp_path / "out1" / "manifest.csv").read_bytes() == (tmp_path / "out2" / "manifest.csv").read_bytes()
    for number in range(6):
        pictures = [np.asarray(Image.open(tmp_path / f"out{p}" / f"{number:06d}.png")).astype(int) for p in (1, 2)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.slow
def test_tokens_are_the_same_over_two_processes(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    data, loop = make_manifest(), {name: value for name, value in tiny_options.items() if name.startswith("loop.")}
    shared = {"data": data, "images_are_patients": True, "device": "cpu", **loop}
    vq = run_command(
        "train autoencoder",
        out=tmp_path / "vq",
        kind="vq",
        image_size=[16],
        **shared,
        **{"autoencoder.widths": [8, 8], "autoencoder.codes": 32, "autoencoder.code_width": 4},
        **{"autoencoder.perceptual": "none", "autoencoder.adversarial_weight": 0.0},
    )
    network = {"network.width": 32, "network.layers": 1, "network.heads": 2, "network.condition_width": 16}
    text = {name: value for name, value in tiny_options.items() if name.startswith("text.")}
    run = run_command("train tokens", out=tmp_path / "run", tokenizer=vq, **shared, **network, **text)
    job = ["--prompt", "A disc.", "--modality", "Disc", "--n", "6", "--batch", "2", "--steps", "8", "--device", "cpu"]
    for processes in (1, 2):
        launch(processes, "generate", "--model", str(run), "--out", str(tmp_path / f"out{processes}"), *job)
    for number in range(6):
        one, two = ((tmp_path / f"out{p}" / f"{number:06d}.png").read_bytes() for p in (1, 2))
        assert one == two


@pytest.mark.slow
def test_no_process_writes_before_each_has_seen_what_is_there(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    """A process that lists late would divide another list, and leave images ungenerated."""
    run, out = tmp_path / "run", tmp_path / "out"
    launch(1, "train", "text2image", "--data", str(make_manifest()), "--out", str(run), *words_of(tiny_options))
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import os, pathlib, time\n"
        "real = pathlib.Path.exists\n"
        "def late(self, **options):\n"
        "    time.sleep(0.3 if os.environ.get('RANK') == '1' and self.name.endswith('.png') else 0)\n"
        "    return real(self, **options)\n"
        "pathlib.Path.exists = late\n"
    )
    job = ["--prompt", "A disc.", "--modality", "Disc", "--n", "6", "--batch", "1", "--steps", "1", "--device", "cpu"]
    launch(2, "generate", "--model", str(run), "--out", str(out), *job, path=slow)
    assert len(list(out.glob("0*.png"))) == 6
