"""Sampling images/s: medloom's default against 100 PNDM steps, one image at a time, with guidance.

One model, trained here on drawn images with a DDPM path so that both samplers fit it; Frechet distances of both sets to
the same held-out images, and of real images among themselves, on features of a classifier of the drawn shapes; and
whether the two distances are equivalent, within what chance alone makes between real images.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawings import write_drawings
from medloom.recipes.commands import run_command

if TYPE_CHECKING:
    from medloom.evaluation.images.features import FeatureSet

PIXELS = 32
DEFAULT, PNDM = "medloom's default", "PNDM, one at a time"
TRAINING: dict[str, Any] = {
    "size": "tiny",
    "image_size": [PIXELS],
    "network.widths": [48, 96, 144],
    "network.attention": [False, True, True],
    "network.patch": 2,
    "network.head_width": 48,
    "text.vocabulary": 600,
    "text.max_tokens": 24,
    "loop.batch": 32,
    "loop.learning_rate": 1e-3,
    "loop.validate_every": 300,
    "loop.checkpoint_every": 150,
    "noise.process": "ddpm",
    "noise.prediction": "v",
}
# Each end of a 90 % interval is a one-sided test of 5 %.
LEVEL = 0.90


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--train-images", type=int, default=1920)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--pndm-steps", type=int, default=100)
    options = parser.parse_args(words)
    samplings: dict[str, dict[str, Any]] = {
        DEFAULT: {},
        PNDM: {"sampler": "pndm", "steps": options.pndm_steps, "batch": 1},
    }
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        train = write_drawings(root / "train", options.train_images, PIXELS, seed=1)
        test = write_drawings(root / "test", 2 * options.images, PIXELS, seed=2)
        conditions = write_drawings(root / "conditions", options.images, PIXELS, seed=3)
        run = _train(root, train, options.train_steps)
        print("| sampling | images/s | Frechet distance (95 % interval) | real against real |\n|---|---|---|---|")
        made = {}
        for label, values in samplings.items():
            started = time.perf_counter()
            made[label] = _generate(root / label.replace(" ", "_"), run, conditions, values)
            rate = options.images / (time.perf_counter() - started)
            print(f"| {label} | {rate:.2f} | {distance_of(root, train, test, made[label])} |", flush=True)
        _print_difference(*_features(root / "cache", train, test, made))


def _train(root: Path, data: Path, steps: int) -> Path:
    settings = {**TRAINING, "loop.steps": steps}
    return Path(run_command("train text2image", data=data, out=root / "run", **settings))


def _generate(out: Path, run: Path, conditions: Path, values: dict[str, Any]) -> Path:
    return Path(run_command("generate", model=run, data=conditions, out=out, **values))


def distance_of(root: Path, train: Path, test: Path, manifest: Path) -> str:
    """Two cells of a table, as `medloom evaluate` finds them: the distance, and that of real images to real ones."""

    sets = {"real": test, "synthetic": manifest, "train": train}
    out = manifest.parent.with_name(f"{manifest.parent.name}-report")
    settings = {"cache": root / "cache", "only": ["fidelity"], "image_size": [PIXELS]}
    report = run_command("evaluate images", out=out, **sets, **settings)
    figures = json.loads((report / "scores.json").read_text())["metrics"]
    found = next(figure for figure in figures if figure["name"] == "Frechet distance" and figure["subset"] == "all")
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g}) | {found['reference']['value']:.3g}"


def _features(cache: Path, train: Path, test: Path, made: dict[str, Path]) -> list["FeatureSet"]:
    """Features of the real images and of both sets, with the classifier and the cache of the evaluations before."""
    from medloom.data.manifest import read_manifest
    from medloom.downstream.classifier import ClassifierOptions
    from medloom.evaluation.images.cache import EvaluationCache, train_on_real
    from medloom.evaluation.images.comparison import compare
    from medloom.evaluation.images.features import Sources, extract, make_extractor

    real, known = read_manifest(test), read_manifest(train)
    ours = [read_manifest(made[label], need=("path",), need_patients=False) for label in (DEFAULT, PNDM)]
    assert ours[0].frame[["source_id", "seed"]].equals(ours[1].frame[["source_id", "seed"]])
    default, pndm = (
        compare(real, one, known, label="label", image_size=(PIXELS,), resize="pad", seed=0) for one in ours
    )
    assert default.fit is not None
    classifier = EvaluationCache(cache, default.spec, ClassifierOptions()).classifier(default.fit, train_on_real)
    extractor = make_extractor("classifier", Sources(default.spec, classifier))
    return [extract(extractor, each, cache / "features") for each in (default.real, default.synthetic, pndm.synthetic)]


def _print_difference(real: "FeatureSet", default: "FeatureSet", pndm: "FeatureSet") -> None:
    """FD(default) - FD(PNDM) to the same real images; the margin, from real images alone, is fixed before it."""
    from medloom.metrics.frechet import frechet_distance
    from medloom.metrics.uncertainty import equivalent, floor, subsample_interval

    def among_real(x: NDArray[Any], y: NDArray[Any]) -> float:
        return frechet_distance(real.values[x], real.values[y])

    def difference(x: NDArray[Any], y: NDArray[Any]) -> float:
        held_out = real.values[x]
        return frechet_distance(held_out, default.values[y]) - frechet_distance(held_out, pndm.values[y])

    n = len(default.values)
    margin = floor(among_real, real.units, n, seed=0).value
    # The two sets are of the same conditions and seeds, row by row, so that the same rows of both are drawn.
    rows = np.arange(n)
    found = subsample_interval(difference, real.units, rows, seed=0, at="infinity", level=LEVEL)
    print(f"\nMargin: {margin:.3g}, the mean distance of real images to real ones, {n} a side.")
    print(f"Default less PNDM: {found.value:.3g} ({found.low:.3g} to {found.high:.3g}, {LEVEL:.0%} interval).")
    print(f"Equivalent within the margin (two one-sided tests of 5 %): {equivalent(found, margin)}.")
    print(f"Not worse by more than the margin (one-sided test of 5 %): {found.high < margin}.", flush=True)
