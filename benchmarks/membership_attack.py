"""Membership inference on a deliberately overfitted model, and on one of the same images that was stopped early.

Virtual patients, half of them trained on; the attack by the loss, less that of a model of other patients, stands
beside its two controls.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from medloom.recipes.commands import run_command

TRAINING: dict[str, Any] = {
    "hu_window": [-1024, 476],
    "network.widths": [64, 128],
    "network.attention": [False, False],
    "network.patch": 2,
    "noise.data_std": 0.5,
    "text.vocabulary": 700,
    "text.max_tokens": 40,
    "text.layers": 1,
    "loop.batch": 32,
    "loop.learning_rate": 1e-3,
    "loop.weight_decay": 0.0,
    "loop.validate_every": 500,
}
SHOWN = ("membership", "members found", "authenticity", "excess of copies")


def main(words: list[str]) -> None:
    """Render, train both, attack both, and print the figures with the losses of training and held-out images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/membership_attack"))
    parser.add_argument("--images", type=int, default=600, help="trained on, and as many held out")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--overfitted", type=int, default=6000, help="steps")
    parser.add_argument("--stopped", type=int, default=400, help="steps")
    options = parser.parse_args(words)
    cohort, others = (_cohort(options, name, seed) for name, seed in (("cohort", 9), ("others", 10)))
    reference = _train(options, others, "reference", options.stopped)
    print("| model | figure | value (95 % interval) | n |\n|---|---|---|---|")
    for name, steps in (("stopped early", options.stopped), ("overfitted", options.overfitted)):
        run = _train(options, cohort, name.replace(" ", "-"), steps)
        print("\n".join(_lines(f"{name} ({steps} steps)", _attack(options, cohort, run, reference))), flush=True)


def _cohort(options: argparse.Namespace, name: str, seed: int) -> Path:
    cohort = Path(options.out / name)
    if not (cohort / "truth.csv").is_file():
        patients = {"patients": 2 * options.images, "test": 0.5, "size": options.size, "seed": seed}
        run_command("data phantom", out=cohort, **patients)
    return cohort


def _train(options: argparse.Namespace, cohort: Path, name: str, steps: int) -> Path:
    shared = {"data": cohort / "train.csv", "cache": options.out / "cache", "image_size": [options.size]}
    steps_only = {"loop.steps": steps, "out": options.out / name}
    return Path(run_command("train text2image", **shared, **steps_only, **TRAINING))


def _attack(options: argparse.Namespace, cohort: Path, run: Path, reference: Path) -> list[dict[str, Any]]:
    """The privacy figures of images that the model makes of held-out prompts."""
    made = options.out / f"{run.name}-images"
    test = {"data": cohort / "test.csv", "count": options.images // 2, "batch": 50}
    manifest = run_command("generate", model=run, out=made, **test)
    sides = {"real": cohort / "test.csv", "train": cohort / "train.csv", "synthetic": manifest, "model": run}
    sides["reference_model"] = reference
    given = {"only": ["privacy"], "features": ["pixels"], "label": "none", "image_size": [options.size]}
    out = options.out / f"{run.name}-report"
    run_command("evaluate images", **sides, **given, out=out, attack_images=options.images)
    figures: list[dict[str, Any]] = json.loads((out / "scores.json").read_text())["metrics"]
    return [figure for figure in figures if figure["name"].startswith(SHOWN)]


def _lines(name: str, figures: list[dict[str, Any]]) -> list[str]:
    return [
        f"| {name} | {f['name']} | {f['value']:.3f} ({f['low']:.3f} to {f['high']:.3f}) | {f['n']} {f['counted']} |"
        for f in figures
    ]
