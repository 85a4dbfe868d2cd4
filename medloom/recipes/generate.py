"""`medloom generate`: images from a prompt, or from a manifest of conditions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.types import Condition
from medloom.recipes.making import Job, MakingOptions, Origin

DESCRIPTION = "generation.json"


@dataclass(frozen=True, kw_only=True)
class Config(MakingOptions):
    """Generate images with a trained model; every image says that it is SYNTHETIC.

    Attributes:
        prompt: what the images should show.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        mask: label map that the images should follow, for a model trained with masks.
        data: manifest of conditions, in place of the prompt: images for each of its rows.
    """

    prompt: str | None = None
    modality: str | None = None
    view: str | None = None
    mask: Path | None = None
    data: Path | None = None


def run(config: Config) -> Path:
    """Generate; returns the path of manifest.csv.

    Raises:
        UserError: a condition that the model cannot follow, an option out of range, or --out that holds something else.
    """
    from medloom.core.progress import say
    from medloom.recipes.making import is_main_process, load_maker, make_images, write_grid, write_making_manifest

    _check(config)
    maker = load_maker(config)
    jobs, kept = _jobs(config)
    suffix = make_images(maker, jobs, DESCRIPTION)
    manifest = config.out / "manifest.csv"
    if is_main_process():
        write_making_manifest(manifest, jobs, suffix, kept)
        write_grid(config.out, maker.generator.spec, jobs, suffix)
        say(f"{len(jobs)} images: {manifest}; look at {config.out / 'grid.png'}")
    return manifest


def _check(config: Config) -> None:
    from medloom.recipes.making import check_making

    check_making(config)
    if config.data is not None and (config.prompt, config.modality, config.view, config.mask) != (None,) * 4:
        raise UserError("--data brings its own conditions; leave --prompt, --modality, --view and --mask out.")
    if config.data is None and config.prompt is None and config.modality is None and config.mask is None:
        raise UserError(
            "say what to generate: --prompt, --modality or --mask, or a manifest of conditions with --data."
        )


def _jobs(config: Config) -> tuple[list[Job], list[str]]:
    """The images to make, in order, and the names of the columns that are carried along."""
    from medloom.recipes.making import check_seeds

    rows, kept = _conditions(config)
    check_seeds(config, len(rows) * config.n)
    jobs = [
        Job(index * config.n + k, condition, config.seed + index * config.n + k, origin, cells)
        for index, (condition, origin, cells) in enumerate(rows)
        for k in range(config.n)
    ]
    return jobs, kept


def _conditions(config: Config) -> tuple[list[tuple[Condition, Origin, tuple[Any, ...]]], list[str]]:
    """The one condition of the options, or those of a manifest; and the names of the columns of their cells."""
    from medloom.recipes.making import kept_columns, origins, read_conditions

    if config.data is None:
        return [(Condition(config.prompt, config.modality, config.view, mask=config.mask), Origin(), ())], []
    manifest = read_conditions(config, config.data)
    kept, samples = kept_columns(config, manifest), manifest.samples()
    rows = [
        (sample.condition, origin, tuple(sample.condition.table[name] for name in kept))
        for sample, origin in zip(samples, origins(config.data, samples), strict=True)
    ]
    return rows, kept
