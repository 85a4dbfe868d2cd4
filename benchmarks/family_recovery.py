"""How much of the true effects of a virtual cohort diffusion, GAN and tokens recover, in slices and in volumes."""

import argparse
from pathlib import Path
from typing import Any

from medloom.core.config import configure
from medloom.core.files import read_json
from medloom.evaluation.report.metrics import with_interval
from medloom.generators.autoencoder.options import EncodeImages
from medloom.generators.train import train as train_run
from medloom.recipes import demo
from medloom.recipes.commands import run_command

# As the demo's preset has them, for families that do not ship it.
TEXT: dict[str, Any] = {"text.vocabulary": 700, "text.max_tokens": 40, "text.layers": 1}
# Tokens are not shifted: those of a shifted image are others.
SHIFT = 5
BATCH = {2: 32, 3: 8}
# Of volumes: what makes a step cheaper, and what brings effects nearer to their full size in a longer training.
IN_VOLUMES: dict[str, Any] = {"loop.weight_decay": 0.3}
TOKENIZER: dict[str, Any] = {
    "autoencoder.codes": 512,
    "autoencoder.perceptual": "none",
    "autoencoder.adversarial_weight": 0.0,
    "loop.learning_rate": 1e-3,
    "loop.validate_every": 500,
}
# A transformer that trains in an hour on a laptop.
TRANSFORMER: dict[str, Any] = {
    "network.mask": "channels",
    "network.width": 192,
    "loop.learning_rate": 1e-3,
    "loop.schedule": "cosine",
    "loop.weight_decay": 0.1,
}
FAMILIES = ("diffusion", "gan", "tokens")


def main(words: list[str]) -> None:
    """Make the cohort, train one family on it, ask held-out patients, and print the verdicts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/family_recovery"))
    parser.add_argument("--family", choices=FAMILIES, default="diffusion")
    parser.add_argument("--fusion", choices=("affine", "cross-attention"), default="affine")
    parser.add_argument(
        "--columns-as", choices=("table", "text"), default="table", help="how the columns condition the model"
    )
    parser.add_argument("--dims", type=int, default=3)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--patients", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokenizer-steps", type=int, default=1500)
    parser.add_argument("--tokenizer-widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--n", type=int, default=2)
    options = parser.parse_args(words)
    wording = demo.WORDING if options.columns_as == "table" else "phantom"
    out = options.out / f"{options.family}-{options.dims}d-{options.fusion}-{options.columns_as}"
    out.mkdir(parents=True, exist_ok=True)
    config = demo.Config(out=out, patients=options.patients, steps=options.steps, rows=options.rows, n=options.n)
    space = {"dims": options.dims, "size": options.size, "template": wording}
    cohort = demo.make_cohort(config, options.out / f"cohort-{options.dims}d-{wording}", space)
    model = _train(options, cohort, out / "run")
    # A GAN has no guidance.
    sampling = {} if options.family == "gan" else {"guidance": [options.guidance]}
    answers = demo.ask(config, cohort, model, out / "whatif", sampling)
    report = run_command("evaluate whatif", data=answers, truth=cohort, out=out / "report")
    print("\n".join(_lines(read_json(report / "scores.json"))) or "too few patients for a verdict")


def _train_tokens(options: argparse.Namespace, cohort: Path, out: Path) -> Path:
    """A tokenizer of the cohort's images, and a transformer of their tokens."""
    size, cache = [options.size] * options.dims, options.out / f"cache-{cohort.name}"
    shared: dict[str, Any] = {"data": cohort / "train.csv", "cache": cache, "hu_window": demo.TRAINING["hu_window"]}
    if options.dims == 3:
        shared["unit"] = "HU"
    loop = {"loop.steps": options.tokenizer_steps, "loop.batch": BATCH[options.dims] // 2}
    loop["autoencoder.widths"] = options.tokenizer_widths
    vq = configure(EncodeImages, out=out.with_name("vq"), kind="vq", image_size=size, **loop, **TOKENIZER, **shared)
    given: dict[str, Any] = {"network.mask_classes": demo.TRAINING["network.mask_classes"], **TEXT}
    given |= {**TRANSFORMER, "network.fusion": options.fusion}
    given |= {"loop.steps": options.steps, "loop.batch": BATCH[options.dims]}
    if options.columns_as == "table":
        given["table"] = demo.COLUMNS
    return Path(run_command("train tokens", out=out, tokenizer=train_run(vq), **shared, **given))


def _train(options: argparse.Namespace, cohort: Path, out: Path) -> Path:
    """The family's generator, as the demo trains it where both have an option."""
    if options.family == "tokens":
        return _train_tokens(options, cohort, out)
    shared: dict[str, Any] = {
        "data": cohort / "train.csv",
        "out": out,
        "network.fusion": options.fusion,
        "image_size": [options.size] * options.dims,
        "cache": options.out / f"cache-{cohort.name}",
        "loop.steps": options.steps,
        "loop.batch": BATCH[options.dims],
        **{name: demo.TRAINING[name] for name in ("hu_window", "network.mask_classes")},
    }
    if options.dims == 3:
        # NIfTI files do not say so; DICOM files do.
        shared["unit"] = "HU"
    if options.columns_as == "table":
        shared["table"] = demo.COLUMNS
    if options.family == "gan":
        return Path(run_command("train gan", shift=SHIFT, **TEXT, **shared))
    own: dict[str, Any] = {"network.attention": [False, options.fusion == "cross-attention"]}
    # Tokens of a text reach every place.
    own["network.styles_only"] = options.fusion == "affine"
    if options.dims == 3:
        own.update(IN_VOLUMES)
    return Path(run_command("train text2image", **{**demo.TRAINING, **own, **shared}))


def _lines(scores: dict[str, Any]) -> list[str]:
    """A row for each thing that has to hold."""
    lines = []
    for verdict in scores["verdicts"]:
        value = with_interval(verdict["value"], verdict["low"], verdict["high"])
        lines.append(f"{verdict['attribute']}, {verdict['metric']}: {value}, {verdict['answer']}: {verdict['bound']}")
    return lines
