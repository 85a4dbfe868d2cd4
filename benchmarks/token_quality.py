"""Quality and images/s of token generators by the number of decoding steps, beside latent diffusion.

On drawn images: a tokenizer and a KL autoencoder of one shape, a masked transformer and a latent diffusion model that
are trained for as many steps of as many images. Frechet distances to held-out images, with the distance of real images
among themselves; images/s with start-up and writing, all conditions of one folder.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.sampling_speed import PIXELS, distance_of
from medloom.core.config import configure
from medloom.data.sources.drawings import write_drawings

STEPS, DIFFUSION_STEPS = (1, 2, 4, 8, 16, 32), (20, 10)
CODER: dict[str, Any] = {
    "image_size": [PIXELS],
    "autoencoder.widths": [32, 64, 64],
    "autoencoder.codes": 256,
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
    parser.add_argument("--coder-steps", type=int, default=1000)
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--images", type=int, default=480)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        train = write_drawings(root / "train", 1920, PIXELS, seed=1)
        test = write_drawings(root / "test", 2 * options.images, PIXELS, seed=2)
        conditions = write_drawings(root / "conditions", options.images, PIXELS, seed=3)
        print("| generator | images/s | Frechet distance (95 % interval) | real against real |\n|---|---|---|---|")
        families = {
            "tokens, K =": (_train_tokens, STEPS),
            "latent diffusion, steps:": (_train_diffusion, DIFFUSION_STEPS),
        }
        for family, (train_family, all_steps) in families.items():
            run = train_family(root, train, options)
            for steps in all_steps:
                started = time.perf_counter()
                manifest = _generate(root / f"{run.name}-{steps}", run, conditions, {"steps": steps})
                rate = options.images / (time.perf_counter() - started)
                print(f"| {family} {steps} | {rate:.1f} | {distance_of(root, train, test, manifest)} |", flush=True)


def _train_tokens(root: Path, data: Path, options: argparse.Namespace) -> Path:
    from medloom.recipes import autoencoder, tokens

    coder = configure(
        autoencoder.Config, data=data, out=root / "vq", kind="vq", **CODER, **{"loop.steps": options.coder_steps}
    )
    given = {**TEXT, **LOOP, "loop.steps": options.train_steps}
    tokenizer = autoencoder.run(coder)
    return tokens.run(configure(tokens.Config, data=data, tokenizer=tokenizer, out=root / "tokens", **given))


def _train_diffusion(root: Path, data: Path, options: argparse.Namespace) -> Path:
    from medloom.recipes import autoencoder, text2image

    steps = {"loop.steps": options.coder_steps}
    coder = autoencoder.run(configure(autoencoder.Config, data=data, out=root / "kl", **CODER, **steps))
    given = {**TEXT, **LOOP, **DENOISER, "image_size": [PIXELS], "loop.steps": options.train_steps}
    return text2image.run(configure(text2image.Config, data=data, autoencoder=coder, out=root / "diffusion", **given))


def _generate(out: Path, run: Path, conditions: Path, values: dict[str, Any]) -> Path:
    from medloom.recipes import generate

    return generate.run(configure(generate.Config, model=run, data=conditions, out=out, batch=32, **values))
