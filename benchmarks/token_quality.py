"""Quality and images/s of token generators by the number of decoding steps, beside latent diffusion.

On drawn images: a tokenizer and a KL autoencoder of one shape, a masked transformer and a latent diffusion model that
are trained for as many steps of as many images. Frechet distances to held-out images, with the distance of real images
among themselves, and of real images that went through the tokenizer or autoencoder, which is as far as a generator of
its tokens or latents can come; images/s with start-up and writing, all conditions of one folder.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drawings import write_drawings
from benchmarks.sampling_speed import PIXELS, distance_of
from benchmarks.through_coder import through_coder
from medloom.recipes.commands import run_command

STEPS, DIFFUSION_STEPS = (1, 2, 4, 8, 16, 32), (20, 10, 5, 3, 2)
CODER: dict[str, Any] = {
    "image_size": [PIXELS],
    "autoencoder.widths": [32, 64, 64],
    "autoencoder.perceptual": "none",
    "autoencoder.adversarial_weight": 0.0,
    "loop.learning_rate": 1e-3,
    "loop.batch": 32,
    "loop.validate_every": 500,
}
TEXT: dict[str, Any] = {"text.vocabulary": 600, "text.max_tokens": 24}
LOOP: dict[str, Any] = {"loop.batch": 32, "loop.learning_rate": 1e-3, "loop.validate_every": 500}
DENOISER: dict[str, Any] = {"network.widths": [96, 192], "network.attention": [True, True], "network.head_width": 48}


def main(words: list[str]) -> None:
    """Train both, generate, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/token_quality"))
    parser.add_argument("--coder-steps", type=int, default=1000)
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--train-images", type=int, default=1920)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="of decoding tokens")
    parser.add_argument("--diffusion-steps", type=int, nargs="+", default=list(DIFFUSION_STEPS))
    options = parser.parse_args(words)
    root = options.out
    train = write_drawings(root / "train", options.train_images, PIXELS, seed=1)
    test = write_drawings(root / "test", 2 * options.images, PIXELS, seed=2)
    conditions = write_drawings(root / "conditions", options.images, PIXELS, seed=3)
    print("| generator | images/s | Frechet distance (95 % interval) | real against real |\n|---|---|---|---|")
    for family, (coder, train_family) in FAMILIES.items():
        coder_run = _train_coder(root / coder, train, coder, options.coder_steps)
        through = through_coder(conditions, coder_run, root / f"{coder}-through")
        print(f"| real images through its {coder} | | {distance_of(root, train, test, through)} |", flush=True)
        run = train_family(root, train, coder_run, options.train_steps)
        for steps in options.steps if coder == "vq" else options.diffusion_steps:
            started = time.perf_counter()
            manifest = _generate(root / f"{run.name}-{steps}", run, conditions, {"steps": steps})
            rate = options.images / (time.perf_counter() - started)
            print(f"| {family} {steps} | {rate:.1f} | {distance_of(root, train, test, manifest)} |", flush=True)


def _train_coder(out: Path, data: Path, kind: str, steps: int) -> Path:
    codes = {"autoencoder.codes": 256} if kind == "vq" else {}
    settings = {**CODER, **codes, "kind": kind, "loop.steps": steps}
    return Path(run_command("train autoencoder", data=data, out=out, **settings))


def _train_tokens(root: Path, data: Path, coder: Path, steps: int) -> Path:
    settings = {**TEXT, **LOOP, "loop.steps": steps}
    return Path(run_command("train tokens", data=data, tokenizer=coder, out=root / "tokens", **settings))


def _train_diffusion(root: Path, data: Path, coder: Path, steps: int) -> Path:
    settings = {**TEXT, **LOOP, **DENOISER, "image_size": [PIXELS], "loop.steps": steps}
    return Path(run_command("train text2image", data=data, autoencoder=coder, out=root / "diffusion", **settings))


FAMILIES: dict[str, tuple[str, Callable[[Path, Path, Path, int], Path]]] = {
    "tokens, K =": ("vq", _train_tokens),
    "latent diffusion, steps:": ("kl", _train_diffusion),
}


def _generate(out: Path, run: Path, conditions: Path, values: dict[str, Any]) -> Path:
    return Path(run_command("generate", model=run, data=conditions, out=out, batch=32, **values))
