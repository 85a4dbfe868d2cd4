"""Training images/s: medloom against the standard loop, same U-Net, batch and data, frozen encoders, in one process.

The contestants take turns of a few steps each; a figure is the median over turns: a noisy machine hits all alike.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.baselines.standard_loop import StandardLoop
from benchmarks.drawings import write_drawings
from benchmarks.folders import make_folder
from medloom.core.config import configure
from medloom.core.seeds import numpy_generator
from medloom.generators.diffusion.options import EditImage, TextToImage


def medloom_steps(
    folder: Path, manifest: Path, out: Path, pixels: int, batch: int, edit: bool = False
) -> Callable[[], None]:
    """A function that takes one training step of `medloom train text2image|edit --base`, caches filled before."""
    from medloom.generators.diffusion.family import DiffusionFamily
    from medloom.generators.preparation import prepare
    from medloom.training.devices import make_accelerator
    from medloom.training.loop import Loop

    options = {"image_size": [pixels], "loop.batch": batch, "loop.steps": 10**6, "validation": 0.1}
    values = {"data": manifest, "out": out, "base": str(folder), **options, "loop.log_every": 10**6}
    family = DiffusionFamily()
    config = family.checked(configure(EditImage if edit else TextToImage, **values))
    accelerator = make_accelerator(config.loop)
    prepared, generator = family.build(config, prepare(config, verbose=False), family.origin(config), verbose=False)
    task = family.task(config, prepared, generator, accelerator)
    loop = Loop(task, config.loop, out, accelerator)
    batches = task.batches(0, 0, 1)

    def step() -> None:
        loop._one_step(next(batches))

    return step


def standard_steps(
    folder: Path, manifest: Path, pixels: int, batch: int, bf16: bool, edit: bool = False
) -> Callable[[], None]:
    """A function that takes one step of the standard loop."""
    from medloom.data.manifest import read_manifest

    samples = read_manifest(manifest).samples()
    texts = [f"{sample.condition.modality}: {sample.condition.text}" for sample in samples]
    priors = [file for sample in samples if edit and (file := sample.condition.prior_file) is not None]
    loop = StandardLoop(folder, [sample.path for sample in samples], texts, pixels, bf16, priors)
    rng = numpy_generator("standard")

    def step() -> None:
        loop.step(rng.integers(0, len(samples), batch).tolist())

    return step


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="cpu", choices=("cpu", "sd15"))
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--edit", action="store_true", help="of an editor: prior images are encoded as well")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = make_folder(root / "sd", options.size, options.pixels)
        manifest = write_drawings(root / "data", 240, 2 * options.pixels, seed=0)
        manifest = _with_priors(manifest) if options.edit else manifest
        given = (options.pixels, options.batch)
        contestants = {
            "medloom (cached latents and texts, bf16)": medloom_steps(
                folder, manifest, root / "run", *given, options.edit
            ),
            "standard loop, fp32": standard_steps(folder, manifest, *given, False, options.edit),
            "standard loop, bf16 autocast": standard_steps(folder, manifest, *given, True, options.edit),
        }
        seconds = take_turns(contestants, options.turns, options.steps)
    print(f"{options.size}, {options.pixels} px, batch {options.batch}, {_device()}, {options.turns} turns")
    ours = statistics.median(next(iter(seconds.values())))
    print("| loop | images/s | medloom is faster by (median, range over turns) |\n|---|---|---|")
    for name, values in seconds.items():
        ratios = [theirs / mine for theirs, mine in zip(values, next(iter(seconds.values())), strict=True)]
        rate = options.batch * options.steps / statistics.median(values)
        print(f"| {name} | {rate:.1f} | {statistics.median(values) / ours:.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |")


def _with_priors(manifest: Path) -> Path:
    """The manifest with an prior image for each row: that of the row two before, of the same modality."""
    from medloom.data.tables import read_table, write_csv

    table = read_table(manifest)
    paths = [row[table.header.index("path")] for row in table.rows]
    rows = [[*row, paths[number - 2]] for number, row in enumerate(table.rows)]
    pairs = manifest.with_name("pairs.csv")
    write_csv(pairs, [*table.header, "prior"], rows)
    return pairs


def take_turns(contestants: dict[str, Callable[[], None]], turns: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each turn of each contestant, after one warm-up turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, step in contestants.items():
            started = time.perf_counter()
            for _ in range(steps):
                step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
