"""`medloom whatif`: the same images with some columns of the clinical table changed, and the noise held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medloom.core.errors import UserError
from medloom.core.files import hash_file, relative_path, write_text
from medloom.core.limits import limited
from medloom.core.lookup import look_up
from medloom.core.options import repeated
from medloom.core.progress import say
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition, Sample
from medloom.data.columns import ALIASES
from medloom.data.manifest import list_problems, template_of, template_path
from medloom.data.prompts import Cell, Template, find_template, read_rows, read_template
from medloom.data.prompts.arms import (
    ESTIMANDS,
    TOTAL,
    Arm,
    ArmRow,
    arm_row,
    effect_of,
    factual_arm,
    read_arms,
    refuse_held,
)
from medloom.data.tables import read_table
from medloom.generation.options import GenerationOptions
from medloom.generators.generated_images import HEADER

if TYPE_CHECKING:
    from medloom.generation.produce import LoadedModel
    from medloom.generation.requests import Request, Source

DESCRIPTION = "whatif.json"
MASK, HELD = "mask", "held"


@dataclass(frozen=True, kw_only=True)
class Config(GenerationOptions):
    """Change columns of the condition, hold the seed, and see what becomes of the images.

    Attributes:
        data: manifest of the factual conditions, with the columns of the template.
        set: one arm, e.g. smoking=never, or several columns at once, age=24,sex=male; given again for each arm.
        template: YAML file or ready name; by default the one next to the manifest.
        rows: the first so many rows of the manifest; 0 is all.
        n: images a row and arm.
        seed: of the first image; the k-th of row r has seed + r n + k in every arm, and so the same noise.
        allow_unseen: allow values that training has not seen; the result is an extrapolation.
        guidance: how strongly the condition is followed; 1 is no guidance, and more exaggerates effects (default: 1; a
            GAN has none). For single parts of the condition add PART=SCALE.
        estimand: direct holds what follows from the changed columns at its factual value and says so; total refuses to.
    """

    example: ClassVar[str] = (
        "medloom whatif --model runs/mm --data test.csv --set smoking=never --set smoking=current,pack_years=40 --out w"
    )
    common: ClassVar[tuple[str, ...]] = (
        "set", "template", "rows", "n", "seed", "estimand", "allow_unseen", "steps", "guidance", "batch", "format",
        "device",
    )  # fmt: skip

    estimates: ClassVar[bool] = True

    data: Path
    set: tuple[str, ...] = repeated()
    template: str | None = None
    rows: int = limited(32, at_least=0)
    n: int = limited(2, at_least=1)
    seed: int = 0
    allow_unseen: bool = False
    estimand: str = "direct"


@dataclass(frozen=True)
class PatientRow:
    """One row of the manifest: its sample, its template's columns, and cells that are carried along."""

    sample: Sample
    origin: "Source"
    cells: Mapping[str, Cell]
    kept: tuple[object, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be generated.

    Attributes:
        template: turns cells into text.
        rows: to generate images for.
        arms: the factual one first.
        changed: arm -> each of the rows in it.
        kept: names of the columns that are carried along.
    """

    template: Template
    rows: Sequence[PatientRow]
    arms: Sequence[Arm]
    changed: Mapping[str, Sequence[ArmRow]]
    kept: Sequence[str]

    @property
    def masked(self) -> bool:
        """Whether any row has a mask."""
        return any(row.sample.condition.mask for row in self.rows)


def run(config: Config) -> Path:
    """Make every arm; returns the path of manifest.csv.

    Raises:
        UserError: a change that the template does not know or that contradicts a row, an estimand that the template
            does not allow, or as `medloom generate`.
    """
    from medloom.generation.arm_pictures import write_arm_differences
    from medloom.generation.grids import arm_titles, write_arm_grid
    from medloom.generation.produce import is_main_process, load_model, produce, write_manifest

    _check(config)
    file = _template_file(config)
    plan = _plan(config, read_template(file))
    model = load_model(config)
    if not config.allow_unseen:
        _refuse_unseen(plan, model)
    requests = _requests(config, plan, model)
    effects = _effects(config, plan, model)
    facts = {"data": hash_file(config.data), "template": hash_file(file), "rows": len(plan.rows), "arms": effects}
    facts["spec"] = model.generator.spec.to_dict()
    facts["classes"] = model.generator.masks.to_dict()["names"]
    suffix = produce(model, requests, DESCRIPTION, facts)
    manifest = config.out / "manifest.csv"
    if is_main_process():
        write_manifest(manifest, requests, suffix, _columns(plan))
        write_text(template_path(manifest), file.read_text(encoding="utf-8"))
        write_arm_grid(model, requests, suffix, arm_titles(_notes(plan)))
        write_arm_differences(model, requests, suffix, _notes(plan))
        for name, effect in effects.items():
            say(f"{name}: {effect['estimand']}")
        say(f"{len(requests)} images: {manifest}; look at {config.out / 'differences.png'}")
    return manifest


def _check(config: Config) -> None:

    config.check()
    look_up({name: name for name in ESTIMANDS}, config.estimand, "--estimand")
    if config.crops:
        raise UserError("--crops: a what-if generates whole images, in which regions can be measured; leave it out.")
    if not config.set:
        raise UserError("say what to change with --set COLUMN=VALUE, once for each arm.")


def _template_file(config: Config) -> Path:

    if config.template is not None:
        return find_template(config.template)
    beside = template_of(config.data)
    if beside is None:
        names = f"{template_path(config.data).name} or template.yaml"
        raise UserError(
            f"{config.data} has no template next to it ({names}); name the one of its texts with --template."
        )
    return beside


def _plan(config: Config, template: Template) -> Plan:
    """The conditions, row by row.

    Raises:
        UserError: see `read_arms`, `_rows` and `refuse_held`; or a change that contradicts a row.
    """
    arms = [factual_arm(), *read_arms(config.set, template)]
    rows, kept = _rows(config, template)
    changed = {arm.name: [_changed(config, template, row, arm) for row in rows] for arm in arms}
    if config.estimand == TOTAL:
        refuse_held(arms, changed)
    return Plan(template, rows, arms, changed, kept)


def _changed(config: Config, template: Template, row: PatientRow, arm: Arm) -> ArmRow:
    try:
        return arm_row(template, row.cells, arm)
    except UserError as error:
        raise UserError(f"--set {arm.name}: {config.data}, line {row.sample.line}: {error}") from error


def _rows(config: Config, template: Template) -> tuple[list[PatientRow], list[str]]:
    """The rows to make images for, and the names of the columns that are carried along.

    Raises:
        UserError: a row that the template cannot tell (unless such are skipped), or a template column that is a column
            of the images' manifest.
    """
    from medloom.generation.requests import kept_columns, origins, read_conditions

    if taken := [name for name in template.columns if name.casefold() in {*HEADER, *ALIASES, HELD}]:
        raise UserError(f"the template tells {taken[0]!r}, a column of the images' manifest; use one without it.")
    manifest = read_conditions(config, config.data, need=())
    kept = [name for name in kept_columns(config.keep, manifest) if name not in template.columns]
    samples = manifest.samples()[: config.rows or None]
    cells, problems = read_rows(read_table(config.data), template, str(config.data))
    lines = {sample.line for sample in samples}
    bad = [problem for problem in problems if problem.line in lines]
    if bad and (not config.skip_bad or len(bad) == len(samples)):
        raise UserError(list_problems(str(config.data), bad, len(samples)))
    if bad:
        say(f"{config.data}: {len(bad)} rows without a text were left out (--skip-bad).")
    rows = [
        PatientRow(sample, origin, cells[sample.line], tuple(sample.condition.table[name] for name in kept))
        for sample, origin in zip(samples, origins(config.data, samples), strict=True)
        if sample.line in cells
    ]
    if other := sum(row.sample.condition.text not in (None, template.render(row.cells)) for row in rows):
        say(
            f"{other} of {len(rows)} rows have another text in the manifest than the template gives, which is what the"
            " images are made from: was the model trained on this template's texts?"
        )
    return rows, kept


def _refuse_unseen(plan: Plan, model: "LoadedModel") -> None:
    """Refuse to set a column to what no training row had.

    Raises:
        UserError: lists what training has seen.
    """

    seen = {entry["name"]: TableColumn.from_dict(entry) for entry in model.run.description()["columns"]}
    for arm in plan.arms:
        for name, value in arm.values.items():
            if name in seen and not seen[name].has(value):
                raise UserError(
                    f"--set {arm.name}: training has not seen {name}={arm.changes[name]}; seen: {seen[name].seen}. Set"
                    " another value, or go beyond with --allow-unseen."
                )


def _requests(config: Config, plan: Plan, model: "LoadedModel") -> "list[Request]":
    """The images to generate: row by row, seed by seed, the arms of a seed together."""
    from medloom.generation.requests import check_seeds

    check_seeds(config, len(plan.rows) * config.n)
    requests: list[Request] = []
    for index in range(len(plan.rows)):
        for k in range(config.n):
            seed = config.seed + index * config.n + k
            for arm in plan.arms:
                requests.append(_request(config, plan, model, len(requests), index, seed, arm))
    return requests


def _request(
    config: Config, plan: Plan, model: "LoadedModel", number: int, index: int, seed: int, arm: Arm
) -> "Request":
    from medloom.generation.requests import Request

    row, changed = plan.rows[index], plan.changed[arm.name][index]
    known, text = row.sample.condition, plan.template.render(changed.cells)
    if not text:
        raise UserError(f"{config.data}, line {row.sample.line}: the template says nothing in the arm {arm.name}.")
    mask = relative_path(known.mask_file, config.out)
    cells = {name: column.capped(changed.cells[name]) for name, column in plan.template.columns.items()}
    whole = Condition(text, known.modality, known.view, mask=known.mask, table={**known.table, **cells})
    condition = model.generator.row_condition(whole, f"--set {arm.name}: {config.data}, line {row.sample.line}")
    return Request(
        number,
        condition,
        seed,
        row.origin,
        (*([mask] if plan.masked else []), *cells.values(), *row.kept, ",".join(changed.held) or None),
        arm.name,
        ",".join(arm.changes) or None,
        ",".join(arm.changes.values()) or None,
    )


def _columns(plan: Plan) -> list[str]:
    """Names of the cells of `_request`."""
    return [*([MASK] if plan.masked else []), *plan.template.columns, *plan.kept, HELD]


def _effects(config: Config, plan: Plan, model: "LoadedModel") -> dict[str, dict[str, Any]]:
    """What the differences of each arm estimate.

    Raises:
        UserError: the model takes neither text nor a table.
    """
    if not model.generator.takes_text:
        raise UserError(
            f"--model {config.model} takes neither text nor table, through which a what-if changes its condition; name"
            " another."
        )
    masked = plan.masked and MASK in model.generator.parts
    effects = {
        arm.name: effect_of(config.estimand, plan.template, arm, plan.changed[arm.name], masked)
        for arm in plan.arms[1:]
    }
    sampling = model.sampling
    asked = (sampling.guidance, *sampling.guidance_by_part.values())
    if scales := sorted({scale for scale in asked if scale is not None and scale != 1}):
        guided = f"; guidance {' '.join(f'{scale:g}' for scale in scales)} exaggerates it"
        effects = {name: {**effect, "estimand": f"{effect['estimand']}{guided}"} for name, effect in effects.items()}
    return effects


def _notes(plan: Plan) -> dict[str, str]:
    """Arm -> what is added to its title: a change of an outcome is an association."""
    return {arm.name: " (association)" if arm.outcomes(plan.template) else "" for arm in plan.arms[1:]}
