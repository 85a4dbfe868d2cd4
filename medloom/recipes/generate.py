"""`medloom generate`: images from a prompt, or from a manifest of conditions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.types import Condition, Sample
from medloom.data.prompts.arms import read_changes
from medloom.generation.requests import Job, Maker, MakingOptions, Origin

DESCRIPTION = "generation.json"
# Column of the manifest: the class that a row was drawn for.
DRAWN_FOR = "drawn_for"


@dataclass(frozen=True, kw_only=True)
class Config(MakingOptions):
    """Generate images with a trained model; every image says that it is SYNTHETIC.

    Attributes:
        prompt: what the images should show.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        mask: label map that the images should follow, for a model trained with masks.
        table: values of the columns of a table that the model is told, as age=60,smoking=never; the others are unknown.
        data: manifest of conditions, in place of the prompt: images for each of its rows.
        count: of `data`, rows to draw, as they come; without it, every row once (its paired synthetic version).
        balance: draw as many of each class: one column, whose values are the classes (a clinical column, modality,
            view or text), or several columns of findings, each of which is a class.
        classes: the values of the column of `balance` to draw (default: all that stand there).
        show_steps: of tokens: steps.png, what is decoded after each step of the first images.
        grid_steps: of tokens: numbers of steps for decoding_grid.png, of the first image.
        grid_temperature: temperatures for it (default: --temperature).
        grid_guidance: guidance scales for it (default: --guidance).
    """

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
    grid_steps: tuple[int, ...] = ()
    grid_temperature: tuple[float, ...] = ()
    grid_guidance: tuple[float, ...] = ()


def run(config: Config) -> Path:
    """Generate; returns the path of manifest.csv.

    Raises:
        UserError: a condition that the model cannot follow, an option out of range, or --out that holds something else.
    """
    from medloom.core.progress import say
    from medloom.generation.requests import is_main_process, load_maker, make_images, write_grid, write_making_manifest

    _check(config)
    maker = load_maker(config)
    _check_pictures(config, maker)
    jobs, kept = _jobs(config, maker)
    suffix = make_images(maker, jobs, DESCRIPTION)
    manifest = config.out / "manifest.csv"
    if is_main_process():
        write_making_manifest(manifest, jobs, suffix, kept)
        write_grid(config.out, maker.generator.spec, jobs, suffix)
        _write_pictures(config, maker, jobs)
        say(f"{len(jobs)} images: {manifest}; look at {config.out / 'grid.png'}")
    return manifest


def _check(config: Config) -> None:
    from medloom.generation.requests import check_making

    check_making(config)
    if config.data is not None and _alone(config) != (None,) * 5:
        raise UserError("--data brings its own conditions; leave --prompt, --modality, --view, --mask and --table out.")
    if config.data is None and _alone(config) == (None,) * 5:
        raise UserError(
            "say what to generate: --prompt, --modality, --mask or --table, or a manifest of conditions with --data."
        )
    _check_drawing_of_rows(config)


def _check_drawing_of_rows(config: Config) -> None:
    """Refuse options of a draw of rows that do not go together."""
    if config.count is not None and config.data is None:
        raise UserError("--count draws rows of --data; for several images of one prompt give --n.")
    if config.balance and config.count is None:
        raise UserError("--balance needs --count, the number of rows to draw.")
    if config.count is not None and config.count < 1:
        raise UserError(f"--count {config.count}: at least 1.")
    if config.classes and len(config.balance) != 1:
        raise UserError("--classes are values of one column of --balance; of several columns, each is a class.")


def _check_pictures(config: Config, maker: Maker) -> None:
    """Refuse pictures of decoding for models that decode no tokens."""
    from medloom.generation.token_pictures import require_tokens_family

    further = (config.grid_temperature, config.grid_guidance)
    if any(further) and not config.grid_steps:
        raise UserError("--grid-temperature and --grid-guidance go with --grid-steps, the rows of the picture.")
    for option, asked in (("--show-steps", config.show_steps), ("--grid-steps", bool(config.grid_steps))):
        if asked:
            require_tokens_family(maker, option)


def _write_pictures(config: Config, maker: Maker, jobs: Sequence[Job]) -> None:
    from medloom.generation.token_pictures import write_decoding_grid, write_steps

    if config.show_steps:
        write_steps(maker, jobs)
    if config.grid_steps:
        temperatures = config.grid_temperature or (maker.sampling.temperature,)
        guidances = config.grid_guidance or (maker.sampling.guidance,)
        write_decoding_grid(maker, jobs[0], config.grid_steps, temperatures, guidances)


def _alone(config: Config) -> tuple[Any, ...]:
    """What says a condition without a manifest."""
    return (config.prompt, config.modality, config.view, config.mask, config.table)


def _jobs(config: Config, maker: Maker) -> tuple[list[Job], list[str]]:
    """The images to make, in order, and the names of the columns that are carried along."""
    from medloom.generation.requests import check_seeds

    rows, kept = _conditions(config, maker)
    check_seeds(config, len(rows) * config.n)
    if any(condition.mask for condition, _, _ in rows):
        rows = [(condition, origin, (_beside(config, condition.mask), *cells)) for condition, origin, cells in rows]
        kept = ["mask", *kept]
    jobs = [
        Job(index * config.n + k, condition, config.seed + index * config.n + k, origin, cells)
        for index, (condition, origin, cells) in enumerate(rows)
        for k in range(config.n)
    ]
    return jobs, kept


def _beside(config: Config, path: Path | None) -> str | None:
    """A path relative to the images' manifest."""
    return Path(os.path.relpath(path, config.out.resolve())).as_posix() if path else None


def _conditions(config: Config, maker: Maker) -> tuple[list[tuple[Condition, Origin, tuple[Any, ...]]], list[str]]:
    """The one condition of the options, or those of a manifest; and the names of the columns of their cells."""
    from medloom.generation.requests import kept_columns, origins, read_conditions, told

    names = [column.name for column in maker.generator.columns]
    if config.data is None:
        if config.prompt is not None and not maker.generator.reads_text:
            raise UserError("--prompt: the model reads no texts; leave it out.")
        table = _table(config.table, names)
        condition = Condition(config.prompt, config.modality, config.view, mask=config.mask, table=table)
        known = told(maker, condition, "--table")
        return [(known, Origin(), tuple(known.table[name] for name in names))], names
    need = ("text",) if maker.generator.reads_text else ()
    manifest = read_conditions(config, config.data, need)
    carrying = replace(config, keep=_carried(config, manifest.clinical_columns))
    further = [name for name in kept_columns(carrying, manifest) if name not in names]
    samples, drawn_for = _draw(config, manifest.samples())
    rows: list[tuple[Condition, Origin, tuple[Any, ...]]] = []
    for sample, origin in zip(samples, origins(config.data, samples), strict=True):
        known = told(maker, sample.condition, f"{config.data}, line {sample.line}")
        carried = [known.table[name] for name in names] + [sample.condition.table[name] for name in further]
        rows.append((known, origin, tuple(carried)))
    if not config.balance:
        return rows, [*names, *further]
    balanced = [(*row[:2], (*row[2], name)) for row, name in zip(rows, drawn_for, strict=True)]
    return balanced, [*names, *further, DRAWN_FOR]


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


def _draw(config: Config, samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """The rows to make images of, and the class that each was drawn for."""
    from medloom.core.progress import say
    from medloom.data.row_sampling import draw_rows, rows_by_class

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
        UserError: no `=`, a column twice, or one that the model is not told.
    """
    cells: dict[str, str | None] = dict.fromkeys(names)
    if given is None:
        return cells
    if not names:
        raise UserError("--table: the model is told no columns of a table; say it in --prompt.")
    for name, value in read_changes("--table", given).items():
        look_up(dict.fromkeys(names), name, "--table: column that the model is told")
        cells[name] = value
    return cells
