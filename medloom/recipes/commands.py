"""The commands: what the user types, and the recipe behind it, as strings, so that help imports nothing heavy."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medloom.core.config import configure
from medloom.core.lookup import look_up

if TYPE_CHECKING:
    from medloom.generators.options import TrainOptions

# First words of commands -> title of the group in the overview; no words, of all other commands.
GROUPS: dict[str, str] = {
    "demo": "Start here",
    "data import": "Import public data sets and weights",
    "data": "Prepare data",
    "train": "Train",
    "rate": "Rate images and improve the generator",
    "": "Generate and evaluate",
}
# Words of the command -> (module with `Config` and `run`, one line of help).
RECIPES: dict[str, tuple[str, str]] = {
    "demo": (
        "medloom.recipes.demo",
        "make a virtual cohort, train on it, ask what if, and check the answers against the truth",
    ),
    "data check": ("medloom.recipes.data_check", "say what is in a manifest and what is wrong with it"),
    "data phantom": ("medloom.recipes.data_phantom", "make a virtual cohort whose true counterfactuals are known"),
    "data split": ("medloom.recipes.data_split", "split a manifest by patient into train, validation and test"),
    "data prompts": ("medloom.recipes.data_prompts", "word a clinical table: a text for each row, by a template"),
    "data journeys": ("medloom.recipes.data_journeys", "pair a patient's images over time, with what changed"),
    "data import mimic-cxr": ("medloom.recipes.data_import_mimic_cxr", "make a manifest of MIMIC-CXR or MIMIC-CXR-JPG"),
    "data import openi": ("medloom.recipes.data_import_openi", "make a manifest of the Open-i chest X-ray reports"),
    "data import covid-cxr": ("medloom.recipes.data_import_covid_cxr", "make a manifest of covid-chestxray-dataset"),
    "data import weights": (
        "medloom.recipes.data_import_weights",
        "convert published weights: text encoders, Stable Diffusion checkpoints, LoRA files",
    ),
    "generate": ("medloom.recipes.generate", "generate images from a prompt or a manifest of conditions"),
    "edit": ("medloom.recipes.edit", "edit a patient's prior image by an instruction"),
    "whatif": ("medloom.recipes.whatif", "change clinical columns, hold the seed, and see what becomes of the images"),
    "evaluate images": (
        "medloom.recipes.evaluate_images",
        "compare synthetic with real images, with intervals and real-vs-real references",
    ),
    "evaluate whatif": ("medloom.recipes.evaluate_whatif", "measure what the changes of a what-if do to the images"),
    "evaluate edits": ("medloom.recipes.evaluate_edits", "measure what edits of prior images keep and change"),
    "rate design": (
        "medloom.recipes.rate_design",
        "design a reader study: who reads what when, blinded packages, sample size",
    ),
    "rate agreement": ("medloom.recipes.rate_agreement", "measure how far raters agree, and whether they can tell"),
    "rate analyse": ("medloom.recipes.rate_analyse", "analyse a reader study, for other readers and other cases"),
    "checklist": (
        "medloom.recipes.checklist",
        "fill in a reporting guideline (CLAIM, TRIPOD+AI) from a run and a report; the rest is named as gaps",
    ),
    "ablate": (
        "medloom.recipes.ablate",
        "run a chain of commands over a grid of options, with one table of the metrics",
    ),
    "studio": ("medloom.studio.command", "open all of it in a browser: generate, edit, what-if, history"),
    "compare": ("medloom.recipes.compare", "compare two models on the same held-out images, modality by modality"),
    "rate export": ("medloom.recipes.rate_export", "write the ratings of images as a manifest"),
}


def commands() -> dict[str, str]:
    """Words of each command -> one line of help; the tasks of all families of models among them."""
    from medloom.generators.registry import training_tasks

    tasks = {f"train {name}": _summary(options) for name, options in training_tasks().items()}
    names = list(RECIPES)
    before = names.index("generate")
    lines = {name: line for name, (_, line) in RECIPES.items()}
    return {
        **{name: lines[name] for name in names[:before]},
        **tasks,
        **{name: lines[name] for name in names[before:]},
    }


def resolve(command: str) -> tuple[type[Any], Callable[..., Any]]:
    """The options of a command and what runs it.

    Raises:
        UserError: there is no such command.
    """
    look_up(commands(), command, "command")
    group, _, task = command.partition(" ")
    if group == "train":
        from medloom.generators.registry import training_tasks

        return training_tasks()[task], _train
    recipe = recipe_of(command)
    return recipe.Config, recipe.run


def recipe_of(command: str) -> ModuleType:
    """The module of a command that is no training, for commands that need more of another one than its result."""
    return import_module(RECIPES[command][0])


def run_command(command: str, **options: object) -> Any:
    """Run a command with options from Python; returns what its recipe returns, as a rule a path.

    Args:
        command: its words, as on the command line: generate, whatif, data check, ...
        options: by name, with `_` for `-`; see `medloom COMMAND --help`.

    Raises:
        UserError: as on the command line.

    Examples:
        >>> import medloom
        >>> folder = medloom.run("data split", data="train.csv", out="split", test=0.25)
        >>> sorted(path.name for path in folder.iterdir())
        ['split.json', 'test.csv', 'train.csv']
    """
    config, run = resolve(command)
    return run(configure(config, **options))


def _train(options: "TrainOptions") -> Path:
    # Imported here, so that help imports no torch.
    from medloom.generators.train import train

    return train(options)


def train(task: str, **options: object) -> Path:
    """Train a model; returns the run folder.

    Args:
        task: text2image, mask2image, edit, gan, tokens, autoencoder or text-encoder.
        options: as of `medloom train TASK`, by name with `_` for `-`; nested ones as `loop={"steps": 1000}`.

    Raises:
        UserError: as on the command line.

    Examples:
        >>> import medloom
        >>> settings = {"image_size": [16], "loop": {"steps": 1}}
        >>> run = medloom.train("text2image", data="train.csv", out="runs/new", **settings)
        >>> print(run)
        runs/new
    """
    made: Path = run_command(f"train {task}", **options)
    return made


def evaluate(**options: object) -> Path:
    """Compare synthetic with real images; returns the folder of the report.

    Args:
        options: as of `medloom evaluate images`: real, synthetic, train, out, ...

    Raises:
        UserError: as on the command line.

    Examples:
        >>> import medloom
        >>> report = medloom.evaluate(
        ...     real="test.csv", synthetic="synthetic.csv", out="report", only=["identifiers"]
        ... )
        >>> (report / "report.html").is_file()
        True
    """
    made: Path = run_command("evaluate images", **options)
    return made


def _summary(options: type) -> str:
    line = (options.__doc__ or "").strip().partition("\n")[0]
    return line[:1].lower() + line[1:].rstrip(".")
