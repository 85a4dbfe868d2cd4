"""`medloom edit`: a patient's earlier image as an instruction says that it became."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.core.types import Condition
from medloom.generation.requests import Job, Maker, MakingOptions, Origin

if TYPE_CHECKING:
    from medloom.generation.difference_maps import DifferenceRow

DESCRIPTION = "edits.json"
ARM = "edit"
PRIOR, REVERSE = "prior", "reverse_instruction"
# Control -> its arms; an arm of BEFORE edits the image of another one.
CONTROLS: Mapping[str, tuple[str, ...]] = {
    "nochange": ("nochange",),
    "nochange10": tuple("nochange" if turn == 0 else f"nochange{turn + 1}" for turn in range(10)),
    "contradict": ("contradict",),
    "back": ("back",),
}
BEFORE: Mapping[str, str] = {
    "back": ARM,
    "nochange2": "nochange",
    **{f"nochange{turn + 1}": f"nochange{turn}" for turn in range(2, 10)},
}
SHOWN_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Config(MakingOptions):
    """Edit earlier images with a trained editor; every image says that it is SYNTHETIC.

    Attributes:
        image: the earlier image.
        text: the instruction, e.g. "The right pleural effusion has resolved."; an empty one asks for no change.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        data: manifest with prior and instruction (else Text), in place of the image and the text.
        region: label map outside of which nothing may change, on the earlier image's grid.
        start: what sampling starts from: noise, prior (the earlier image with noise), or inversion (the noise that
            leads to the earlier image).
        strength: share of the way to noise at which the two last start; lower keeps more of the earlier image.
        residual: of tokens: the edit is the earlier image and what decoding changed of its tokens, so that what the
            tokenizer smooths away stays; else it is the decoded image.
        text_only: a baseline: the model is not given the earlier images.
        controls: further arms of each edit: nochange (an instruction that asks for no change), nochange10 (ten of them,
            each of the one before), contradict (another row's instruction), back (the edited image and the column
            reverse_instruction); `medloom evaluate edits` reads them.
        nochange_text: the instruction of the nochange arms.
        grid_text: scales of the text for guidance_grid.png, beside those of --grid-prior.
        grid_prior: scales of the earlier image for guidance_grid.png.
    """

    image: Path | None = None
    text: str | None = None
    modality: str | None = None
    view: str | None = None
    data: Path | None = None
    region: Path | None = None
    start: str = "noise"
    strength: float = 1.0
    residual: bool = False
    text_only: bool = False
    controls: tuple[str, ...] = ()
    nochange_text: str = "No change."
    grid_text: tuple[float, ...] = ()
    grid_prior: tuple[float, ...] = ()


def run(config: Config) -> Path:
    """Edit; returns the path of manifest.csv.

    Raises:
        UserError: a model that is no editor, an image or instruction that it cannot take, an option out of range, or
            --out that holds something else.
    """
    from medloom.core.progress import say
    from medloom.generation.requests import is_main_process, load_maker, make_images, write_grid, write_making_manifest

    _check(config)
    maker = load_maker(config)
    if PRIOR not in maker.generator.parts:
        raise UserError(f"--model {config.model} takes no earlier image; train an editor with `medloom train edit`.")
    rows, kept = _rows(config, maker)
    jobs = _jobs(config, maker, rows)
    _say_cut(maker, jobs)
    facts = {"spec": maker.generator.spec.to_dict()}
    # An image that is edited again has to be there first.
    for turn in range(1 + max(_turn(job) for job in jobs)):
        suffix = make_images(maker, [job for job in jobs if _turn(job) == turn], DESCRIPTION, facts)
    manifest = config.out / "manifest.csv"
    if is_main_process():
        write_making_manifest(manifest, jobs, suffix, [PRIOR, *kept])
        edits = [job for job in jobs if job.arm == ARM]
        write_grid(config.out, maker.generator.spec, edits, suffix)
        _write_differences(config, maker, edits, suffix)
        if config.grid_text:
            _write_guidance_grid(config, maker, jobs[0])
        say(f"{len(jobs)} images: {manifest}; look at {config.out / 'differences.png'}")
    return manifest


def _check(config: Config) -> None:
    from medloom.core.lookup import look_up
    from medloom.generation.requests import check_making

    check_making(config)
    alone = (config.image, config.text, config.modality, config.view)
    if config.data is not None and alone != (None,) * 4:
        raise UserError("--data brings its own earlier images; leave --image, --text, --modality and --view out.")
    if config.data is None and (config.image is None or config.text is None):
        raise UserError("say what to edit: --image and --text, or a manifest with prior and instruction with --data.")
    if bool(config.grid_text) != bool(config.grid_prior):
        raise UserError("--grid-text and --grid-prior go together: a picture for each pair of scales.")
    if config.text_only and (config.start != "noise" or config.region is not None or config.residual):
        raise UserError("--text-only leaves the earlier image out; so leave --start, --region and --residual out.")
    for name in config.controls:
        look_up(CONTROLS, name, "--controls")
    if {"nochange", "nochange10"} <= set(config.controls):
        raise UserError("--controls nochange10 has nochange in it; leave that out.")
    if config.whole or config.crops:
        raise UserError("--whole and --crops are of models that were trained on patches; an editor sees whole images.")


def _jobs(config: Config, maker: Maker, rows: "Sequence[Row]") -> list[Job]:
    """The images to make, row by row, seed by seed, the arms of a seed together."""
    from medloom.generation.requests import check_seeds, suffix_of

    check_seeds(config, len(rows) * config.n)
    suffix = suffix_of(config.format, maker.generator.spec, [Job(0, row.condition, 0, row.origin) for row in rows])
    arms = (ARM, *(arm for control in config.controls for arm in CONTROLS[control]))
    jobs: list[Job] = []
    for index, row in enumerate(rows):
        for seed in range(config.seed + index * config.n, config.seed + (index + 1) * config.n):
            first = len(jobs)
            for arm in arms:
                condition = _in_arm(config, rows, index, arm)
                if (before := BEFORE.get(arm)) is not None:
                    made = config.out.resolve() / f"{jobs[first + arms.index(before)].sample_id}{suffix}"
                    condition = replace(condition, prior=made)
                cells = (_beside(config, condition.prior), *row.cells)
                jobs.append(Job(len(jobs), condition, seed, row.origin, cells, arm))
    return jobs


def _turn(job: Job) -> int:
    """How many images have to be made before it, one after another."""
    turn, arm = 0, job.arm
    while arm in BEFORE:
        turn, arm = turn + 1, BEFORE[arm]
    return turn


def _in_arm(config: Config, rows: "Sequence[Row]", index: int, arm: str) -> Condition:
    """What a row's image is told in an arm.

    Raises:
        UserError: an arm that the rows do not allow.
    """
    row = rows[index]
    if arm == ARM:
        return row.condition
    if arm.startswith("nochange"):
        return replace(row.condition, text=config.nochange_text or None)
    if arm == "back":
        if not row.reverse:
            raise UserError(f"--controls back: {row.where} has no reverse_instruction.")
        return replace(row.condition, text=row.reverse)
    others = sorted({other.condition.text for other in rows if other.condition.text} - {row.condition.text})
    if not others:
        raise UserError("--controls contradict: there is one instruction only; give a manifest with several.")
    chosen = numpy_generator(config.seed, "contradict", index).integers(len(others))
    return replace(row.condition, text=others[int(chosen)])


def _beside(config: Config, path: Path | None) -> str | None:
    """A path relative to the images' manifest."""
    return Path(os.path.relpath(path, config.out.resolve())).as_posix() if path else None


@dataclass(frozen=True)
class Row:
    """One earlier image and its instruction.

    Attributes:
        condition: both.
        origin: where they come from.
        where: the file and line, or the option, for errors.
        cells: that are carried along.
        reverse: the instruction that undoes it, or None.
    """

    condition: Condition
    origin: Origin
    where: str
    cells: tuple[Any, ...] = ()
    reverse: str | None = None


def _rows(config: Config, maker: Maker) -> tuple[list[Row], list[str]]:
    """What to edit: the one image, or the rows of the manifest; and the names of their cells."""
    from medloom.generation.requests import kept_columns, origins, read_conditions, told

    if config.data is None:
        unknown = dict.fromkeys(column.name for column in maker.generator.columns)
        image = None if config.image is None else config.image.resolve()
        condition = Condition(config.text or None, config.modality, config.view, prior=image, table=unknown)
        return [Row(_ready(maker, condition, "--image"), Origin(), "--image")], []
    manifest = read_conditions(config, config.data, need=(PRIOR,))
    kept, samples = kept_columns(config, manifest), manifest.samples()
    rows = []
    for sample, origin in zip(samples, origins(config.data, samples), strict=True):
        where, table = f"{config.data}, line {sample.line}", sample.condition.table
        condition = _ready(maker, told(maker, sample.condition, where), where)
        reverse = table.get(REVERSE)
        rows.append(Row(condition, origin, where, tuple(table[name] for name in kept), str(reverse or "") or None))
    return rows, kept


def _ready(maker: Maker, condition: Condition, where: str) -> Condition:
    """A condition whose earlier image can be read and brought to the model's space.

    Raises:
        UserError: it cannot, or the modality is not one of the model's.
    """
    from medloom.data.dataset import read_sample
    from medloom.generation.drawing import modality_of

    if condition.prior is None:
        raise UserError(f"{where}: no earlier image.")
    maker.generator.check_conditions([condition])
    spec = maker.generator.spec
    read_sample(condition.prior, spec, modality_of(condition, spec), maker.options.unit)
    return condition


def _say_cut(maker: Maker, jobs: Sequence[Job]) -> None:
    """Say which instructions are longer than the model reads, and by how much."""
    from medloom.core.progress import say
    from medloom.generators.prompt import prompt_of

    encoder = maker.generator.model.text
    texts = {prompt_of(job.condition, maker.generator.modality_as, maker.generator.parts) for job in jobs}
    over = [count - encoder.max_tokens for count in encoder.count_tokens(sorted(texts)) if count > encoder.max_tokens]
    if over:
        say(
            f"{len(over)} of {len(texts)} instructions are longer than the {encoder.max_tokens} tokens that the model"
            f" reads; up to {max(over)} tokens are cut."
        )


def _write_differences(config: Config, maker: Maker, jobs: Sequence[Job], suffix: str) -> None:
    """Earlier image, edits and their differences, of the first rows."""
    from medloom.core.files import atomic_file
    from medloom.generation.difference_maps import draw_differences

    starts = range(0, min(len(jobs), SHOWN_ROWS * config.n), config.n)
    rows = [_difference_row(maker, jobs[start : start + config.n], suffix) for start in starts]
    names = ("earlier image", "edited less\nearlier image")
    with atomic_file(config.out / "differences.png") as temporary:
        temporary.write_bytes(draw_differences(rows, "SYNTHETIC: edits beside the earlier image", names=names))


def _difference_row(maker: Maker, jobs: Sequence[Job], suffix: str) -> "DifferenceRow":
    from medloom.generation.difference_maps import DifferenceRow
    from medloom.generation.drawing import modality_of
    from medloom.generation.requests import previews

    spec, condition = maker.generator.spec, jobs[0].condition
    modality = modality_of(condition, spec)
    made = previews(maker.options.out, spec, jobs, suffix)
    edits = {f"edited, variant {number}": image for number, image in enumerate(made, 1)}
    intensity, label = spec.of(modality), f"{modality}, image {jobs[0].sample_id}"
    return DifferenceRow(label, intensity.output_unit, intensity.span, _prior(maker, condition), edits)


def _prior(maker: Maker, condition: Condition) -> Any:
    """The earlier image as the model sees it."""
    from medloom.data.dataset import read_sample
    from medloom.generation.drawing import modality_of

    spec = maker.generator.spec
    if condition.prior is None:
        raise ValueError("an edit without an earlier image, which was checked for")
    return read_sample(condition.prior, spec, modality_of(condition, spec), maker.options.unit).array


def _write_guidance_grid(config: Config, maker: Maker, job: Job) -> None:
    """The first edit at each pair of scales, the text's from left to right, the earlier image's from top to bottom."""
    from medloom.core.files import atomic_file
    from medloom.generation.difference_maps import draw_table

    images = {
        (prior, text): _scaled(maker, prior, text, job) for prior in config.grid_prior for text in config.grid_text
    }
    with atomic_file(config.out / "guidance_grid.png") as temporary:
        temporary.write_bytes(draw_table(images, "earlier image", "text", "SYNTHETIC: scales of guidance"))


def _scaled(maker: Maker, prior: float, text: float, job: Job) -> Any:
    """An edit with other scales, `(C, *size)` in [-1, 1]."""
    options = replace(maker.options, guidance_prior=prior, guidance_text=text)
    return replace(maker, options=options).drawing.arrays([job.condition], [job.seed])[0]
