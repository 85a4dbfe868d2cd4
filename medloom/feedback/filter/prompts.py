"""What a filter reads of a condition, in words."""

from collections.abc import Mapping, Sequence

from medloom.core.cells import plain_number
from medloom.core.types import Condition


def prompt_words(condition: Condition, columns: Sequence[str] = ()) -> str:
    """A condition in words: modality and view, the text, and columns of the table.

    Args:
        condition: of an image.
        columns: of the table that the filter reads; empty cells are left out.

    Examples:
        >>> from medloom.core.types import Condition
        >>> prompt_words(Condition("Small effusion.", "CXR", table={"age": 61.0, "sex": None}), ["age", "sex"])
        'CXR: Small effusion.; age 61'
    """
    start = " ".join(part for part in (condition.modality, condition.view) if part)
    text = ": ".join(part for part in (start, condition.text) if part)
    return "; ".join(part for part in (text, *_cells(condition.table, columns)) if part)


def _cells(table: Mapping[str, float | str | None], columns: Sequence[str]) -> list[str]:
    found = {name: value for name in columns if (value := table.get(name)) is not None}
    return [f"{name} {plain_number(value)}" for name, value in found.items()]
