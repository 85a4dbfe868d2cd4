"""`medloom compare`: two models on the same held-out conditions and seeds, modality by modality."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medloom.core.config import configure
from medloom.core.errors import UserError
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import ManifestOptions
from medloom.recipes.commands import recipe_of, run_command

if TYPE_CHECKING:
    from medloom.data.manifest import Manifest
    from medloom.evaluation.images.ranking import Contender
    from medloom.evaluation.report.openings import Openings
    from medloom.generators.base import AnyGenerator

DESCRIPTION, TABLE, PAGE = "comparison.json", "comparison.csv", "comparison.html"
SIDES = ("before", "after")
HEADER = [
    *("metric", "subset", "features", "n"),
    *(f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")),
    *("reference", "reference_is"),
]
# The rows of both models, for as long as the command runs.
CONDITIONS = "conditions-internal.csv"
# What generation and evaluation read of a row, besides labels and the columns that condition a model.
STANDARD = ("line", "text", "instruction", "modality", "view", "patient_id", *PATH_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Compare two models, e.g. before and after a new modality was added.

    Attributes:
        before: run folder of the first model.
        after: run folder of the second model.
        data: manifest of held-out images with their conditions, which neither model was trained on.
        out: folder for both sets of images, both reports, comparison.html and comparison.csv.
        train: manifest of the training images, on which the judging classifier is trained (default: half of --data).
        n: images per row.
        seed: of the first image; both models get the same seeds.
        steps: steps of the sampler (default: 20 for diffusion; a GAN has no sampler).
        guidance: how strongly the condition is followed; more than 1 exaggerates what it says and makes images more
            alike (default: 1, no guidance; a GAN has none).
        label: see `medloom evaluate images`: column of the class that a classifier predicts, modality, or auto.
        features: see `medloom evaluate images`: feature extractors.
        image_size: see `medloom evaluate images`: pixels of the judging classifier's images.
        device: auto, cpu or cuda.
    """

    common: ClassVar[tuple[str, ...]] = (
        "train",
        "n",
        "seed",
        "steps",
        "guidance",
        "label",
        "features",
        "columns",
        "device",
    )
    example: ClassVar[str] = "medloom compare --before runs/mm --after runs/mm2 --data test.csv --out compared/"

    before: Path
    after: Path
    data: Path
    out: Path
    train: Path | None = None
    n: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    label: str = "auto"
    features: tuple[str, ...] = ("classifier",)
    image_size: tuple[int, ...] = ()
    device: str = "auto"


def run(config: Config) -> Path:
    """Generate with both models, evaluate both, and join the metrics; returns the path of comparison.csv.

    Raises:
        UserError: a model or manifest that cannot be used, no modality that both models know, or rows that one of them
            cannot follow.
    """
    from medloom.core.files import hash_json, write_json, write_text
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say
    from medloom.data.manifest import load_manifest
    from medloom.data.tables import write_csv
    from medloom.evaluation.images.before_after import before_after_page, changes
    from medloom.evaluation.report.metrics import with_interval
    from medloom.evaluation.report.openings import count_opening
    from medloom.generators.storage import open_generator

    models = {"before": config.before, "after": config.after}
    everything = load_manifest(config.data, config)
    shared, common, scales = _shared(config, models, everything)
    hashes = [open_generator(model).model_hash() for model in models.values()]
    if hashes[0] == hashes[1]:
        raise UserError(f"--before {config.before} and --after {config.after} have the same weights; give two models.")
    with output_folder(config.out, DESCRIPTION) as out:
        described = {"before": str(config.before), "after": str(config.after), "on": common, "guidance": scales}
        write_json(out / DESCRIPTION, described)
        say(f"comparing on {len(shared)} rows of the modalities that both models know: {', '.join(common)}")
        with _written(shared, out / CONDITIONS) as conditions:
            # Both evaluations are one opening of --data.
            openings = count_opening(everything, "compare", None, out, hash_json(hashes))
            before, after = (
                _measured(config, side, model, conditions, scales[side], openings) for side, model in models.items()
            )
            found = changes(before, after)
        rows = f"{len(shared)} rows of {', '.join(common)}"
        what = f"Images by both models of the same {rows}, {config.n} of each, from the same seeds."
        if config.guidance not in (None, 1):
            what += f" With guidance {config.guidance:g} (1 is none; more exaggerates what the conditions say)."
            say(f"guidance {config.guidance:g} (1 is none; more exaggerates what the conditions say)")
        write_text(out / PAGE, before_after_page(before, after, found, what))
        write_csv(out / TABLE, HEADER, _rows(before, after))
        for change in found:
            spread = with_interval(change.change.value, change.change.low, change.change.high)
            say(f"{change.metric} {change.extractor}: after less before {spread}: {change.word}")
        say(f"compared: {out / PAGE} for people, {out / TABLE} for programs")
        return out / TABLE


def _rows(before: "Contender", after: "Contender") -> list[list[object]]:
    """Rows of the table: the metrics that both reports have."""
    from medloom.evaluation.images.before_after import in_both

    rows: list[list[object]] = []
    for first, second in in_both(before, after):
        ends = [(each.value, each.low, each.high) for each in (first, second)]
        named = (second.name, second.subset, second.extractor, second.n)
        rows.append([*named, *ends[0], *ends[1], second.reference.value, second.reference.what])
    return rows


@contextmanager
def _written(rows: "Manifest", path: Path) -> Iterator[Path]:
    """The rows as a table within the block. It holds texts and patients, and is not left in what may be shared."""
    rows.write(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _measured(
    config: Config, side: str, model: Path, conditions: Path, scale: float | None, openings: "Openings"
) -> "Contender":
    """One model's images of the rows, evaluated."""
    from medloom.evaluation.images.ranking import Contender

    # The table has standard column names, and unusable rows are left out of it.
    reading = {f.name: getattr(config, f.name) for f in fields(ManifestOptions) if f.name != "columns"}
    synthetic = run_command(
        "generate",
        model=model,
        data=conditions,
        out=config.out / side,
        n=config.n,
        seed=config.seed,
        steps=config.steps,
        guidance=() if scale is None else (str(scale),),
        device=config.device,
        **reading,
    )
    evaluation = recipe_of("evaluate images")
    options = configure(
        evaluation.Config,
        real=conditions,
        synthetic=(synthetic,),
        train=config.train,
        model=model,
        out=config.out / f"{side}-report",
        label=config.label,
        conditions=conditions,
        features=config.features,
        image_size=config.image_size,
        cache=config.out / "cache",
        device=config.device,
        **reading,
    )
    _, report, inputs = evaluation.evaluated(options, None, openings)
    return Contender(side, report.metrics, report.answers, inputs)


def _shared(
    config: Config, models: Mapping[str, Path], manifest: "Manifest"
) -> tuple["Manifest", list[str], dict[str, float | None]]:
    """The rows that both models can follow, the modalities that both know, and the guidance scale of each.

    Raises:
        UserError: see `run`.
    """
    from medloom.generation.options import LABEL_COLUMNS
    from medloom.generation.requests import answerable
    from medloom.generators.sampling import guided
    from medloom.generators.storage import load_generator, open_generator

    generators: dict[str, AnyGenerator] = {}
    for side, model in models.items():
        opened = open_generator(model, f"--{side}")
        generators[side] = load_generator(opened.model)
        for split in opened.splits():
            split.refuse_overlap(manifest, str(model))
    known = [set(generator.spec.intensity) for generator in generators.values()]
    common = sorted(known[0] & known[1] & set(manifest.modalities))
    if not common:
        raise UserError(
            f"{config.data} has {', '.join(manifest.modalities)}, of which the two models have none in common"
            f" ({', '.join(sorted(known[0]))} and {', '.join(sorted(known[1]))})."
        )
    shared = manifest.select(modality in common for modality in manifest.frame["modality"])
    samples = shared.samples()
    scales: dict[str, float | None] = dict.fromkeys(models, config.guidance)
    for side, generator in generators.items():
        # Both models are asked for the same rows.
        samples = answerable(config.data, samples, generator, config.skip_bad)
        if config.guidance is None and generator.sampling.guidance is not None:
            scales[side] = 1.0
        scale = () if scales[side] is None else (str(scales[side]),)
        steps = {} if config.steps is None else {"steps": config.steps}
        generator.check_sampling(guided(replace(generator.sampling, **steps), scale))
    lines = {sample.line for sample in samples}
    shared = shared.select(line in lines for line in shared.frame["line"])
    clinical = {config.label, *LABEL_COLUMNS}.union(
        column.name for generator in generators.values() for column in generator.columns
    )
    needed = [name for name in shared.frame if name in STANDARD or name in clinical]
    return replace(shared, frame=shared.frame[needed]), common, scales
