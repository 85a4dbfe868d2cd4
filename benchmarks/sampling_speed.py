"""Sampling images/s: medloom's default against 100 PNDM steps, one image at a time, with guidance.

One model, trained here on drawn images with a DDPM path so that both samplers fit it; Frechet distances of both sets to
the same held-out images, and of real images among themselves, on features of a classifier of the drawn shapes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from medloom.core.config import configure
from medloom.data.sources.drawings import write_drawings

PIXELS = 32
SLOW = {"sampler": "pndm", "steps": 100, "batch": 1}


def main(words: list[str]) -> None:
    """Measure and print."""
    from medloom.recipes import evaluate, generate, text2image
    from medloom.recipes.demo import TRAINING

    parser = argparse.ArgumentParser()
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--images", type=int, default=240)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        train = write_drawings(root / "train", 1920, PIXELS, seed=1)
        test = write_drawings(root / "test", 2 * options.images, PIXELS, seed=2)
        conditions = write_drawings(root / "conditions", options.images, PIXELS, seed=3)
        settings = {**TRAINING, "loop.steps": options.train_steps, "noise.process": "ddpm", "noise.prediction": "v"}
        run = text2image.run(configure(text2image.Config, data=train, out=root / "run", **settings))
        print("| sampling | images/s | Frechet distance (95 % interval) | real against real |\n|---|---|---|---|")
        for label, values in {"medloom's default": {}, "100 PNDM steps, one at a time": SLOW}.items():
            out = root / label.replace(" ", "_")
            started = time.perf_counter()
            manifest = generate.run(configure(generate.Config, model=run, data=conditions, out=out, **values))
            rate = options.images / (time.perf_counter() - started)
            report = evaluate.run(
                configure(
                    evaluate.Config,
                    real=test,
                    synthetic=manifest,
                    train=train,
                    out=root / f"{out.name}-report",
                    cache=root / "cache",
                    only=["fidelity"],
                    image_size=[PIXELS],
                )
            )
            figures = json.loads((report / "scores.json").read_text())["figures"]
            distance = next(f for f in figures if f["metric"].startswith("Frechet") and f["subset"] == "all")
            interval = f"{distance['value']:.3g} ({distance['low']:.3g} to {distance['high']:.3g})"
            print(f"| {label} | {rate:.2f} | {interval} | {distance['reference']['value']:.3g} |", flush=True)
