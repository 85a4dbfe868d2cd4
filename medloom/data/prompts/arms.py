"""The arms of a what-if: changes of a clinical row, and the estimand of their difference from the factual arm."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medloom.core.cells import Cell, spelled
from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.data.prompts.template import Template

FACTUAL = "factual"
DIRECT, TOTAL, ASSOCIATION = "direct", "total", "association"
ESTIMANDS = (DIRECT, TOTAL)


@dataclass(frozen=True)
class Arm:
    """One intervention.

    Attributes:
        name: the change as text, e.g. "smoking=never"; `factual` without a change.
        changes: column -> value as written.
        values: column -> value as read.
    """

    name: str
    changes: Mapping[str, str]
    values: Mapping[str, Cell]

    def outcomes(self, template: Template) -> list[str]:
        """The changed columns that are outcomes: a change of them has no causal effect on the image."""
        return [name for name in self.changes if template.columns[name].outcome]


@dataclass(frozen=True)
class ArmRow:
    """A row in an arm.

    Attributes:
        cells: its values.
        held: descendants of the change that are held at their factual values.
        followed: columns changed by the template's rules.
        broken: bounds of the template that the change breaks; such a row is left out of the arm.
    """

    cells: Mapping[str, Cell]
    held: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def factual_arm() -> Arm:
    """The arm without a change."""
    return Arm(FACTUAL, {}, {})


def read_arms(given: Sequence[str], template: Template) -> list[Arm]:
    """Arms from texts such as `smoking=never` and `age=24,sex=male`.

    Raises:
        UserError: no `=`, a column or value unknown to the template, or a repeated arm.
    """
    arms: list[Arm] = []
    for text in given:
        changes = read_changes("--set", text)
        try:
            values = template.choices(changes)
        except UserError as error:
            raise UserError(f"--set {text}: {error}") from error
        for name, value in values.items():
            limit = template.columns[name].cap
            if limit is None or not isinstance(value, float) or value <= (grouped := float(math.floor(limit) + 1)):
                continue
            say(f"--set {text}: {name} above {limit:g} is one group, which is asked for as {spelled(grouped)}.")
            changes, values = {**changes, name: spelled(grouped)}, {**values, name: grouped}
        if same := next((arm for arm in arms if arm.values == values), None):
            raise UserError(f"--set {text}: the same arm as --set {same.name}; leave one out.")
        arms.append(Arm(",".join(f"{name}={value}" for name, value in changes.items()), changes, values))
    return arms


def read_changes(option: str, text: str) -> dict[str, str]:
    """Column -> value from a text such as `age=24,sex=male`.

    Raises:
        UserError: a part that is not COLUMN=VALUE, or a repeated column.
    """
    changes: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise UserError(
                f"{option} {text}: {part.strip()!r} is not COLUMN=VALUE, as in {option} smoking=never,age=24."
            )
        if name in changes:
            raise UserError(f"{option} {text}: {name} is set twice; leave one out.")
        changes[name] = value
    return changes


def arm_row(template: Template, row: Mapping[str, Cell], arm: Arm) -> ArmRow:
    """A row in an arm; see `Template.changed`."""
    cells, held = template.changed(row, arm.changes)
    followed = tuple(name for name in cells if name not in arm.changes and cells[name] != row[name])
    return ArmRow(cells, held, followed, tuple(bound.text for bound in template.broken(row, cells)))


def effect_of(
    kind: str, template: Template, arm: Arm, rows: Sequence[ArmRow], parts: Sequence[str] = (), caution: str = ""
) -> dict[str, object]:
    """The estimand of an arm's differences from the factual arm, as JSON values.

    Args:
        kind: direct or total.
        template: states which columns are outcomes.
        arm: the change.
        rows: every row in the arm.
        parts: parts of the condition that are held, e.g. mask.
        caution: further words on what it is worth.

    Returns:
        `changes`, `estimand` in words, `held` (columns), `held_in_rows` and `propagated_in_rows` (column -> rows).
    """
    held = _counted(template, [row.held for row in rows])
    followed = _counted(template, [row.followed for row in rows])
    outcomes = arm.outcomes(template)
    named = [f"the {part}" for part in parts]
    held_parts = " and ".join(filter(None, (", ".join(named[:-1]), *named[-1:])))
    through = "them" if len(parts) > 1 or "texts" in parts else "it"
    clauses = (
        (True, f"difference of conditional means between {arm.name} and the factual"),
        (outcomes, f"{', '.join(outcomes)} is a consequence of the image content, not a cause"),
        (followed, f"{_in_words(followed, len(rows))} changed by the template's rules"),
        (held, f"{_in_words(held, len(rows))} held at factual values, which excludes effects through them"),
        (parts, f"{held_parts} held, which excludes effects through {through}"),
        (caution, caution),
    )
    estimand = "; ".join(words for said, words in clauses if said)
    return {
        "changes": dict(arm.values),
        "estimand": f"{ASSOCIATION if outcomes else kind}: {estimand}",
        "held": list(held),
        "held_in_rows": held,
        "propagated_in_rows": followed,
    }


def _counted(template: Template, names: Sequence[Sequence[str]]) -> dict[str, int]:
    """Column -> its number of rows, in the order of the template."""
    counts = Counter(name for entry in names for name in entry)
    return {name: counts[name] for name in template.columns if name in counts}


def _in_words(counts: Mapping[str, int], rows: int) -> str:
    """Columns, with their number of rows unless it is all."""
    return ", ".join(name if count == rows else f"{name} (in {count} of {rows} rows)" for name, count in counts.items())


def refuse_held(arms: Sequence[Arm], rows: Mapping[str, Sequence[ArmRow]]) -> None:
    """Refuse a total effect where a descendant of the change is held.

    Args:
        arms: the changes.
        rows: arm -> every row in it.

    Raises:
        UserError: names the held columns and the remedies.
    """
    for arm in arms:
        held = list(dict.fromkeys(name for row in rows[arm.name] for name in row.held))
        if held:
            raise UserError(
                f"--estimand total: {', '.join(held)} follow from {', '.join(arm.changes)} by the template and would be"
                f" held at factual values; set them as well (--set {arm.name},{held[0]}=...), give the template rules"
                " for them, or use a template without them."
            )
