"""What a store of ratings holds: raters, items, sessions with their presentations, and ratings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE, PRACTICE = "rate", "practice"
# Kinds of entries: what was given, that an image was passed over, and that the entry before no longer counts.
RATING, SKIP, UNDO = "rating", "skip", "undo"
SYNTHETIC, REAL = "synthetic", "real"


@dataclass(frozen=True)
class Rater:
    """A rater.

    Attributes:
        name: as it was given first.
        link: the last part of the rater's own address; not to be guessed.
    """

    name: str
    link: str


@dataclass(frozen=True)
class Item:
    """An image that is rated, with what is known of it.

    Attributes:
        name: neutral, the same in every session.
        path: of its file.
        content: hash of the file's bytes.
        source: synthetic or real; empty where neither the user nor the file says it.
        text: its prompt or report.
        modality: of the image.
        unit: of its values where the format does not state it.
        cells: the other columns of its row.
    """

    name: str
    path: Path
    content: str
    source: str
    text: str
    modality: str
    unit: str | None
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Presentation:
    """An item, or a pair of them, at a place of a session.

    Attributes:
        item: name of the item; of a pair, of the left one.
        other: name of the right one of a pair; else empty.
        repeat: 0 for the first presentation, 1 for the hidden repeat.
    """

    item: str
    other: str = ""
    repeat: int = 0


@dataclass(frozen=True)
class Plan:
    """What a rater is shown, in order.

    Attributes:
        rater: name of the rater.
        number: of the session, among those of the rater: 1, 2, ...; negative for practice.
        mode: rate or practice.
        rubric: name of the rubric.
        round: of rating, as --round has it.
        seed: of the choice and the order.
        blind: whether the origin of the images is hidden.
        manifests: that the images are from.
        wait_days: between the end of the session before and the beginning of this one; 0 waits for none.
        presentations: in order.
    """

    rater: str
    number: int
    mode: str
    rubric: str
    round: int
    seed: int
    blind: bool
    manifests: tuple[str, ...]
    wait_days: float
    presentations: tuple[Presentation, ...]


@dataclass(frozen=True)
class Session(Plan):
    """A plan that is in a store.

    Attributes:
        id: in the store.
        version: of the rubric.
        made: when, in seconds since 1970.
    """

    id: int
    version: int
    made: float


@dataclass(frozen=True)
class Entry:
    """What a rater did at a place, as it was sent.

    Attributes:
        id: a UUID that the browser made; sent again, it is the same entry.
        kind: rating, skip or undo.
        answers: item of the rubric -> answer; empty unless it is a rating.
        flags: words of the rubric.
        comment: free text.
        seconds: from the image to the answer.
    """

    id: str
    kind: str
    answers: Mapping[str, int | str]
    flags: tuple[str, ...]
    comment: str
    seconds: float


@dataclass(frozen=True)
class Rating(Entry):
    """An entry that is in a store.

    Attributes:
        time: when it was received, in seconds since 1970.
        supersedes: the entry of the same presentation before; empty for the first.
    """

    time: float
    supersedes: str
