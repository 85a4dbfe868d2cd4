"""The findings that one sentence states; the rules stand in `findings`, the words in `finding_terms`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from medloom.report_text import finding_cues as cues
from medloom.report_text import finding_terms as terms
from medloom.report_text.finding_mentions import ABSENT, PRESENT, UNCERTAIN, Mention, Place, normal_in, places_in

_CUES = [(status, reach, change, re.compile(pattern)) for status, reach, change, pattern in cues.CUES]
_SIDES = {side: re.compile(pattern) for side, pattern in cues.SIDES.items()}
_SIZES = {size: re.compile(pattern) for size, pattern in cues.SIZES.items()}
_NOT = re.compile(r"(?:no|not|without)\b")
_SIDE = re.compile(r"(?:left|right)\b")
# "In the right lung base, there is ..." is one clause.
_PLACE_FIRST = re.compile(r"(?:in|at|on|within|over|along) [^,;]*$")
_APART = re.compile(r"\s*(?:[.,]|$|(?:since|from|compared|than|in (?:size|extent|appearance|the interval))\b)")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have)\b")
_LIST = re.compile(r"\b(?:and|or)\b")


@dataclass(frozen=True)
class _Cue:
    """Words that say something of the findings before or after them."""

    start: int
    end: int
    status: str
    reach: str
    change: str | None


def mentions_in(sentence: str) -> tuple[Mention, ...]:
    """The mentions of findings in one sentence, in its order."""
    text = sentence.casefold()
    normal = list(normal_in(text))
    places = sorted([*places_in(text), *(place for place, _ in normal)], key=lambda place: (place.start, place.end))
    found = [(place.start, mention) for place, mention in normal]
    ends = (match.start() for match in re.finditer(cues.CLAUSE_END, text))
    cuts = [0, *(end for end in ends if not _PLACE_FIRST.match(text[:end])), len(text)]
    for start, end in pairwise(cuts):
        inside = [place for place in places if start <= place.start < end]
        moved = [replace(place, start=place.start - start, end=place.end - start) for place in inside]
        found += [(start + at, mention) for at, mention in _Clause(text[start:end], moved).mentions()]
    return tuple(mention for _, mention in sorted(found, key=lambda entry: entry[0]))


class _Clause:
    """A clause, the findings that it names and the cues in it."""

    def __init__(self, text: str, places: Sequence[Place]) -> None:
        self.text = text
        self.places = places
        self.cues = list(_cues(text))

    def mentions(self) -> list[tuple[int, Mention]]:
        """Where each mention starts, and the mention."""
        found = [self._mention(index) if place.finding else None for index, place in enumerate(self.places)]
        self._share(found)
        return [(place.start, m) for place, m in zip(self.places, found, strict=True) if m is not None]

    def _mention(self, index: int) -> Mention:
        place = self.places[index]
        before, after = self._words(index)
        deciding = self._deciding(place)
        if deciding and deciding.status == ABSENT and deciding.reach == cues.BEFORE:
            # What stands before a negation is of something else.
            before = (max(before[0], min(deciding.start, place.start)), before[1])
        status = deciding.status if deciding else PRESENT
        if status == PRESENT and self._is_alternative(index):
            status = UNCERTAIN
        change = (deciding.change if deciding else None) or self._change(place, before, after)
        mention = Mention(place.finding, status, change=change)
        if place.finding not in terms.SIDELESS:
            mention = replace(mention, side=self._side(index, before, after, status == ABSENT))
        if place.finding not in terms.SIZELESS:
            mention = replace(mention, size=self._size(place, before, after))
        return mention

    def _words(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where the words before and after a finding stand that are its own."""
        place = self.places[index]
        start = max((other.end for other in self.places[:index]), default=0)
        start = min(start, place.start)
        region = self.text[start : place.start]
        connectors = list(re.finditer(cues.CONNECTOR, region))
        if index == 0:
            # "left apical and right basilar" is one description.
            connectors = [c for c in connectors if not (_side_in(region[: c.start()]) and _SIDE.match(region, c.end()))]
        before = start + connectors[-1].end() if connectors else start
        follows = self.places[index + 1 :]
        stop = max(place.end, follows[0].start) if follows else len(self.text)
        ending = re.search(cues.CONNECTOR if follows else cues.LAST_END, self.text[place.end : stop])
        if ending:
            stop = place.end + ending.start()
        elif follows and not re.match(r" (?:is|are|in|on|at|of|within|has|have)\b", self.text[place.end : stop]):
            stop = place.end
        return (before, place.start), (place.end, stop)

    def _deciding(self, place: Place) -> _Cue | None:
        """The cue that decides the status: a negation before a doubt."""
        reaching = [cue for cue in self.cues if cue.status and self._reaches(cue, place)]
        return min(reaching, key=lambda cue: (cue.status != ABSENT, cue.change is None), default=None)

    def _reaches(self, cue: _Cue, place: Place) -> bool:
        if cue.reach == cues.BEFORE:
            if cue.end > place.end:
                return False
            end = cues.NEGATION_END if cue.status == ABSENT else cues.DOUBT_END
            stop = re.compile(end).search(self.text, cue.end)
            return stop is None or stop.start() >= place.start
        if cue.start < place.end:
            return False
        between = self.text[place.end : cue.start]
        return not _VERB.search(between) and ("," not in between or _LIST.search(between) is not None)

    def _is_alternative(self, index: int) -> bool:
        place = self.places[index]
        before, after = self.text[: place.start], self.text[place.end :]
        if re.match(rf"\s*{cues.CONTRAST}\b", after) or re.search(rf"\b{cues.CONTRAST}\s+(?:\w+\s+)?$", before):
            return True
        if any(cue.change == "unchanged" and _NOT.match(before, cue.start) for cue in self.cues):
            return False  # "no change in effusion or atelectasis" doubts neither
        return any(
            re.fullmatch(cues.ALTERNATIVE, self.text[one.end : other.start]) is not None
            for one, other in pairwise(self.places[max(index - 1, 0) : index + 2])
            if one.finding or other.finding
        )

    def _change(self, place: Place, before: tuple[int, int], after: tuple[int, int]) -> str | None:
        """The change that is said nearest before the finding, else nearest after it."""
        said = [cue for cue in self.cues if cue.change]
        earlier = [cue.change for cue in said if before[0] <= cue.start and cue.end <= before[1]]
        described = re.search(cues.DESCRIBED, self.text[before[0] : place.end])
        if described and earlier and (len(earlier) > 1 or not re.search(cues.COMPARES, self.text)):
            earlier = earlier[:-1]
        later = [cue.change for cue in said if after[0] <= cue.start and cue.end <= after[1]]
        if place == self.places[-1]:
            # "A consolidation with air bronchograms, smaller than before."
            later += [cue.change for cue in said if cue.start > place.end and self._stands_apart(cue)]
        # Within the words of a heart, between its name and "enlarged".
        inside = [cue.change for cue in said if place.start <= cue.start and cue.end <= place.end]
        inside = [change for change in inside if change == "unchanged"]
        return next(iter([*earlier[::-1], *inside, *later]), None)

    def _stands_apart(self, cue: _Cue) -> bool:
        """Whether a change stands between commas or at the end, so that it is not of a noun that follows it."""
        return self.text[: cue.start].endswith(", ") and _APART.match(self.text, cue.end) is not None

    def _side(self, index: int, before: tuple[int, int], after: tuple[int, int], negated: bool) -> str | None:
        own, later = self.text[before[0] : self.places[index].end], self.text[slice(*after)]
        if side := _side_in(f"{own} {later}" if " than " in later else own) or _side_in(later):
            return side
        # "In the right lung base, there is ...": the first finding of a clause has all the words before it.
        return _side_in(self.text[: before[1]]) if index == 0 and not negated else None

    def _size(self, place: Place, before: tuple[int, int], after: tuple[int, int]) -> str | None:
        own = re.sub(r"\blarge\b", "", self.text[place.start : place.end])
        return _first(_SIZES, f"{self.text[slice(*before)]} {own}") or _first(_SIZES, self.text[slice(*after)])

    def _share(self, found: list[Mention | None]) -> None:
        """Words that stand once for a list: side and size before it, side and change after it."""
        for index in range(1, len(found)):
            one, other = found[index - 1], found[index]
            if one and other and other.status != ABSENT and (between := self._list_word(index)):
                found[index] = _with_words_of(other, one, re.fullmatch(cues.ALTERNATIVE, between) is not None)
        for index in range(len(found) - 1, 0, -1):
            one, other = found[index - 1], found[index]
            if one and other and self._list_word(index):
                side = None if one.finding in terms.SIDELESS else one.side or other.side
                found[index - 1] = replace(one, side=side, change=one.change or other.change)

    def _list_word(self, index: int) -> str:
        """What stands between a finding and the one before it, where it is no more than the word of a list."""
        between = self.text[self.places[index - 1].end : self.places[index].start]
        return between if re.fullmatch(cues.BARE_CONNECTOR, between) else ""


def _cues(text: str) -> Iterator[_Cue]:
    """The cues of a clause; what one pattern has matched is blank to the next ones."""
    for status, reach, change, pattern in _CUES:
        for match in pattern.finditer(text):
            yield _Cue(*match.span(), status, reach, change)
        text = pattern.sub(lambda match: "~" * len(match[0]), text)


def _with_words_of(mention: Mention, earlier: Mention, alternative: bool) -> Mention:
    """A finding with the side that stands before its list; of alternatives with the size and change too."""
    if mention.finding not in terms.SIDELESS:
        mention = replace(mention, side=mention.side or earlier.side)
    if alternative:
        size = None if mention.finding in terms.SIZELESS else mention.size or earlier.size
        mention = replace(mention, size=size, change=mention.change or earlier.change)
    return mention


def _side_in(text: str) -> str | None:
    sides = [side for side, pattern in _SIDES.items() if pattern.search(text)]
    return "both" if len(sides) > 1 else next(iter(sides), None)


def _first(patterns: dict[str, re.Pattern[str]], text: str) -> str | None:
    return next((name for name, pattern in patterns.items() if pattern.search(text)), None)
