"""The ratings of a studio, and what its pages need to know of a rater's session."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medloom.feedback.ratings.entries import PRACTICE, RATING, SKIP, UNDO, Rater, Rating, Session
from medloom.feedback.ratings.rubric import Rubric, rubric_of
from medloom.feedback.ratings.store import RatingStore

# The keys of the answers, item by item; these letters do nothing else in the viewer.
KEYS: Mapping[str, Mapping[str, str]] = {
    "quality": {"realism": "adf", "match": "njk"},
    "origin": {"confidence": "adfjk"},
    "pairs": {"preferred": "adf"},
}
FLAG_KEYS = "but"
# Ratings from which the time that is left is known.
TIMED = 3


@dataclass(frozen=True)
class Ratings:
    """The ratings of a studio.

    Attributes:
        store: where they are kept.
        raters: who rates now.
        blind: whether no page may say where an image is from.
    """

    store: RatingStore
    raters: tuple[Rater, ...]
    blind: bool


@dataclass(frozen=True)
class Progress:
    """How far a rater is in a session.

    Attributes:
        session: the session.
        order: places with an answer or a skip, in the order of their last entries.
        entries: the last entry of each of them.
    """

    session: Session
    order: tuple[int, ...]
    entries: Mapping[int, Rating]

    @property
    def total(self) -> int:
        """Images or pairs of the session."""
        return len(self.session.presentations)

    @property
    def rated(self) -> int:
        """Those that are rated."""
        return sum(entry.kind == RATING for entry in self.entries.values())

    @property
    def skipped(self) -> list[int]:
        """Places that were passed over."""
        return [place for place in self.order if self.entries[place].kind == SKIP]

    @property
    def seconds(self) -> list[float]:
        """How long the ratings took."""
        return [self.entries[place].seconds for place in self.order if self.entries[place].kind == RATING]

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take, by the rater's own median; None where too few are known."""
        known = self.seconds
        return statistics.median(known) * (self.total - self.rated) if len(known) >= TIMED else None

    @property
    def title(self) -> str:
        """The session in words."""
        if self.session.mode == PRACTICE:
            return "Practice"
        return f"Session {self.session.number}, {self.session.rubric}"


def progress_of(store: RatingStore, session: Session) -> Progress:
    """How far a rater is in a session."""
    entries = {place: entry for place, entry in store.latest(session).items() if entry.kind != UNDO}
    return Progress(session, tuple(sorted(entries, key=lambda place: entries[place].time)), entries)


def asked_of(session: Session) -> dict[str, Any]:
    """What the page of a session asks: items with answers and keys, and flags with keys."""
    rubric: Rubric = rubric_of(session.rubric)
    keys = KEYS[rubric.name]
    return {
        "items": [
            {
                "name": item.name,
                "question": item.question,
                "answers": [
                    {"value": value, "words": words, "key": key}
                    for (value, words), key in zip(item.answers.items(), keys[item.name], strict=True)
                ],
            }
            for item in rubric.items
        ],
        "flags": [
            {"name": name, "words": words, "key": key}
            for (name, words), key in zip(rubric.flags.items(), FLAG_KEYS, strict=False)
        ],
    }
