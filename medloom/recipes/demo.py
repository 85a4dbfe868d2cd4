"""`medloom demo`: a virtual cohort -> train -> generate -> what-if -> report, in minutes on two CPU cores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.recipes.commands import run_command

PIXELS = 64
SAMPLING: Mapping[str, object] = {"steps": 10, "guidance": [1]}
# What smoking does to a lung is a few HU; four minutes of training can tell four times that.
AMPLIFY = 4.0
# Findings condition it as text; numbers, which a text encoder from scratch learns slowly, as columns of the table.
WORDING = "phantom-findings"
COLUMNS = ("age", "smoking", "pack_years", "sex", "coffee")
# All else is the preset's.
TRAINING: Mapping[str, object] = {
    "preset": "counterfactual",
    "image_size": [PIXELS],
    "hu_window": [-1024, 476],
    "network.mask_classes": [1, 2, 3],
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
        patients: virtual patients; about three quarters are trained on.
        steps: training steps.
        rows: held-out patients that are asked about.
        n: images of each of them in each arm; their mean difference is compared with the truth.
        seed: of cohort, training and images.
        device: auto, cpu or cuda.
    """

    common: ClassVar[tuple[str, ...]] = ("out", "patients", "steps", "rows", "n", "seed", "device")
    example: ClassVar[str] = "medloom demo --out runs/demo"

    out: Path = Path("runs/demo")
    patients: int = 6000
    steps: int = 1500
    rows: int = 40
    n: int = 2
    seed: int = 0
    device: str = "auto"


def run(config: Config) -> Path:
    """Run the whole chain; returns the report's path. The same command again resumes."""
    from medloom.core.files import claim_output, write_json
    from medloom.core.progress import say

    out = claim_output(config.out, "demo.json")
    write_json(out / "demo.json", {"patients": "virtual"})
    say("1/4  making a cohort of virtual patients, whose disease has known causes")
    cohort = make_cohort(config, out / "cohort")
    say("2/4  training a generator on findings as text, a table of numbers, and a mask of body, thorax and bone")
    model = train(config, cohort, out / "run")
    say("3/4  asking it what would be different in held-out patients")
    answers = ask(config, cohort, model, out / "whatif")
    say("4/4  comparing the answers with the truth")
    report: Path = run_command("evaluate whatif", data=answers, truth=cohort, out=out / "report", seed=config.seed)
    say(f"\nRead the report: {report / 'report.html'}\nand see the images: {out / 'whatif' / 'grid.png'}\n\nTry next:")
    table = "age=65,smoking=current,pack_years=40,sex=male,coffee=daily"
    prompt = f'--prompt "lung nodule, severe, on the left" --table {table}'
    mask = next((cohort / "masks").iterdir())
    say(f"  medloom generate --model {model} {prompt} --modality CT --mask {mask} --n 8 --out {out / 'nodules'}")
    say("  medloom data check YOUR_TABLE.csv")
    say("  medloom train text2image --data YOUR_TABLE.csv --out runs/mine")
    return report / "report.html"


def make_cohort(config: Config, out: Path, changed: Mapping[str, object] | None = None) -> Path:
    """The virtual patients, CT slices with complete tables, by the demo's options but for those `changed`."""
    options = {"size": PIXELS, "amplify": AMPLIFY, "complete": True, "template": WORDING, **(changed or {})}
    given = {"out": out, "patients": config.patients, "seed": config.seed}
    made: Path = run_command("data phantom", **given, **options)
    return made


def train(
    config: Config, cohort: Path, out: Path, cache: Path | None = None, changed: Mapping[str, object] | None = None
) -> Path:
    """A generator of the cohort's images, by the demo's options but for those `changed`."""
    own = {"loop.steps": config.steps, "device": config.device, "loop.seed": config.seed}
    options = {**TRAINING, **own, **(changed or {})}
    data = cohort / "train.csv"
    trained: Path = run_command("train text2image", data=data, out=out, table=COLUMNS, cache=cache, **options)
    return trained


def ask(config: Config, cohort: Path, model: Path, out: Path, sampling: Mapping[str, object] = SAMPLING) -> Path:
    """What would be different in held-out patients, arm by arm."""
    answers: Path = run_command(
        "whatif",
        model=model,
        data=cohort / "test.csv",
        set=list(ARMS),
        rows=config.rows,
        n=config.n,
        # A cohort of few patients may lack the largest dose.
        allow_unseen=True,
        out=out,
        seed=config.seed,
        device=config.device,
        **sampling,
    )
    return answers
