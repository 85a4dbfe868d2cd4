"""`medloom demo`: a virtual cohort -> train -> generate -> what-if -> report, in minutes on two CPU cores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIXELS = 64
PATIENTS = 6000
# Of the held-out patients, so many are asked about, each with so many seeds.
ASKED, SEEDS = 40, 2
SAMPLER_STEPS = 10
# What smoking does to a lung is a few HU; four minutes of training can tell two or three times that.
AMPLIFY = 2.5
# Findings are told as text; the numbers, which a text encoder from scratch is slow to read, as columns of the table.
WORDING = "phantom-findings"
COLUMNS = ("age", "smoking", "pack_years", "sex", "coffee")
TRAINING: Mapping[str, Any] = {
    "size": "tiny",
    "image_size": [PIXELS],
    "hu_window": [-1024, 476],
    "network.fusion": "affine",
    "network.widths": [64, 128],
    "network.attention": [False, True],
    "network.patch": 4,
    "network.mask": "channels",
    "network.mask_classes": [1, 2, 3],
    "network.mask_balance": 0.25,
    "noise.shift": 4.0,
    "text.vocabulary": 700,
    "text.max_tokens": 40,
    "loop.batch": 32,
    "text.layers": 1,
    "text.rate": 0.2,
    "loop.learning_rate": 2e-3,
    "loop.schedule": "cosine",
    "loop.validate_every": 1000,
    "loop.checkpoint_every": 500,
}
ARMS = (
    "smoking=never",
    "smoking=former,pack_years=20",
    "smoking=former,pack_years=70",
    "smoking=current,pack_years=20",
    "age=35",
    "age=85",
    "diagnosis=effusion,extent=moderate,side=left",
    "diagnosis=effusion,extent=severe,side=right",
    "coffee=rarely",
    "coffee=daily",
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Show what medloom does, on a virtual cohort whose true counterfactuals are known.

    Attributes:
        out: folder for cohort, run, images and report.
        steps: training steps.
        seed: of cohort, training and images.
        device: auto, cpu or cuda.
    """

    out: Path = Path("runs/demo")
    steps: int = 1800
    seed: int = 0
    device: str = "auto"


def run(config: Config) -> Path:
    """Run the whole chain; returns the report's path. The same command again goes on where it stopped."""
    from medloom.core.config import configure
    from medloom.core.files import claim_output, write_json
    from medloom.core.progress import say
    from medloom.recipes import data_phantom, evaluate, text2image, whatif

    out = claim_output(config.out, "demo.json")
    write_json(out / "demo.json", {"patients": "virtual"})
    say("1/4  making a cohort of virtual patients, whose disease has known causes")
    cohort = data_phantom.run(
        configure(
            data_phantom.Config,
            out=out / "cohort",
            patients=PATIENTS,
            size=PIXELS,
            amplify=AMPLIFY,
            complete=True,
            template=WORDING,
            seed=config.seed,
        )
    )
    say("2/4  training a generator on findings as text, a table of numbers, and a mask of body, thorax and bone")
    options = {**TRAINING, "loop.steps": config.steps, "device": config.device, "loop.seed": config.seed}
    model = text2image.run(
        configure(text2image.Config, data=cohort / "train.csv", out=out / "run", table=COLUMNS, **options)
    )
    say("3/4  asking it what would be different in held-out patients")
    answers = whatif.run(
        configure(
            whatif.Config,
            model=model,
            data=cohort / "test.csv",
            set=list(ARMS),
            rows=ASKED,
            n=SEEDS,
            steps=SAMPLER_STEPS,
            guidance=1.0,
            out=out / "whatif",
            seed=config.seed,
            device=config.device,
        )
    )
    say("4/4  comparing the answers with the truth")
    report = evaluate.run(
        configure(evaluate.Config, whatif=answers, truth=cohort, out=out / "report", seed=config.seed)
    )
    say(f"\nRead the report: {report / 'report.html'}\nand see the images: {out / 'whatif' / 'grid.png'}\n\nTry next:")
    prompt = '--prompt "lung nodule, severe, on the left" --table age=65,smoking=current,pack_years=40,sex=male'
    mask = next((cohort / "masks").iterdir())
    say(f"  medloom generate --model {model} {prompt} --modality CT --mask {mask} --n 8 --out {out / 'nodules'}")
    say("  medloom data check YOUR_TABLE.csv")
    say("  medloom train text2image --data YOUR_TABLE.csv --out runs/mine")
    return report / "report.html"
