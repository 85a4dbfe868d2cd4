"""How much of the true effects of a virtual cohort diffusion and GAN recover, in slices and in volumes."""

import argparse
from pathlib import Path
from typing import Any

from medloom.core.config import configure
from medloom.core.files import read_json
from medloom.recipes import data_phantom, demo, evaluate, mask2image, mask2image_gan, whatif

# The demo's questions, whose true effects have the sizes that it says.
AMPLIFY = demo.AMPLIFY
GIVEN = ("network.mask_classes", "hu_window", "shift", "text.vocabulary", "text.max_tokens", "text.layers")
BATCH = {2: 32, 3: 8}
SAMPLER = {"diffusion": {"steps": demo.SAMPLER_STEPS, "guidance": 1.0}, "gan": {}}


def main(words: list[str]) -> None:
    """Make the cohort, train one family on it, ask held-out patients, and print the verdicts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/family_recovery"))
    parser.add_argument("--family", choices=sorted(SAMPLER), default="diffusion")
    parser.add_argument("--fusion", choices=("none", "affine", "cross-attention"), default="affine")
    parser.add_argument("--told", choices=("table", "text"), default="table", help="how numbers are told")
    parser.add_argument("--dims", type=int, default=3)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--n", type=int, default=2)
    options = parser.parse_args(words)
    wording = demo.WORDING if options.told == "table" else "phantom"
    cohort = data_phantom.run(
        configure(
            data_phantom.Config,
            out=options.out / f"cohort-{options.dims}d-{wording}",
            patients=options.patients,
            dims=options.dims,
            size=options.size,
            amplify=AMPLIFY,
            complete=True,
            template=wording,
        )
    )
    out = options.out / f"{options.family}-{options.dims}d-{options.fusion}-{options.told}"
    model = _train(options, cohort, out / "run")
    answers = whatif.run(
        configure(
            whatif.Config,
            model=model,
            data=cohort / "test.csv",
            set=list(demo.ARMS),
            rows=options.rows,
            n=options.n,
            allow_unseen=True,
            out=out / "whatif",
            **SAMPLER[options.family],
        )
    )
    report = evaluate.run(configure(evaluate.Config, whatif=answers, truth=cohort, out=out / "report"))
    print("\n".join(_lines(read_json(report / "scores.json"))))


def _train(options: argparse.Namespace, cohort: Path, out: Path) -> Path:
    """The family's generator, as the demo trains it where both have an option."""
    table = demo.COLUMNS if options.told == "table" and options.fusion != "none" else ()
    shared: dict[str, Any] = {
        "data": cohort / "train.csv",
        "out": out,
        "fusion": options.fusion,
        "image_size": [options.size] * options.dims,
        "table": table,
        "cache": options.out / f"cache-{cohort.name}",
        "loop.steps": options.steps,
        "loop.batch": BATCH[options.dims],
        **{name: demo.TRAINING[name] for name in GIVEN},
    }
    if options.family == "gan":
        return mask2image_gan.run(configure(mask2image_gan.Config, **shared))
    fused = {
        "network.attention": [False, options.fusion == "cross-attention"],
        "network.region_slopes": options.fusion != "none",
    }
    return mask2image.run(configure(mask2image.Config, **{**demo.TRAINING, **fused, **shared}))


def _lines(scores: dict[str, Any]) -> list[str]:
    """A row for each thing that has to hold."""
    return [
        f"{verdict['attribute']}, {verdict['metric']}: {verdict['value']:.3f} ({verdict['low']:.3f} to"
        f" {verdict['high']:.3f}), {'holds' if verdict['passed'] else 'short'}: {verdict['rule']}"
        for verdict in scores["verdicts"]
    ]
