"""How long the whole report takes: all sections, two extractors, classifiers and an encoder that are trained for it."""

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.drawings import write_drawings
from medloom.recipes.commands import run_command


def main(words: list[str]) -> None:
    """Draw training, held-out and synthetic images, evaluate them from nothing, and print the time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000, help="of each of the three sets")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, help="where to keep the report (default: nowhere)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sets = {
            what: write_drawings(root / what, options.images, options.size, seed=seed)
            for seed, what in enumerate(("train", "real", "synthetic"))
        }
        out = options.out or root / "report"
        started = time.perf_counter()
        run_command("evaluate images", **sets, out=out, image_size=[options.size])
        seconds = time.perf_counter() - started
        figures = json.loads((out / "scores.json").read_text())["metrics"]
    print(f"{options.images} + {options.images} images of {options.size} px: {seconds:.0f} s, {len(figures)} figures")
