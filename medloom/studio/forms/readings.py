"""The form of a blind reading: which images, how many, in which order, and what is asked of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medloom.core.seeds import MAX_SEED
from medloom.studio.forms.reading import Reading
from medloom.studio.store.readings import Plan

REAL, GENERATED = "real", "generated"
ORIGIN = "Is it real or generated?"
# Answers have one key each; these letters do nothing else in the viewer.
KEYS = "abdfjkntuz"
MOST_CASES, MOST_CHOICES, LONGEST_ANSWER = 500, len(KEYS), 60


def planned(form: Mapping[str, str], real: Sequence[str], generated: Sequence[str]) -> Plan:
    """What was filled in, with the images drawn: as many real as generated ones, as far as there are.

    Args:
        form: as the browser sent it.
        real: images of patients to draw from.
        generated: generated images to draw from.

    Raises:
        FormError: something is missing or out of range; names every field.
    """
    reading = Reading(form)
    question = reading.text("question") or ORIGIN
    named = [choice.strip() for choice in reading.text("choices").split(",")]
    choices = tuple(dict.fromkeys(choice for choice in named if choice)) or (REAL, GENERATED)
    if not 2 <= len(choices) <= MOST_CHOICES or max(map(len, choices)) > LONGEST_ANSWER:
        reading.refuse(
            "choices",
            f"Give 2 to {MOST_CHOICES} answers of up to {LONGEST_ANSWER} characters, separated by commas, for example:"
            " right, left, both, none.",
        )
    count = reading.whole("n", "The number of images", 1, MOST_CASES, 20)
    seed = reading.whole("seed", "The seed", 0, MAX_SEED, 0)
    if not real and not generated:
        reading.refuse("", "Choose what is read: a table, or a job with images.")
    reading.require_all_right()
    draw = np.random.default_rng(seed)
    half = max(count // 2, count - len(generated)) if real else 0
    chosen = [*_drawn(draw, real, half), *_drawn(draw, generated, count - min(half, len(real)))]
    items = tuple(chosen[k] for k in draw.permutation(len(chosen)))
    return Plan(f"{len(items)} images: {question}", question, choices, items, seed, reading.switch("reveals"))


def _drawn(draw: np.random.Generator, items: Sequence[str], count: int) -> list[str]:
    """Some of the items, each at most once."""
    return [items[k] for k in draw.permutation(len(items))[:count]]


@dataclass(frozen=True)
class Answered:
    """An answer, as the browser sent it.

    Attributes:
        answer: one of the choices.
        comment: free text.
        seconds: since the page was opened.
    """

    answer: str
    comment: str
    seconds: float


def answered(form: Mapping[str, str], choices: Sequence[str]) -> Answered:
    """Read an answer.

    Raises:
        FormError: none was chosen.
    """
    reading = Reading(form)
    answer = reading.choice("answer", "The answer", choices)
    if not answer and "answer" not in reading.wrong:
        reading.refuse("answer", "Choose an answer first, or continue without one.")
    reading.require_all_right()
    seconds = reading.number("seconds", "The time", 0, 1e7)
    return Answered(answer, reading.text("comment"), float(seconds or 0))
