"""Whether a model has learnt what a what-if changes, notices it, and had patients near the changed rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.data.prompts import Cell
from medloom.data.prompts.arms import ArmRow
from medloom.data.prompts.support import LEAST_NEAR, SUPPORT, TrainingSupport
from medloom.generation.arm_plan import PatientRow, Plan
from medloom.generation.produce import LoadedModel


def unseen_changes(plan: Plan, model: LoadedModel, allowed: bool) -> dict[str, str]:
    """Arm -> what of it no training image had, in words; arms of which training had everything are left out.

    Raises:
        UserError: there is any, and it is not allowed; lists what training has seen.
    """
    generator = model.generator
    texts = model.run.worded_columns() if generator.reads_text else []
    seen = {column.name: column for column in (*texts, *generator.columns)}
    found: dict[str, list[str]] = {}
    for arm in plan.arms:
        for name, value in arm.values.items():
            if name not in seen:
                known = f"the columns that it was given are {', '.join(seen)}" if seen else "it was given no columns"
                reason = f"training was not given {name}; {known}"
            elif not seen[name].has(value):
                reason = f"training has not seen {name}={arm.changes[name]}; seen: {seen[name].seen}"
            else:
                continue
            found.setdefault(arm.name, []).append(reason)
    for name, reasons in found.items() if not allowed else ():
        raise UserError(f"--set {name}: {reasons[0]}. Set another column or value, or go beyond with --allow-unseen.")
    return {name: " and ".join(reasons) for name, reasons in found.items()}


def refuse_unnoticed(plan: Plan, model: LoadedModel, data: Path) -> None:
    """Refuse arms that change a row without the model noticing; says where the template words two values alike.

    Raises:
        UserError: a column that is set and not worded, or a change beyond the tokens that the model reads.
    """
    own = {column.name: column for column in model.generator.columns}
    alike: Counter[tuple[str, str]] = Counter()
    for arm in plan.arms[1:]:
        for row, changed in zip(plan.rows, plan.changed[arm.name], strict=True):
            for name, column in plan.template.columns.items():
                before, after = column.capped(row.cells[name]), column.capped(changed.cells[name])
                if before == after or (name in own and own[name].read(before) != own[name].read(after)):
                    continue
                words = model.generator.reads_text and column.worded
                if column.phrase(before) == column.phrase(after) if words else name in own:
                    alike[arm.name, name] += name in arm.changes
                elif reason := _unnoticed(plan, model, row, changed, name, name in arm.changes):
                    where = f"--set {arm.name}: {data}, line {row.sample.line}"
                    raise UserError(f"{where}: no image could change, because {reason}.")
    for (arm_name, name), count in alike.items():
        if count:
            what = f"in {count} of {len(plan.rows)} rows {name} is worded, or capped, as it was"
            say(f"--set {arm_name}: {what}, which is no change to the model.")


def _unnoticed(plan: Plan, model: LoadedModel, row: PatientRow, changed: ArmRow, name: str, is_set: bool) -> str | None:
    """Why the model does not notice the change of a column that its table lacks, and what to do; None where it does."""
    generator = model.generator
    if not (plan.template.columns[name].worded and generator.reads_text):
        # What only follows from the change may stay unsaid.
        why = "the template does not word it" if generator.reads_text else "the model reads no text"
        return f"{name} is no column of the model's table, and {why}; set another one" if is_set else None
    if _reads(plan, model, row, changed.cells) != _reads(plan, model, row, {**changed.cells, name: row.cells[name]}):
        return None
    return (
        f"{name} lies beyond the {generator.model.text.max_tokens} tokens that the model reads of the text; put it"
        " first in the template, or train with a larger --text.max-tokens"
    )


def _reads(plan: Plan, model: LoadedModel, row: PatientRow, cells: Mapping[str, Cell]) -> tuple[int, ...]:
    """The tokens that the model reads of a row with other cells."""
    condition = replace(row.sample.condition, text=plan.template.render(cells))
    return model.generator.read_tokens(condition)


def patients_near(plan: Plan, model: LoadedModel) -> dict[str, list[int | None]] | None:
    """Arm -> for each row how many training patients are near it; None for a run that does not keep them."""
    path = model.run.path / SUPPORT
    if not path.is_file():
        return None
    support = TrainingSupport.read(path)
    return {
        arm.name: [
            support.near(row.sample.condition.modality, row.cells, changed.cells)
            for row, changed in zip(plan.rows, plan.changed[arm.name], strict=True)
        ]
        for arm in plan.arms
    }


def say_support(plan: Plan, effects: Mapping[str, Mapping[str, Any]], known: bool) -> None:
    """Say how many rows of each arm are left out, and how many are an extrapolation."""
    for arm in plan.arms[1:]:
        if left_out := len(effects[arm.name]["left_out"]):
            bounds = dict.fromkeys(text for row in plan.changed[arm.name] for text in row.broken)
            say(f"{arm.name}: {left_out} of {len(plan.rows)} rows are left out: they break {'; '.join(bounds)}")
        if known and (beyond := effects[arm.name]["extrapolated_rows"]):
            say(
                f"{arm.name}: {beyond} of {len(plan.rows_in(arm))} rows are an extrapolation: fewer than {LEAST_NEAR}"
                " training patients are near them"
            )
    if not known:
        say(f"support is unknown: the run has no {SUPPORT}, which training writes where a template is next to its data")
