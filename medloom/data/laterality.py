"""Words and mask classes that change where an image is mirrored between left and right, which is never the default."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.types import Condition

Element = TypeVar("Element", bound=np.generic)

# The words alone, before a hyphen (left-sided), or in leftward and leftmost; not in "all right".
_SIDE = re.compile(r"\b(?<!\ball )(left|right)(?=(?:wards?|most)?\b)", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def swap_sides(text: str) -> str:
    """Swap the words left and right, also with -sided, -ward and -most; abbreviations (RLL) stay. Case is preserved."""
    return _SIDE.sub(lambda found: _like(_OTHER[found[1].lower()], found[1]), text)


def mirrored_condition(condition: Condition) -> Condition:
    """The condition of an image's mirror image: sides swap in the text, the view and the table."""
    table = {name: swap_sides(cell) if isinstance(cell, str) else cell for name, cell in condition.table.items()}
    text, view = (None if words is None else swap_sides(words) for words in (condition.text, condition.view))
    return replace(condition, text=text, view=view, table=table)


def swap_mask_classes(mask: NDArray[Element], pairs: Sequence[tuple[int, int]]) -> NDArray[Element]:
    """Swap the two classes of each pair in an integer mask of any shape, such as left and right lung.

    Raises:
        UserError: a class is in two pairs.
    """
    classes = [entry for pair in pairs for entry in pair]
    if len(set(classes)) != len(classes):
        raise UserError(f"mask class pairs {list(pairs)} name a class twice; each class has one opposite.")
    swapped = mask.copy()
    for one, other in pairs:
        swapped[mask == one] = other
        swapped[mask == other] = one
    return swapped


def _like(word: str, model: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
