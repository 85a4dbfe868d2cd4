"""What raters are asked of an image: items with few answers, and flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up

LONGEST_COMMENT = 2000
# A rating that took longer than a day says nothing of the image.
MOST_SECONDS = 86400.0


@dataclass(frozen=True)
class RubricItem:
    """A question with its answers.

    Attributes:
        name: of the column in the export.
        question: as raters read it.
        answers: in words, by their value.
    """

    name: str
    question: str
    answers: Mapping[int | str, str]


@dataclass(frozen=True)
class Rubric:
    """What is asked of an image or a pair.

    Attributes:
        name: as --rubric has it.
        version: raised when a question or an answer changes its meaning.
        items: the questions.
        flags: words that may be added, with what each means.
    """

    name: str
    version: int
    items: tuple[RubricItem, ...]
    flags: Mapping[str, str]


QUALITY = Rubric(
    "quality",
    1,
    (
        RubricItem(
            "realism",
            "Realism",
            {1: "unacceptable", 2: "acceptable", 3: "cannot be distinguished from a real image"},
        ),
        RubricItem(
            "match", "Match to the prompt", {1: "does not match the prompt", 2: "matches in part", 3: "matches"}
        ),
    ),
    {
        "anatomy": "anatomy that cannot be",
        "mismatch": "contradicts the prompt",
        "artefact": "artefact of image generation",
    },
)
ORIGIN = Rubric(
    "origin",
    1,
    (
        RubricItem(
            "confidence",
            "Real or synthetic?",
            {1: "surely real", 2: "rather real", 3: "cannot say", 4: "rather synthetic", 5: "surely synthetic"},
        ),
    ),
    {},
)
PAIRS = Rubric(
    "pairs",
    1,
    (
        RubricItem(
            "preferred",
            "Which image is better for this prompt?",
            {"first": "the left one", "equal": "equal", "second": "the right one"},
        ),
    ),
    {},
)
# Of the three-level rubric that follows from the two items of QUALITY; see `level_of`.
LEVELS = (1, 2, 3)
RUBRICS = {rubric.name: rubric for rubric in (QUALITY, ORIGIN, PAIRS)}


def rubric_of(name: str) -> Rubric:
    """A rubric by its name.

    Raises:
        UserError: there is none.
    """
    return look_up(RUBRICS, name, "rubric")


def level_of(realism: int, match: int) -> int:
    """MINIM's level of a rating by two items: 1 unacceptable, 2 acceptable but not as asked for, 3 as asked for.

    Examples:
        >>> from medloom.feedback.ratings.rubric import level_of
        >>> level_of(1, 3), level_of(2, 3), level_of(3, 2)
        (1, 3, 2)
    """
    if realism == 1:
        return 1
    return 3 if match == 3 else 2


@dataclass(frozen=True)
class Answers:
    """What a rater gave.

    Attributes:
        values: item -> answer.
        flags: in the rubric's order.
        comment: free text.
        seconds: that the rater took.
    """

    values: Mapping[str, int | str]
    flags: tuple[str, ...]
    comment: str
    seconds: float


def checked(rubric: Rubric, values: object, flags: object, comment: object, seconds: object) -> Answers:
    """What a rater gave, as a page sent it.

    Raises:
        UserError: an item without an answer, an answer, a flag or an item that the rubric does not have, a comment that
            is too long, or a time that is none.
    """
    if not isinstance(values, Mapping) or set(values) != {item.name for item in rubric.items}:
        raise UserError(f"a rating by the rubric {rubric.name} answers {_listed(item.name for item in rubric.items)}.")
    for item in rubric.items:
        if not _is_among(values[item.name], item.answers):
            raise UserError(f"{item.name} {values[item.name]!r}: allowed are {_listed(item.answers)}.")
    if not isinstance(flags, list | tuple) or not all(_is_among(flag, rubric.flags) for flag in flags):
        raise UserError(f"flags {flags!r}: allowed are {_listed(rubric.flags) or 'none'}.")
    return Answers(
        {item.name: values[item.name] for item in rubric.items},
        tuple(flag for flag in rubric.flags if flag in flags),
        checked_comment(comment),
        checked_seconds(seconds),
    )


def checked_comment(comment: object) -> str:
    """A comment.

    Raises:
        UserError: it is no text, or too long.
    """
    if not isinstance(comment, str) or len(comment) > LONGEST_COMMENT or "\0" in comment:
        raise UserError(f"a comment has at most {LONGEST_COMMENT} characters; write a shorter one.")
    return comment.strip()


def checked_seconds(seconds: object) -> float:
    """The time that a rating took.

    Raises:
        UserError: it is no time.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        raise UserError(f"the time of a rating is {seconds!r}; it has to be a number of seconds, at least 0.")
    return float(min(seconds, MOST_SECONDS))


def _is_among(value: object, allowed: Mapping[Any, str]) -> bool:
    # To Python, True is 1 and 1.0 is 1.
    return any(type(value) is type(known) and value == known for known in allowed)


def _listed(values: Any) -> str:
    shown: Sequence[str] = [str(value) for value in values]
    return ", ".join(shown)
