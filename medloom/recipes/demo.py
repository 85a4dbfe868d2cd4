"""`medloom demo`: a virtual cohort -> train -> generate -> what-if -> report, in minutes on two CPU cores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.files import relative_path
from medloom.recipes.commands import run_command

PIXELS = 64
# What smoking does to a lung is a few HU; a few minutes of training can tell five times that.
AMPLIFY = 5.0
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
# What is asked for at the end, and what the reader is invited to try.
WANTED: Mapping[str, object] = {
    "prompt": "pleural effusion, severe, on the right",
    "table": "age=65,smoking=current,pack_years=40,sex=male,coffee=daily",
    "modality": "CT",
}
SIDE, IMAGES = "right", 8
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
    steps: int = 1250
    rows: int = 40
    n: int = 2
    seed: int = 0
    device: str = "auto"


def run(config: Config) -> Path:
    """Run the whole chain; returns the report's path. The same command again resumes."""
    from medloom.core.files import write_json
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say

    with output_folder(config.out, "demo.json") as out:
        write_json(out / "demo.json", {"patients": "virtual"})
        say("1/5  making a cohort of virtual patients, whose disease has known causes")
        cohort = make_cohort(config, out / "cohort")
        say("2/5  training a generator on findings as text, a table of numbers, and a mask of body, thorax and bone")
        model = train(config, cohort, out / "run")
        say("3/5  asking it what would be different in held-out patients")
        answers = ask(config, cohort, model, out / "whatif")
        say("4/5  comparing the answers with the truth")
        report: Path = run_command("evaluate whatif", data=answers, truth=cohort, out=out / "report", seed=config.seed)
        say("5/5  generating images of a finding, and measuring how many show it")
        mask = min((cohort / "masks").iterdir())
        wanted = {**WANTED, "mask": mask}
        made = run_command("generate", model=model, out=out / "images", n=IMAGES, device=config.device, **wanted)
        _conclude(report / "scores.json", _showing(made, mask))
        differences = out / "whatif" / "differences.png"
        say(f"\nRead the report: {report / 'report.html'}\nand see the differences: {differences}\n\nTry next:")
        words = " ".join(f"--{name} {_quoted(value)}" for name, value in wanted.items())
        for line in (
            f"generate --model {model} {words} --n {IMAGES} --seed {IMAGES} --out {out / 'more'}",
            "data check YOUR_TABLE.csv",
            "train text2image --data YOUR_TABLE.csv --out runs/mine",
        ):
            say(f"  {_program()} {line}")
        return report / "report.html"


def _showing(manifest: Path, mask: Path) -> int:
    """How many of the generated images show the wanted finding, by measurement."""
    from medloom.data.images import read_image
    from medloom.data.tables import read_table
    from medloom.phantom.oracle import measure

    labels, table = read_image(mask).pixels[0], read_table(manifest)
    paths = [manifest.parent / str(cells[table.header.index("path")]) for cells in table.rows]
    return sum(measure(read_image(path).pixels[0], labels).effusion_side == SIDE for path in paths)


def _conclude(scores: Path, showing: int) -> None:
    """Say in three sentences what the demo found, with values and limits."""
    from medloom.core.files import read_json
    from medloom.core.progress import say
    from medloom.evaluation.effects.recovery import EFFECT, FRACTION, OUTSIDE
    from medloom.evaluation.report.metrics import with_interval

    found: dict[str, list[str]] = {}
    for verdict in read_json(scores)["verdicts"]:
        value = with_interval(verdict["value"], verdict["low"], verdict["high"])
        what = verdict["subset"] if verdict["metric"] == EFFECT else verdict["attribute"]
        found.setdefault(verdict["metric"], []).append(f"{what} {value}, {verdict['answer']}")

    def stated(metric: str) -> str:
        return "; ".join(found.get(metric, ["not measured"]))

    say(
        f"\nFractions of the true effects (95 % interval; allowed 0.8 to 1.2): {stated(FRACTION)}."
        f"\nChange where nothing truly changes, over that where something does (allowed up to 0.1): {stated(OUTSIDE)}."
        f"\nPlacebo, in HU (allowed: a tenth of the effect of smoking): {stated(EFFECT)}."
        f"\n{showing} of {IMAGES} images asked for {WANTED['prompt']!r} show it."
        f"\nThe patients are virtual, and smoking has {AMPLIFY:g} times the effects of the literature: this shows that"
        " effects can be recovered, not that they are in your data."
    )


def _program() -> str:
    """How `medloom` is called in this shell: by its name where that is the one that runs, else by its path."""
    import shutil
    import sys

    beside = Path(sys.executable).with_name("medloom")
    found = shutil.which("medloom")
    if (found is not None and Path(found).resolve() == beside.resolve()) or not beside.is_file():
        return "medloom"
    return relative_path(beside, Path.cwd()) or str(beside)


def _quoted(value: object) -> str:
    import shlex

    return shlex.quote(str(value))


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
    # The file has the same labels, and their names, by which answers about regions call them.
    if options.pop("network.mask_classes", None):
        options["classes"] = cohort / "classes.yaml"
    data = cohort / "train.csv"
    trained: Path = run_command("train text2image", data=data, out=out, table=COLUMNS, cache=cache, **options)
    return trained


def ask(config: Config, cohort: Path, model: Path, out: Path, sampling: Mapping[str, object] | None = None) -> Path:
    """What would be different in held-out patients, arm by arm, by the run's own sampling or another."""
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
        **(sampling or {}),
    )
    return answers
