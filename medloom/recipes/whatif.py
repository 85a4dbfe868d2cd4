"""`medloom whatif`: the same images with some columns of the clinical table changed, and the noise held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medloom.core.errors import UserError
from medloom.core.files import relative_path, write_text
from medloom.core.limits import limited
from medloom.core.lookup import look_up
from medloom.core.options import repeated
from medloom.core.progress import say
from medloom.data.columns import ALIASES
from medloom.data.manifest import list_problems, template_of, template_path
from medloom.data.prompts import Column, Template, find_template, read_rows, read_template
from medloom.data.prompts.arms import (
    ESTIMANDS,
    TOTAL,
    Arm,
    ArmRow,
    arm_row,
    effect_of,
    factual_arm,
    read_arms,
    read_changes,
    refuse_held,
)
from medloom.data.prompts.support import is_extrapolation
from medloom.data.tables import Table, read_table
from medloom.generation.arm_plan import PatientRow, Plan, title_notes, words
from medloom.generation.options import GenerationOptions
from medloom.generators.generated_images import HEADER, TEXT
from medloom.generators.training_record import COUNTED, has_part

if TYPE_CHECKING:
    from medloom.generation.produce import LoadedModel
    from medloom.generation.requests import Request

DESCRIPTION = "whatif.json"
MASK, VIEW, HELD, NEAR = "mask", "view", "held", "support"


@dataclass(frozen=True, kw_only=True)
class Config(GenerationOptions):
    """Change columns of the condition, hold the seed, and see what becomes of the images.

    Attributes:
        data: manifest of the factual conditions, with the columns of the template and of the model's table.
        set: one arm, e.g. smoking=never, or several columns at once, age=24,sex=male; given again for each arm.
        template: YAML file or ready name; by default the one next to the manifest. Without one the columns of the
            model's table can be set, and the texts are held.
        rows: the first so many rows of the manifest; 0 is all.
        n: images a row and arm.
        seed: of the first image; the k-th of row r has seed + r n + k in every arm, and so the same noise.
        allow_unseen: allow columns and values that training has not seen; the result is an extrapolation.
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
    estimand: str = "direct"


def run(config: Config) -> Path:
    """Make every arm; returns the path of manifest.csv.

    Raises:
        UserError: a change that the template does not know or that contradicts a row, an estimand that the template
            does not allow, or as `medloom generate`.
    """
    from medloom.generation.arm_checks import patients_near, refuse_unnoticed, say_support, unseen_changes
    from medloom.generation.arm_pictures import write_arm_differences
    from medloom.generation.grids import arm_titles, write_arm_grid
    from medloom.generation.kept_images import MANIFEST
    from medloom.generation.produce import (
        images_folder,
        is_main_process,
        load_model,
        produce,
        write_manifest,
    )

    _check(config)
    model = load_model(config)
    if not (model.generator.reads_text or model.generator.columns):
        raise UserError(
            f"--model {config.model} takes neither text nor table, through which a what-if changes its condition; name"
            " another."
        )
    file = _template_file(config, model)
    table = read_table(config.data)
    if config.estimand == TOTAL and file is None:
        raise UserError(
            "--estimand total: without a template nothing says what follows from a change; name one whose columns have"
            " parents with --template, or leave the option out."
        )
    template = _template(config, file, table, model)
    plan = _plan(config, template, table, "mask" in model.generator.parts, file is None)
    unseen = unseen_changes(plan, model, config.allow_unseen)
    refuse_unnoticed(plan, model, config.data)
    near = patients_near(plan, model)
    requests = _requests(config, plan, model, near)
    effects = _effects(config, plan, model, unseen, near)
    facts = {"rows": len(plan.rows), "arms": effects, "spec": model.generator.spec.to_dict()}
    facts["classes"] = model.generator.masks.to_dict()["names"]
    # What is set was looked at above; the rows' own values are the patients'.
    manifest = config.out / MANIFEST
    with images_folder(config, DESCRIPTION):
        suffix = produce(model, requests, DESCRIPTION, facts, allow_unseen=True)
        if not is_main_process():
            return manifest
        if file is not None:
            write_text(template_path(manifest), file.read_text(encoding="utf-8"))
        notes = title_notes(plan, unseen)
        write_arm_grid(model, requests, suffix, arm_titles(notes))
        write_arm_differences(model, requests, suffix, notes)
        write_manifest(manifest, requests, suffix, _columns(plan), config.with_text)
        for name, effect in effects.items():
            say(f"{name}: {effect['estimand']}")
        say_support(plan, effects, near is not None)
        say(f"{len(requests)} images: {manifest}; look at {config.out / 'differences.png'}")
    return manifest


def _check(config: Config) -> None:

    config.check()
    look_up({name: name for name in ESTIMANDS}, config.estimand, "--estimand")
    if config.crops:
        raise UserError("--crops: a what-if generates whole images, in which regions can be measured; leave it out.")
    if not config.set:
        raise UserError("say what to change with --set COLUMN=VALUE, once for each arm.")


def _template_file(config: Config, model: "LoadedModel") -> Path | None:
    """The template's file; None where there is none and the model has a table.

    Raises:
        UserError: there is neither a template nor a table.
    """
    if config.template is not None:
        return find_template(config.template)
    beside = template_of(config.data)
    if beside is None and not model.generator.columns:
        names = f"{template_path(config.data).name} or template.yaml"
        raise UserError(
            f"{config.data} has no template next to it ({names}), and the model no table whose columns could be set;"
            " name the template of its texts with --template."
        )
    return beside


def _template(config: Config, file: Path | None, table: Table, model: "LoadedModel") -> Template:
    """The template, with the columns of the model's table that it leaves out, which are not worded.

    Raises:
        UserError: the manifest lacks a column of the model's table; or no template, and another column or category is
            set.
    """
    own = {column.name: column for column in model.generator.columns}
    if lacking := [name for name in own if name not in table.header]:
        raise UserError(
            f"{config.data}: no column {lacking[0]!r}, which conditions the model; add it, with empty cells where"
            " unknown."
        )
    for given in config.set if file is None else ():
        for name, value in read_changes("--set", given).items():
            look_up(own, name, "column of the model's table in --set").encode(value)
    template = Template({}) if file is None else read_template(file)
    columns = dict(template.columns)
    for name in [name for name in own if name not in columns]:
        values, sentinels = dict.fromkeys(own[name].categories, "") or None, frozenset(own[name].sentinels)
        columns[name] = Column(name, say="", values=values, cap=own[name].cap, sentinels=sentinels)
    return replace(template, columns=columns)


def _plan(config: Config, template: Template, table: Table, takes_masks: bool, unrelated: bool) -> Plan:
    """The conditions, row by row.

    Raises:
        UserError: see `read_arms`, `_rows` and `refuse_held`; a change that contradicts a row; or an arm in which all
            rows break a bound.
    """
    arms = [factual_arm(), *read_arms(config.set, template)]
    rows, kept = _rows(config, template, table)
    changed = {arm.name: [_changed(config, template, row, arm) for row in rows] for arm in arms}
    plan = Plan(template, rows, arms, changed, kept, takes_masks, unrelated)
    for arm in arms:
        if rows and not plan.rows_in(arm):
            bounds = dict.fromkeys(text for row in changed[arm.name] for text in row.broken)
            raise UserError(
                f"--set {arm.name}: all {len(rows)} rows break bounds of the template ({'; '.join(bounds)}); set other"
                " values, or give other rows."
            )
    if config.estimand == TOTAL:
        refuse_held(arms, {arm.name: plan.rows_in(arm) for arm in arms})
    return plan


def _changed(config: Config, template: Template, row: PatientRow, arm: Arm) -> ArmRow:
    try:
        return arm_row(template, row.cells, arm)
    except UserError as error:
        raise UserError(f"--set {arm.name}: {config.data}, line {row.sample.line}: {error}") from error


def _rows(config: Config, template: Template, table: Table) -> tuple[list[PatientRow], list[str]]:
    """The rows to make images for, and the names of the columns that are carried along.

    Raises:
        UserError: a row that the template cannot tell (unless such are skipped), or a template column that is a column
            of the images' manifest.
    """
    from medloom.generation.requests import kept_columns, origins, read_conditions

    if taken := [name for name in template.columns if name.casefold() in {*HEADER, TEXT, *ALIASES, HELD, NEAR}]:
        raise UserError(f"the template tells {taken[0]!r}, a column of the images' manifest; use one without it.")
    manifest = read_conditions(config, config.data, need=())
    kept = [name for name in kept_columns(config.keep, manifest) if name not in template.columns]
    if clash := [name for name in kept if name in (HELD, NEAR)]:
        raise UserError(f"--keep {clash[0]}: the images' manifest has a column of its own of this name; leave it out.")
    samples = manifest.samples()[: config.rows or None]
    cells, problems = read_rows(table, template, str(config.data))
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
    if words(template) and (
        other := sum(row.sample.condition.text not in (None, template.render(row.cells)) for row in rows)
    ):
        say(
            f"{other} of {len(rows)} rows have another text in the manifest than the template gives, which is what the"
            " images are made from: was the model trained on this template's texts?"
        )
    return rows, kept


def _requests(
    config: Config, plan: Plan, model: "LoadedModel", near: Mapping[str, Sequence[int | None]] | None
) -> "list[Request]":
    """The images to generate: row by row, seed by seed, the arms of a seed together."""
    from medloom.generation.requests import check_seeds

    check_seeds(config, len(plan.rows) * config.n)
    requests: list[Request] = []
    for index in range(len(plan.rows)):
        for k in range(config.n):
            seed = config.seed + index * config.n + k
            for arm in plan.arms_of(index):
                count = None if near is None else near[arm.name][index]
                requests.append(_request(config, plan, model, len(requests), index, seed, arm, count))
    return requests


def _request(
    config: Config, plan: Plan, model: "LoadedModel", number: int, index: int, seed: int, arm: Arm, near: int | None
) -> "Request":
    from medloom.generation.requests import Request

    row, changed = plan.rows[index], plan.changed[arm.name][index]
    known = row.sample.condition
    text = plan.template.render(changed.cells) if plan.words else known.text
    if plan.words and model.generator.reads_text and not text:
        raise UserError(f"{config.data}, line {row.sample.line}: the template says nothing in the arm {arm.name}.")
    cells = {name: column.capped(changed.cells[name]) for name, column in plan.template.columns.items()}
    whole = replace(known, text=text, table={**known.table, **cells})
    condition = model.generator.row_condition(whole, f"--set {arm.name}: {config.data}, line {row.sample.line}")
    # A mask that the model does not take is not held, and its regions mean nothing.
    mask = relative_path(condition.mask_file, config.out)
    return Request(
        number,
        condition,
        seed,
        row.origin,
        (*([mask] if plan.masked else []), *cells.values(), *row.kept, ",".join(changed.held) or None, near),
        arm.name,
        ",".join(arm.changes) or None,
        ",".join(arm.changes.values()) or None,
        near,
    )


def _columns(plan: Plan) -> list[str]:
    """Names of the cells of `_request`."""
    return [*([MASK] if plan.masked else []), *plan.template.columns, *plan.kept, HELD, NEAR]


def _effects(
    config: Config,
    plan: Plan,
    model: "LoadedModel",
    unseen: Mapping[str, str],
    near: Mapping[str, Sequence[int | None]] | None,
) -> dict[str, dict[str, Any]]:
    """What the differences of each arm estimate; `unseen` says what of an arm no training image had."""
    conditions = [row.sample.condition for row in plan.rows]
    parts = {part: any(has_part(condition, part) for condition in conditions) for part in model.generator.reads}
    parts["text"] = parts.get("text", False) and not plan.words
    held = ["texts" if part == "text" else COUNTED[part] for part in parts if parts[part] and part != VIEW]
    if plan.unrelated and len(model.generator.columns) > 1:
        held.append("other columns of the table")
    effects = {
        arm.name: effect_of(
            config.estimand,
            plan.template,
            arm,
            plan.rows_in(arm),
            held,
            f"an extrapolation: {unseen[arm.name]}" if arm.name in unseen else "",
        )
        for arm in plan.arms[1:]
    }
    for name, effect in effects.items():
        rows = list(zip(plan.rows, plan.changed[name], strict=True))
        effect["left_out"] = [row.origin.source for row, changed in rows if changed.broken]
        if near is not None:
            counts = [count for count, (_, changed) in zip(near[name], rows, strict=True) if not changed.broken]
            effect["extrapolated_rows"] = sum(map(is_extrapolation, counts))
    sampling = model.sampling
    asked = (sampling.guidance, *sampling.guidance_by_part.values())
    if scales := sorted({scale for scale in asked if scale is not None and scale != 1}):
        guided = f"; guidance {' '.join(f'{scale:g}' for scale in scales)} exaggerates it"
        effects = {name: {**effect, "estimand": f"{effect['estimand']}{guided}"} for name, effect in effects.items()}
    return effects
