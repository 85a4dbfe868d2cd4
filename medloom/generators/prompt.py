"""The text that a condition gives its encoder, and the parts of a condition that guidance tells apart."""

from collections.abc import Sequence

from medloom.core.types import PARTS, Condition

# A row of the empty text stands for a condition without text; a negative prompt takes its place.
EMPTY = ""


def prompt_of(condition: Condition, modality_as: str, parts: Sequence[str]) -> str:
    """The encoder's text of a condition: `modality: text` where the modality travels in the text.

    Args:
        condition: with the dropped parts already gone.
        modality_as: text, token or both.
        parts: the parts that the generator tells apart; where the modality is not one of its own, it is dropped with
            the text, since the empty prompt has to be really empty.
    """
    if modality_as == "token" or condition.modality is None:
        return condition.text or EMPTY
    if condition.text is None:
        return condition.modality if "modality" in parts else EMPTY
    return f"{condition.modality}: {condition.text}"


def known_parts(exportable: bool, mask: bool, table: bool, prior: bool = False) -> tuple[str, ...]:
    """The parts that a generator tells apart, in the order of guidance."""
    present = {"text"} if exportable else {"modality", "text"}
    if mask:
        present.add("mask")
    if table:
        present.add("table")
    if prior:
        present.add("prior")
    return tuple(part for part in PARTS if part in present)


def keep(condition: Condition, kept: frozenset[str], parts: Sequence[str]) -> Condition:
    """The condition with only the `kept` ones of a generator's `parts`."""
    return condition.without(frozenset(parts) - kept)
