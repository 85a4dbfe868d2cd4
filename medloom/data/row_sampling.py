"""Draws the rows of a table to generate images from, balanced over classes if wanted."""

from collections.abc import Sequence

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.core.seeds import numpy_generator
from medloom.core.types import Sample

Class = tuple[str, Sequence[int]]
# Cells of a present finding; -1 (uncertain), 0 and empty cells are not.
PRESENT = ("1", "true", "yes", "present", "positive")


def rows_by_class(samples: Sequence[Sample], columns: Sequence[str], classes: Sequence[str], where: str) -> list[Class]:
    """The rows of each class: its name and indices of `samples`.

    Args:
        samples: rows, with their clinical cells.
        columns: one column, whose values are the classes; or several columns, each a class of the rows whose cell is 1,
            true, yes, present or positive (a row may be in several classes).
        classes: the values to balance, for one column; empty for all its values.
        where: the file, for messages.

    Raises:
        UserError: a class without rows.
    """
    found: dict[str, list[int]]
    if len(columns) > 1:
        found = {
            name: [i for i, sample in enumerate(samples) if _value(sample, name).casefold() in PRESENT]
            for name in columns
        }
    else:
        values = [_value(sample, columns[0]) for sample in samples]
        known = sorted({value for value in values if value})
        if not known:
            raise UserError(f"{where}: column {columns[0]!r} is empty in every row; name another column to balance.")
        for name in classes:
            if name not in known:
                raise UserError(
                    f"{where}: no row to balance {columns[0]}={name} from{did_you_mean(name, known) or '.'}"
                    f" Values in the column: {', '.join(known)}."
                )
        found = {name: [i for i, value in enumerate(values) if value == name] for name in classes or known}
    if empty := [name for name, rows in found.items() if not rows]:
        raise UserError(f"{where}: no row to balance {', '.join(empty)} from; leave it out of --balance, or add rows.")
    return list(found.items())


def draw_rows(classes: Sequence[Class], count: int, seed: int) -> list[tuple[int, str]]:
    """Draw `count` rows, cycling over the classes.

    The rows of a class are shuffled and taken in order, and shuffled again when all have been taken, so that the counts
    of two rows of a class differ by at most one.

    Args:
        classes: name and rows of each class.
        count: number of draws.
        seed: of the shuffling.

    Returns:
        `count` pairs: a row, and the class that it was drawn for.
    """
    decks: dict[str, list[int]] = {name: [] for name, _ in classes}
    turns: dict[str, int] = dict.fromkeys(decks, 0)
    drawn: list[tuple[int, str]] = []
    for number in range(count):
        name, rows = classes[number % len(classes)]
        if not decks[name]:
            order = numpy_generator(seed, "rows", name, turns[name]).permutation(len(rows))
            decks[name] = [rows[index] for index in order[::-1]]
            turns[name] += 1
        drawn.append((decks[name].pop(), name))
    return drawn


def _value(sample: Sample, column: str) -> str:
    """A cell as text; whole numbers without decimals, although numeric columns hold floats."""
    condition = sample.condition
    value = {"modality": condition.modality, "view": condition.view, "text": condition.text}.get(
        column, condition.table.get(column)
    )
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
