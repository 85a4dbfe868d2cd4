"""Where a sentence names findings, and where it says that all is normal; what they hold is in `finding_terms`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medloom.report_text import finding_terms as terms

PRESENT, UNCERTAIN, ABSENT = "present", "uncertain", "absent"
_VOCABULARY = {name: re.compile(rf"\b(?:{pattern})") for name, pattern in terms.VOCABULARY.items()}
_NORMALITY = {re.compile(pattern): names for pattern, names in terms.NORMALITY.items()}
_GENERAL = {re.compile(pattern): names for pattern, names in terms.GENERAL_NORMALITY.items()}


@dataclass(frozen=True)
class Mention:
    """A finding as one sentence states it.

    Attributes:
        finding: of the vocabulary.
        status: present, absent or uncertain.
        side: left, right, both, or None where none is said.
        size: small, moderate, large, or None.
        change: new, increased, decreased, resolved, unchanged, or None.
        normality: whether the absence is that of a phrase of normality, which does not name the finding.
    """

    finding: str
    status: str
    side: str | None = None
    size: str | None = None
    change: str | None = None
    normality: bool = False


@dataclass(frozen=True)
class Place:
    """Where a finding is named in a text.

    Attributes:
        start: its first character.
        end: after its last one.
        finding: empty for a phrase of normality, and for what is no finding.
    """

    start: int
    end: int
    finding: str


def places_in(text: str) -> Iterator[Place]:
    """The findings that lower-case text names; of two that overlap the first, of two that start together the longer."""
    matches = [Place(*m.span(), name) for name, pattern in _VOCABULARY.items() for m in pattern.finditer(text)]
    reached = 0
    for place in sorted(matches, key=lambda place: (place.start, -place.end)):
        if place.start >= reached:
            reached = place.end
            yield place


def normal_in(text: str) -> Iterator[tuple[Place, Mention]]:
    """Phrases of normality in lower-case text, and what each says is absent."""
    spans: list[tuple[int, int]] = []
    for pattern, names in [*_NORMALITY.items(), *_GENERAL.items()]:
        for match in pattern.finditer(text):
            if pattern in _GENERAL and any(start <= match.start() < end for start, end in spans):
                continue
            spans.append(match.span())
            side = match.groupdict().get("side")
            yield from ((Place(*match.span(), ""), Mention(name, ABSENT, side, normality=True)) for name in names)
    if re.search(terms.RESOLVED_IN_GENERAL, text) and not any(place.finding for place in places_in(text)):
        whole = Place(0, len(text), "")
        for name in terms.CLEARING_FINDINGS:
            yield whole, Mention(name, ABSENT, change="resolved", normality=True)
