"""`medloom edit`: what a patient's prior image may look like after an instruction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medloom.core.errors import UserError
from medloom.core.files import relative_path
from medloom.core.lookup import look_up
from medloom.core.options import setting
from medloom.core.progress import say
from medloom.core.seeds import numpy_generator
from medloom.core.tile_texts import MARK
from medloom.core.types import DAYS, Condition
from medloom.generation.difference_maps import labelled_sheet
from medloom.generation.options import GenerationOptions, name_values, refuse_without_table
from medloom.generators.sampling import AUTO, EVERYWHERE, Edit, SamplingOptions
from medloom.report_text.progression import NO_CHANGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medloom.generation.produce import LoadedModel
    from medloom.generation.requests import Request, Source

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


@dataclass(frozen=True, kw_only=True)
class Config(GenerationOptions):
    """Edit prior images with a trained editor; every image says that it is SYNTHETIC.

    Attributes:
        image: the prior image.
        text: the instruction, e.g. "The right pleural effusion has resolved.".
        days: between the prior image and the edited one, for a model that was trained on pairs with their days.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        data: manifest with prior and instruction (else Text), and with days for a model that takes them, instead of the
            image and the text.
        region: where the image may change: auto (where the instruction makes a difference to the one for no change),
            everywhere, or a label map on the prior image's grid, outside whose labels nothing changes (default: auto if
            the model learnt an instruction for no change, else everywhere).
        start: what sampling starts from: noise, prior (the prior image with noise), or inversion (the noise that leads
            to the prior image).
        strength: fraction of the way to noise at which the two last start; lower keeps more of the prior image.
        residual: of tokens: keep what the tokenizer smooths away, by adding to the prior image only what decoding
            changed.
        text_only: a baseline: the model is not given the prior images.
        guidance: how strongly the condition is followed; 1 is no guidance (default: the run's own, 1 unless a preset
            has another). For single parts of the condition add PART=SCALE, e.g. `--guidance 1 text=7.5`.
        controls: further arms of each edit: nochange (an instruction that asks for no change), nochange10 (ten of them,
            each of the one before), contradict (another row's instruction), back (the edited image and the column
            reverse_instruction); `medloom evaluate edits` reads them.
        nochange_text: the instruction of the nochange arms.
        grid: guidance_grid.png of the first edit, by scales of the text and of the prior image, e.g.
            `--grid text=1,3,7.5 prior=1,1.5`.
    """

    example: ClassVar[str] = (
        'medloom edit --model runs/edit --image prior.png --text "The right effusion has resolved." --n 4 --out edits'
    )
    common: ClassVar[tuple[str, ...]] = (
        "image", "text", "days", "modality", "view", "data", "region", "start", "strength", "controls", "n", "seed",
        "steps", "guidance", "batch", "format", "device",
    )  # fmt: skip

    image: Path | None = None
    text: str | None = None
    days: float | None = None
    modality: str | None = None
    view: str | None = None
    data: Path | None = None
    region: str | None = None
    start: str = "noise"
    strength: float = 1.0
    residual: bool = False
    text_only: bool = False
    controls: tuple[str, ...] = ()
    nochange_text: str = setting(NO_CHANGE)
    grid: tuple[str, ...] = ()

    @property
    def edit(self) -> Edit:
        """What sampling starts from, and where the image may change."""
        return Edit(self.start, self.strength, self.region, self.residual)

    @property
    def region_file(self) -> Path | None:
        """The label map of the region, where it is one."""
        return None if self.region is None or self.region in (AUTO, EVERYWHERE) else Path(self.region)


def run(config: Config) -> Path:
    """Edit; returns the path of manifest.csv.

    Raises:
        UserError: a model that is no editor, an image or instruction that it cannot take, an option out of range, or
            --out that holds something else.
    """
    from medloom.generation.edit_pictures import write_edit_differences
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
    config = _with_region(config, model)
    model = replace(model, options=config)
    _check_model(config, model, grid)
    rows, kept = _rows(config, model)
    if config.region_file is not None:
        if not config.region_file.exists():
            raise UserError(
                f"--region {config.region}: the file does not exist; give auto, everywhere, or a label map."
            )
        model.generator.reader.check_region(config.region_file, [row.condition for row in rows])
        if (priors := len({row.condition.prior_file for row in rows})) > 1:
            say(f"--region {config.region}: the same label map is the region of {priors} different prior images.")
    requests = _requests(config, model, rows)
    facts = {"spec": model.generator.spec.to_dict()}
    left_out = frozenset({PRIOR} if config.text_only else ())
    manifest = config.out / MANIFEST
    with images_folder(config, DESCRIPTION):
        # An image that is edited again has to be there first.
        for turn in range(1 + max(_turn(request) for request in requests)):
            asked = [request for request in requests if _turn(request) == turn]
            suffix = produce(model, asked, DESCRIPTION, facts, config.allow_unseen, left_out, len(requests))
        if not is_main_process():
            return manifest
        edits = [request for request in requests if request.arm == ARM]
        write_grid(model, edits, suffix)
        equal = write_edit_differences(model, [row.condition for row in rows], edits, suffix)
        if grid:
            _write_guidance_grid(config, model, requests[0], *grid)
        write_manifest(manifest, requests, suffix, [PRIOR, *kept], config.with_text)
        if config.edit.finds_region:
            say(
                "images change only where the instruction makes a difference to one for no change; elsewhere they are"
                " the prior images (--region auto)."
            )
            _say_equal(model, edits, equal)
        say(f"{len(requests)} images: {manifest}; look at {config.out / 'differences.png'}")
    return manifest


def _check(config: Config) -> None:

    config.check()
    alone = (config.image, config.text, config.days, config.modality, config.view)
    if config.data is not None and alone != (None,) * 5:
        raise UserError("--data brings its own prior images; leave --image, --text, --days, --modality and --view out.")
    if config.data is None and (config.image is None or config.text is None):
        raise UserError("say what to edit: --image and --text, or a manifest with prior and instruction with --data.")
    if config.data is None:
        refuse_without_table(config, "--image")
    if config.text_only and (config.start != "noise" or config.region is not None or config.residual):
        raise UserError("--text-only leaves the prior image out; so leave --start, --region and --residual out.")
    for name in config.controls:
        look_up(CONTROLS, name, "--controls")
    if {"nochange", "nochange10"} <= set(config.controls):
        raise UserError("--controls: nochange10 has the arm nochange too; give one of the two.")
    if config.crops:
        raise UserError("--crops is for models that were trained on patches; an editor sees whole images.")


def _check_model(config: Config, model: "LoadedModel", grid: tuple[list[float], list[float]] | None) -> None:
    """Refuse a model that is no editor, and what it was not trained for.

    Raises:
        UserError: no prior images, a baseline without them that was never trained, or guidance that it cannot follow.
    """
    generator = model.generator
    if PRIOR not in generator.parts:
        raise UserError(f"--model {config.model} takes no prior image; train an editor with `medloom train edit`.")
    if config.text_only and PRIOR in generator.rules.needs and not generator.can_guide:
        raise UserError(
            "--text-only: the model was trained with --text.dropout 0, never without a prior image; leave it out, or"
            " train with a larger dropout."
        )
    asks_for_none = any(name.startswith("nochange") for name in config.controls)
    if asks_for_none and config.nochange_text == NO_CHANGE and not generator.learnt_no_change:
        raise UserError(
            f"--controls nochange: no training image had the instruction {NO_CHANGE!r}; give the one that asks"
            " for no change as the setting nochange_text, or leave the control out."
        )
    for text, prior in product(*grid) if grid is not None else ():
        generator.check_sampling(_scaled(model, text, prior), config.edit)


def _say_equal(model: "LoadedModel", edits: "Sequence[Request]", equal: "Sequence[Request]") -> None:
    """Say which edits are their prior images although a change was asked for."""

    def asks(condition: Condition) -> bool:
        return model.generator.unchanged([condition], model.sampling) != [condition]

    if same := [request for request in equal if asks(request.condition)]:
        asked = sum(asks(request.condition) for request in edits)
        say(
            f"{len(same)} of {asked} edits that ask for a change are their prior images, {same[0].sample_id} the first:"
            " their instructions make no difference to this model."
        )


def _with_region(config: Config, model: "LoadedModel") -> Config:
    """With the region that the model takes where none is given."""
    if config.region is not None:
        return config
    found = model.generator.with_region(config.edit).finds_region and not config.text_only
    return replace(config, region=AUTO if found else EVERYWHERE)


def _scaled(model: "LoadedModel", text: float, prior: float) -> SamplingOptions:
    """The model's sampling at two scales of guidance."""
    return replace(model.sampling, guidance_by_part={"prior": prior, "text": text})


def _grid(config: Config) -> tuple[list[float], list[float]] | None:
    """The scales of text and prior image of --grid.

    Raises:
        UserError: other names than these two, or what is no number.
    """
    if not config.grid:
        return None
    given = name_values("--grid", config.grid)
    try:
        text, prior = ([float(value) for value in given[name].split(",")] for name in ("text", "prior"))
    except (KeyError, ValueError):
        raise UserError(f"--grid {' '.join(config.grid)}: give text=1,3,7.5 and prior=1,1.5.") from None
    return text, prior


def _requests(config: Config, model: "LoadedModel", rows: "Sequence[PriorRow]") -> "list[Request]":
    """The images to generate, row by row, seed by seed, the arms of a seed together."""
    from medloom.generation.produce import file_suffix
    from medloom.generation.requests import Request, check_seeds

    check_seeds(config, len(rows) * config.n)
    suffix = file_suffix(model, [Request(0, row.condition, 0, row.origin) for row in rows])
    arms = (ARM, *(arm for control in config.controls for arm in CONTROLS[control]))
    requests: list[Request] = []
    for index, row in enumerate(rows):
        for seed in range(config.seed + index * config.n, config.seed + (index + 1) * config.n):
            first = len(requests)
            for arm in arms:
                condition = _in_arm(config, rows, index, arm)
                if (before := BEFORE.get(arm)) is not None:
                    made = config.out.resolve() / f"{requests[first + arms.index(before)].sample_id}{suffix}"
                    condition = replace(condition, prior=made)
                cells = (relative_path(condition.prior_file, config.out), *row.cells)
                if config.text_only:
                    condition = replace(condition, prior=None)
                requests.append(Request(len(requests), condition, seed, row.origin, cells, arm))
    return requests


def _turn(request: "Request") -> int:
    """How many images have to be generated before it, one after another."""
    turn, arm = 0, request.arm
    while arm in BEFORE:
        turn, arm = turn + 1, BEFORE[arm]
    return turn


def _in_arm(config: Config, rows: "Sequence[PriorRow]", index: int, arm: str) -> Condition:
    """The condition of a row in an arm.

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
    texts = {other.condition.text for other in rows if other.condition.text} - {row.condition.text}
    if not texts:
        raise UserError("--controls contradict: there is one instruction only; give a manifest with several.")
    # Another change, where there is one: to ask for none contradicts little.
    others = sorted(texts - {config.nochange_text, NO_CHANGE} or texts)
    chosen = numpy_generator(config.seed, "contradict", index).integers(len(others))
    return replace(row.condition, text=others[int(chosen)])


@dataclass(frozen=True)
class PriorRow:
    """One prior image and its instruction.

    Attributes:
        condition: both.
        origin: where they come from.
        where: the file and line, or the option, for errors.
        cells: that are carried along.
        reverse: the instruction that undoes it, or None.
    """

    condition: Condition
    origin: "Source"
    where: str
    cells: tuple[object, ...] = ()
    reverse: str | None = None


def _rows(config: Config, model: "LoadedModel") -> tuple[list[PriorRow], list[str]]:
    """What to edit: the one image, or the rows of the manifest; and the names of their cells."""
    from medloom.generation.requests import Source, answerable, kept_columns, origins, read_conditions

    names = [column.name for column in model.generator.columns]
    if config.data is None:
        given: dict[str, float | str | None] = dict.fromkeys(names)
        if config.days is not None:
            model.generator.check_days(f"--days {config.days:g}")
            given[DAYS] = config.days
        image = None if config.image is None else config.image.resolve()
        condition = Condition(config.text or None, config.modality, config.view, prior=image, table=given)
        return [PriorRow(_ready(model, condition, "--image"), Source(), "--image", tuple(given.values()))], names
    manifest = read_conditions(config, config.data, need=(PRIOR,))
    further = [name for name in kept_columns(config.keep, manifest) if name not in names]
    samples = manifest.samples()
    samples = answerable(config.data, samples, model.generator, config.skip_bad, config.allow_unseen)
    rows = []
    for sample, origin in zip(samples, origins(config.data, samples), strict=True):
        where, table = f"{config.data}, line {sample.line}", sample.condition.table
        condition = _ready(model, model.generator.row_condition(sample.condition, where), where)
        reverse = table.get(REVERSE)
        cells = (*condition.table.values(), *(table[name] for name in further))
        rows.append(PriorRow(condition, origin, where, cells, str(reverse or "") or None))
    return rows, [*names, *further]


def _ready(model: "LoadedModel", condition: Condition, where: str) -> Condition:
    """A condition with a prior image, of a modality that the model knows.

    Raises:
        UserError: it is not.
    """
    if condition.prior is None:
        raise UserError(f"{where}: no prior image.")
    model.generator.check_conditions([condition])
    return condition


def _write_guidance_grid(
    config: Config, model: "LoadedModel", request: "Request", texts: Sequence[float], priors: Sequence[float]
) -> None:
    """The first edit at each pair of scales, the text's from left to right, the prior image's from top to bottom."""
    from medloom.generation.grids import windows

    def scaled(prior: float, text: float) -> "NDArray[np.float32]":
        edited = model.generator.sample([request.condition], [request.seed], _scaled(model, text, prior), config.edit)
        images: NDArray[np.float32] = edited[0].numpy()
        return images

    images = {
        (f"guidance of the prior image {prior:g}", f"guidance of the text {text:g}"): scaled(prior, text)
        for prior in priors
        for text in texts
    }
    heading = f"{MARK}: the first edit by scales of guidance"
    shown = labelled_sheet(images, heading, [windows(model, [request]), f"Seed {request.seed}."])
    shown.save(config.out / "guidance_grid.png")
