"""`medloom generate`: images from a prompt, or from a manifest of conditions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medloom.core.errors import UserError
from medloom.core.files import relative_path
from medloom.core.lookup import look_up
from medloom.core.progress import say
from medloom.core.types import Condition, Sample
from medloom.data.prompts.arms import read_changes
from medloom.data.row_sampling import draw_rows, rows_by_class
from medloom.generation.options import (
    MOST_IMAGES,
    SAMPLED_FOR,
    GenerationOptions,
    name_values,
    refuse_without_table,
)

if TYPE_CHECKING:
    from medloom.generation.produce import LoadedModel
    from medloom.generation.requests import Request, Source
    from medloom.generators.base import AnyGenerator

    # A condition, where it comes from, and the cells of further columns.
    Rows = list[tuple[Condition, Source, tuple[object, ...]]]

DESCRIPTION = "generation.json"
GRID = ("steps", "temperature", "guidance")


@dataclass(frozen=True, kw_only=True)
class Config(GenerationOptions):
    """Generate images with a trained model; every image says that it is SYNTHETIC.

    Attributes:
        prompt: what the images should show.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        mask: label map that the images follow, for a model trained with masks.
        table: values of the columns of a table that condition the model, as age=60,smoking=never; one that is left out
            is unknown, where some training images had none.
        data: manifest of conditions instead of the prompt: images for each of its rows.
        count: of `data`, rows to sample; without it, every row once (its paired synthetic version).
        balance: sample as many of each class: one column, whose values are the classes (a clinical column, modality,
            view or text), or several columns of findings, each of which is a class.
        classes: the values of the column of `balance` to sample (default: all that stand there).
        show_steps: write steps.png, what the model expects of the first images after each step of sampling.
        grid: of tokens: decoding_grid.png of the first image, by numbers of steps and, if wanted, temperatures and
            guidance scales, e.g. `--grid steps=4,8,16 temperature=0.8,1 guidance=1,2`.
    """

    example: ClassVar[str] = 'medloom generate --model runs/mm --modality CXR --prompt "Small left effusion." --out out'
    common: ClassVar[tuple[str, ...]] = (
        "prompt", "modality", "view", "mask", "table", "data", "count", "n", "seed", "steps", "guidance", "negative",
        "allow_unseen", "format", "batch", "device",
    )  # fmt: skip

    prompt: str | None = None
    modality: str | None = None
    view: str | None = None
    mask: Path | None = None
    table: str | None = None
    data: Path | None = None
    count: int | None = None
    balance: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    show_steps: bool = False
    grid: tuple[str, ...] = ()


def run(config: Config) -> Path:
    """Generate; returns the path of manifest.csv.

    Raises:
        UserError: a condition that the model cannot follow, an option out of range, or --out that holds something else.
    """
    from medloom.generation.grids import write_grid
    from medloom.generation.kept_images import MANIFEST
    from medloom.generation.produce import (
        images_folder,
        is_main_process,
        load_model,
        produce,
        write_manifest,
    )

    _check(config)
    grid = _grid(config)
    model = load_model(config)
    _check_pictures(config, model, grid)
    requests, kept = _requests(config, model)
    facts = {"spec": model.generator.spec.to_dict()}
    manifest = config.out / MANIFEST
    with images_folder(config, DESCRIPTION):
        suffix = produce(model, requests, DESCRIPTION, facts, allow_unseen=config.allow_unseen)
        if not is_main_process():
            return manifest
        write_grid(model, requests, suffix, kept)
        if config.show_steps or grid:
            from medloom.generation.step_pictures import write_steps
            from medloom.generation.token_pictures import write_decoding_grid

            if config.show_steps:
                write_steps(model, requests)
            if grid:
                write_decoding_grid(model, requests[0], grid)
        write_manifest(manifest, requests, suffix, kept, config.with_text)
        say(f"{len(requests)} images: {manifest}; look at {config.out / 'grid.png'}")
    return manifest


def _check(config: Config) -> None:
    config.check()
    alone = (config.prompt, config.modality, config.view, config.mask, config.table)
    if config.data is not None and alone != (None,) * 5:
        raise UserError("--data brings its own conditions; leave --prompt, --modality, --view, --mask and --table out.")
    if config.data is None and alone == (None,) * 5:
        raise UserError(
            "say what to generate: --prompt, --modality, --mask or --table, or a manifest of conditions with --data."
        )
    if config.data is None:
        refuse_without_table(config, "a prompt")
    if config.count is not None and config.data is None:
        raise UserError("--count samples rows of --data; for several images of one prompt give --n.")
    if config.balance and config.count is None:
        raise UserError("--balance needs --count, the number of rows to sample.")
    if config.count is not None and not 1 <= config.count <= MOST_IMAGES:
        raise UserError(f"--count {config.count}: it has to be at least 1 and at most {MOST_IMAGES}.")
    if config.classes and len(config.balance) != 1:
        raise UserError("--classes are values of one column of --balance; of several columns, each is a class.")


def _grid(config: Config) -> dict[str, list[float]]:
    """The numbers of --grid by name.

    Raises:
        UserError: an unknown name, what is no number, or no steps.
    """
    found: dict[str, list[float]] = {}
    for name, values in name_values("--grid", config.grid).items():
        look_up(dict.fromkeys(GRID), name, "name in --grid")
        try:
            found[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise UserError(f"--grid {name}={values}: give numbers, as {name}=1,2.") from None
    if found and "steps" not in found:
        raise UserError("--grid needs steps=..., the rows of the picture.")
    return found


def _check_pictures(config: Config, model: "LoadedModel", grid: dict[str, list[float]]) -> None:
    """Refuse pictures of steps and of decoding for models that have none, and options that they cannot follow."""
    from medloom.generation.step_pictures import check_steps
    from medloom.generation.token_pictures import decoding_options

    if config.show_steps:
        check_steps(model)
    if grid:
        decoding_options(model, grid)


def _requests(config: Config, model: "LoadedModel") -> "tuple[list[Request], list[str]]":
    """The images to generate, in order, and the names of the columns that are carried along."""
    from medloom.generation.requests import Request, check_seeds

    rows, kept = _conditions(config, model)
    check_seeds(config, len(rows) * config.n)
    requests = [
        Request(index * config.n + k, condition, config.seed + index * config.n + k, origin, cells)
        for index, (condition, origin, cells) in enumerate(rows)
        for k in range(config.n)
    ]
    return requests, kept


def _conditions(config: Config, model: "LoadedModel") -> "tuple[Rows, list[str]]":
    """The one condition of the options, or those of a manifest; and the names of the columns of their cells."""
    from medloom.generation.requests import Source, answerable, kept_columns, origins, read_conditions

    generator = model.generator
    names = [column.name for column in generator.columns]
    if config.data is None:
        table = _table(config.table, names)
        condition = Condition(config.prompt, config.modality, config.view, mask=config.mask, table=table)
        known = generator.row_condition(condition, "--table")
        # A mask that the model does not take is the user's mistake here, and a column that is not needed in a table.
        generator.check([condition], allow_unseen=config.allow_unseen)
        cells = tuple(known.table[name] for name in names)
        return _with_masks(config, [(known, Source(), cells)], names, [config.mask])
    manifest = read_conditions(config, config.data, _needed_columns(generator))
    kept = kept_columns(_carried(config, manifest.clinical_columns), manifest)
    further = [name for name in kept if name not in names]
    usable = manifest.samples()
    if config.skip_bad:
        usable = answerable(config.data, usable, generator, True, config.allow_unseen)
    samples, sampled_for = _sample(config, usable)
    if not config.skip_bad:
        # A row that was not sampled may be what it likes.
        sampled = {sample.line: sample for sample in samples}
        answerable(config.data, [*sampled.values()], generator, False, config.allow_unseen)
    rows: Rows = []
    for sample, origin in zip(samples, origins(config.data, samples), strict=True):
        known = generator.row_condition(sample.condition, f"{config.data}, line {sample.line}")
        carried = [known.table[name] for name in names] + [sample.condition.table[name] for name in further]
        rows.append((known, origin, tuple(carried)))
    columns = [*names, *further]
    if config.balance:
        rows = [(*row[:2], (*row[2], name)) for row, name in zip(rows, sampled_for, strict=True)]
        columns.append(SAMPLED_FOR)
    return _with_masks(config, rows, columns, [sample.condition.mask_file for sample in samples])


def _needed_columns(generator: "AnyGenerator") -> tuple[str, ...]:
    """The standard columns that the manifest has to have, filled: of parts that every training image had."""
    if "prior" in generator.parts or generator.trained_on is None:
        # An editor's text may stand in the column instruction.
        return ("text",) if generator.reads_text and generator.trained_on is None else ()
    return generator.rules.needs


def _with_masks(
    config: Config, rows: "Rows", columns: list[str], masks: Sequence[Path | None]
) -> "tuple[Rows, list[str]]":
    """The paths of the rows' masks as a first column, where there are any; a model that takes none is evaluated too."""
    if not any(masks):
        return rows, columns
    paths = [relative_path(mask, config.out) for mask in masks]
    return [(*row[:2], (path, *row[2])) for row, path in zip(rows, paths, strict=True)], ["mask", *columns]


def _carried(config: Config, clinical: Sequence[str]) -> tuple[str, ...]:
    """The columns that go into the manifest: those of --keep and those that are balanced.

    Raises:
        UserError: a column to balance that the manifest lacks.
    """
    known = dict.fromkeys([*clinical, "modality", "view", "text"])
    for name in config.balance:
        look_up(known, name, f"--balance: column of {config.data}")
    own = [name for name in config.balance if name in clinical]
    return tuple(dict.fromkeys([*config.keep, *own]))


def _sample(config: Config, samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """The rows to generate images from, and the class that each was sampled for."""

    if config.count is None:
        return list(samples), []
    where = str(config.data)
    if config.balance:
        classes = rows_by_class(samples, config.balance, config.classes, where)
        say("rows by class: " + ", ".join(f"{name} {len(rows)}" for name, rows in classes))
    else:
        classes = [("", range(len(samples)))]
    drawn = draw_rows(classes, config.count, config.seed)
    return [samples[index] for index, _ in drawn], [name for _, name in drawn]


def _table(given: str | None, names: Sequence[str]) -> dict[str, str | None]:
    """Cells by column from `age=60,smoking=never`; the columns that are not named are unknown.

    Raises:
        UserError: no `=`, a column twice, or one that does not condition the model.
    """
    cells: dict[str, str | None] = dict.fromkeys(names)
    if given is None:
        return cells
    if not names:
        raise UserError("--table: no columns of a table condition the model; say it in --prompt.")
    for name, value in read_changes("--table", given).items():
        look_up(dict.fromkeys(names), name, "--table: column that conditions the model")
        cells[name] = value
    return cells
