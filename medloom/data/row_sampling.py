"""Which rows of a table synthetic images are made of: some as they come, or as many of each class."""

from collections.abc import Mapping, Sequence

from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.core.seeds import numpy_generator
from medloom.core.types import Sample

Class = tuple[str, Sequence[int]]
# A cell that says that a finding is there. -1 (uncertain), 0 and an empty cell do not.
PRESENT = ("1", "true", "yes", "present", "positive")


def rows_by_class(samples: Sequence[Sample], columns: Sequence[str], classes: Sequence[str], where: str) -> list[Class]:
    """The rows of each class: its name and indices of `samples`.

    Args:
        samples: rows, with their clinical cells.
        columns: one column, whose values are the classes; or several, each of which is a class that a row has where
            its cell is 1, true, yes, present or positive (a row may be in several).
        classes: the values to balance, of one column; empty for all that stand there.
        where: the file, for errors.

    Raises:
        UserError: a class without any row.
    """
    found: dict[str, list[int]]
    if len(columns) > 1:
        found = {name: [i for i, sample in enumerate(samples) if _present(sample, name)] for name in columns}
    else:
        values = [_value(sample, columns[0]) for sample in samples]
        names = list(classes) or sorted({value for value in values if value})
        found = {name: [i for i, value in enumerate(values) if value == name] for name in names}
        _refuse_unknown(found, sorted({value for value in values if value}), columns[0], where)
    if empty := [name for name, rows in found.items() if not rows]:
        raise UserError(f"{where}: no row to balance {', '.join(empty)} from; leave it out of --balance, or add rows.")
    return list(found.items())


def draw_rows(classes: Sequence[Class], count: int, seed: int) -> list[tuple[int, str]]:
    """Draw `count` rows, as many of each class, in turn.

    The rows of a class are shuffled and taken in order, and shuffled again when all have been taken, so that none is
    taken two times more than another.

    Args:
        classes: name and rows of each class; one class of all rows draws them as they come.
        count: how many.
        seed: of the shuffling.

    Returns:
        A row and the class that it was drawn for, `count` times.
    """
    decks: dict[str, list[int]] = {name: [] for name, _ in classes}
    turns: dict[str, int] = dict.fromkeys(decks, 0)
    drawn: list[tuple[int, str]] = []
    for number in range(count):
        name, rows = classes[number % len(classes)]
        if not decks[name]:
            order = numpy_generator(seed, "rows", name, turns[name]).permutation(len(rows))
            decks[name] = [rows[place] for place in order[::-1]]
            turns[name] += 1
        drawn.append((decks[name].pop(), name))
    return drawn


def _refuse_unknown(found: Mapping[str, Sequence[int]], known: Sequence[str], column: str, where: str) -> None:
    if not known:
        raise UserError(f"{where}: column {column!r} is empty in every row; there is nothing to balance.")
    for name, rows in found.items():
        if not rows:
            raise UserError(
                f"{where}: no row to balance {column}={name} from{did_you_mean(name, known)}"
                f" Values that stand there: {', '.join(known)}."
            )


def _present(sample: Sample, column: str) -> bool:
    return _value(sample, column).casefold() in PRESENT


def _value(sample: Sample, column: str) -> str:
    """A cell as text; a whole number has no decimals, though tables of numbers are read as such."""
    condition = sample.condition
    value = {"modality": condition.modality, "view": condition.view, "text": condition.text}.get(
        column, condition.table.get(column)
    )
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
