"""Findings in a report, by rules: present, absent or uncertain; side, size and change.

`finding_terms` and `finding_cues` hold the vocabulary and every phrase. The rules, sentence by sentence:

- Negations and doubts before a finding extend to the end of their clause ("but", "however", "except", a semicolon,
  "and the", ...), and thus over lists: "no pneumothorax, effusion or edema". A doubt also ends at a comma, unless
  alternatives follow. Cues after a finding ("is not seen", "cannot be excluded") extend back over a list.
- A negation takes precedence over a doubt. "Versus" and "or" between findings that are not negated make both uncertain.
  "Consistent with" states a finding, "likely" and "may" do not. "Upper limits of normal" is normal, "borderline" is
  uncertain.
- A phrase of normality states that certain findings are absent (`NORMALITY`): "the lungs are clear" those of the lung,
  "no acute cardiopulmonary abnormality" consolidation, edema, effusion and pneumothorax.
- Side, size and change come from the words between a finding and its neighbours; a list shares them ("left atelectasis
  versus infiltrate"). The larger of two sizes counts. An absence with a size or with "new" is partial: "no large
  effusion" leaves a small one possible.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from medloom.report_text import finding_cues as cues
from medloom.report_text import finding_terms as terms
from medloom.report_text.sections import sentences_of

PRESENT, UNCERTAIN, ABSENT = "present", "uncertain", "absent"
_VOCABULARY = {name: re.compile(rf"\b(?:{pattern})") for name, pattern in terms.VOCABULARY.items()}
_NORMALITY = {re.compile(pattern): names for pattern, names in terms.NORMALITY.items()}
_GENERAL = {re.compile(pattern): names for pattern, names in terms.GENERAL_NORMALITY.items()}
_CUES = [(status, reach, change, re.compile(pattern)) for status, reach, change, pattern in cues.CUES]
_SIDES = {side: re.compile(pattern) for side, pattern in cues.SIDES.items()}
_SIZES = {size: re.compile(pattern) for size, pattern in cues.SIZES.items()}
_NOT = re.compile(r"(?:no|not|without)\b")
_SIDE = re.compile(r"(?:left|right)\b")
# "In the right lung base, there is ..." is one clause.
_LOCATION_FIRST = re.compile(r"(?:in|at|on|within|over|along) [^,;]*$")
_APART = re.compile(r"\s*(?:[.,]|$|(?:since|from|compared|than|in (?:size|extent|appearance|the interval))\b)")
_NOW = re.compile(r"\bnow\b|\bfrom (?:\w+ ){1,3}to\b")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have)\b")
_LIST = re.compile(r"\b(?:and|or)\b")
RANK = {PRESENT: 0, UNCERTAIN: 1, ABSENT: 2}
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Mention:
    """A finding as stated by one sentence.

    Attributes:
        finding: of the vocabulary.
        status: present, absent or uncertain.
        side: left, right, both, or None if not stated.
        size: small, moderate, large, or None.
        change: new, increased, decreased, resolved, unchanged, or None.
        normality: whether the absence comes from a phrase of normality, which does not name the finding.
    """

    finding: str
    status: str
    side: str | None = None
    size: str | None = None
    change: str | None = None
    normality: bool = False


@dataclass(frozen=True)
class Span:
    """The characters of a text that name a finding.

    Attributes:
        start: the first character.
        end: the character after the last one.
        finding: empty for a phrase of normality, and for terms that are not findings.
    """

    start: int
    end: int
    finding: str


def _named_spans(text: str) -> Iterator[Span]:
    """Findings named in lower-case text; the first of two that overlap, the longer of two with the same start."""
    matches = [Span(*m.span(), name) for name, pattern in _VOCABULARY.items() for m in pattern.finditer(text)]
    reached = 0
    for span in sorted(matches, key=lambda span: (span.start, -span.end)):
        if span.start >= reached:
            reached = span.end
            yield span


def _normal_spans(text: str) -> Iterator[tuple[Span, Mention]]:
    """Phrases of normality in lower-case text, and the absences that they state."""
    spans: list[tuple[int, int]] = []
    for pattern, names in [*_NORMALITY.items(), *_GENERAL.items()]:
        for match in pattern.finditer(text):
            if pattern in _GENERAL and any(start <= match.start() < end for start, end in spans):
                continue
            spans.append(match.span())
            side = match.groupdict().get("side")
            yield from ((Span(*match.span(), ""), Mention(name, ABSENT, side, normality=True)) for name in names)
    if re.search(terms.RESOLVED_IN_GENERAL, text) and not any(span.finding for span in _named_spans(text)):
        for name in terms.CLEARING_FINDINGS:
            yield Span(0, len(text), ""), Mention(name, ABSENT, change="resolved", normality=True)


def findings_of(text: str) -> tuple[Mention, ...]:
    """The mentions of findings in a text, in its order."""
    mentions: list[Mention] = []
    for sentence in map(str.casefold, sentences_of(text)):
        normal = list(_normal_spans(sentence))
        spans = sorted([*_named_spans(sentence), *(span for span, _ in normal)], key=lambda s: (s.start, s.end))
        found = [(span.start, mention) for span, mention in normal]
        ends = (match.start() for match in re.finditer(cues.CLAUSE_END, sentence))
        cuts = [0, *(end for end in ends if not _LOCATION_FIRST.match(sentence[:end])), len(sentence)]
        for start, end in pairwise(cuts):
            inside = [span for span in spans if start <= span.start < end]
            moved = [replace(span, start=span.start - start, end=span.end - start) for span in inside]
            found += [(start + at, mention) for at, mention in _Clause(sentence[start:end], moved).mentions()]
        mentions += [mention for _, mention in sorted(found, key=lambda entry: entry[0])]
    return tuple(mentions)


def summary_of(text: str) -> dict[Key, Mention]:
    """One mention per finding and side, by the rules of `merged`."""
    return merged(findings_of(text))


def merged(mentions: Iterable[Mention]) -> dict[Key, Mention]:
    """Merge mentions.

    "Both" counts as left and right. Present takes precedence over uncertain, uncertain over absent. Size and change are
    the first that a mention of the resulting status states; a plain absence takes precedence over a partial one. A
    mention without a side is merged into sides with the same status; an absence without a side gives way to a side that
    is present or uncertain.

    Returns:
        (finding, side) to its mention; the side is left, right or None.
    """
    by_key: dict[Key, list[Mention]] = {}
    for mention in mentions:
        for side in ("left", "right") if mention.side == "both" else (mention.side,):
            by_key.setdefault((mention.finding, side), []).append(replace(mention, side=side))
    summary = {key: _one(same) for key, same in by_key.items()}
    result = dict(summary)
    for (finding, side), general in summary.items():
        sided = [key for key in summary if key[0] == finding and key[1] is not None]
        if side is not None or not sided:
            continue
        alike = [key for key in sided if summary[key].status == general.status]
        for key in alike:
            result[key] = replace(_one([summary[key], replace(general, side=key[1])]), side=key[1])
        if alike or (general.status == ABSENT and any(summary[key].status != ABSENT for key in sided)):
            del result[finding, side]
    return result


def _one(mentions: list[Mention]) -> Mention:
    status = min((mention.status for mention in mentions), key=RANK.__getitem__)
    same = [mention for mention in mentions if mention.status == status]
    if status == ABSENT:
        # First a plain absence, then one with its change, then a partial one, and last a phrase of normality.
        return min(same, key=lambda mention: (mention.normality, is_partial(mention), mention.change is None))
    size, change = (next((given for m in same if (given := getattr(m, what))), None) for what in ("size", "change"))
    return replace(same[0], size=size, change=change)


def is_partial(mention: Mention) -> bool:
    """Whether an absence is partial: "no large effusion", "no new consolidation"."""
    return mention.status == ABSENT and (mention.size is not None or mention.change not in (None, "resolved"))


@dataclass(frozen=True)
class _Cue:
    """Words that state something about the findings before or after them."""

    start: int
    end: int
    status: str
    reach: str
    change: str | None


class _Clause:
    """A clause with its findings and cues."""

    def __init__(self, text: str, spans: Sequence[Span]) -> None:
        self.text, self.spans = text, spans
        self.cues: list[_Cue] = []
        # Text that one pattern has matched is blank to the next ones.
        for status, reach, change, pattern in _CUES:
            self.cues += [_Cue(*match.span(), status, reach, change) for match in pattern.finditer(text)]
            text = pattern.sub(lambda match: "~" * len(match[0]), text)

    def mentions(self) -> list[tuple[int, Mention]]:
        """The start of each mention, and the mention."""
        found = [self._mention(index) if span.finding else None for index, span in enumerate(self.spans)]
        # The common words of a list apply to its findings: side and size before it, side and change after it.
        for index in range(1, len(found)):
            one, other = found[index - 1], found[index]
            if one and other and other.status != ABSENT and (between := self._list_word(index)):
                if other.finding not in terms.SIDELESS:
                    other = replace(other, side=other.side or one.side)
                if re.fullmatch(cues.ALTERNATIVE, between):
                    size = None if other.finding in terms.SIZELESS else other.size or one.size
                    other = replace(other, size=size, change=other.change or one.change)
                found[index] = other
        for index in range(len(found) - 1, 0, -1):
            one, other = found[index - 1], found[index]
            if one and other and self._list_word(index):
                side = None if one.finding in terms.SIDELESS else one.side or other.side
                found[index - 1] = replace(one, side=side, change=one.change or other.change)
        return [(span.start, m) for span, m in zip(self.spans, found, strict=True) if m is not None]

    def _mention(self, index: int) -> Mention:
        span = self.spans[index]
        before, after = self._words(index)
        # A negation takes precedence over a doubt.
        reaching = [cue for cue in self.cues if cue.status and self._reaches(cue, span)]
        deciding = min(reaching, key=lambda cue: (cue.status != ABSENT, cue.change is None), default=None)
        if deciding and deciding.status == ABSENT and deciding.reach == cues.BEFORE:
            # Words before a negation describe something else.
            before = (max(before[0], min(deciding.start, span.start)), before[1])
        status = deciding.status if deciding else PRESENT
        if status == PRESENT and self._is_alternative(index):
            status = UNCERTAIN
        change = (deciding.change if deciding else None) or self._change(span, before, after)
        side = size = None
        if span.finding not in terms.SIDELESS:
            own, later = self.text[before[0] : span.end], self.text[slice(*after)]
            side = _side_in(f"{own} {later}" if " than " in later else own) or _side_in(later)
            if side is None and index == 0 and status != ABSENT:
                # "In the right lung base, there is ...": all words before it belong to the first finding of a clause.
                side = _side_in(self.text[: before[1]])
        if span.finding not in terms.SIZELESS:
            name = re.sub(r"\blarge\b", "", self.text[span.start : span.end])
            own, later = f"{self.text[slice(*before)]} {name}", self.text[slice(*after)]
            # "Previously small, now large", "from large to moderate": what it is now stands last.
            now = _NOW.search(later)
            described = (later[now.end() :], own, later) if now else (own, later)
            sizes = (size for words in described for size, pattern in _SIZES.items() if pattern.search(words))
            size = next(sizes, None)
        return Mention(span.finding, status, side, size, change)

    def _words(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The ranges of characters before and after a finding that belong to it."""
        span = self.spans[index]
        start = min(max((other.end for other in self.spans[:index]), default=0), span.start)
        region = self.text[start : span.start]
        connectors = list(re.finditer(cues.CONNECTOR, region))
        if index == 0:
            # "left apical and right basilar" is one description.
            connectors = [c for c in connectors if not (_side_in(region[: c.start()]) and _SIDE.match(region, c.end()))]
        before = start + connectors[-1].end() if connectors else start
        follows = self.spans[index + 1 :]
        stop = max(span.end, follows[0].start) if follows else len(self.text)
        ending = re.search(cues.CONNECTOR if follows else cues.LAST_END, self.text[span.end : stop])
        if ending:
            stop = span.end + ending.start()
        elif follows and not re.match(r" (?:is|are|in|on|at|of|within|has|have)\b", self.text[span.end : stop]):
            stop = span.end
        return (before, span.start), (span.end, stop)

    def _reaches(self, cue: _Cue, span: Span) -> bool:
        """Whether a finding is within the scope of a cue."""
        if cue.reach == cues.BEFORE:
            stop = re.compile(cues.NEGATION_END if cue.status == ABSENT else cues.DOUBT_END).search(self.text, cue.end)
            return cue.end <= span.end and (stop is None or stop.start() >= span.start)
        between = self.text[span.end : cue.start]
        in_list = "," not in between or _LIST.search(between) is not None
        return cue.start >= span.end and not _VERB.search(between) and in_list

    def _is_alternative(self, index: int) -> bool:
        span = self.spans[index]
        before, after = self.text[: span.start], self.text[span.end :]
        if re.match(rf"\s*{cues.CONTRAST}\b", after) or re.search(rf"\b{cues.CONTRAST}\s+(?:\w+\s+)?$", before):
            return True
        if any(cue.change == "unchanged" and _NOT.match(before, cue.start) for cue in self.cues):
            return False  # "no change in effusion or atelectasis" doubts neither finding
        return any(
            re.fullmatch(cues.ALTERNATIVE, self.text[one.end : other.start]) is not None
            for one, other in pairwise(self.spans[max(index - 1, 0) : index + 2])
            if one.finding or other.finding
        )

    def _change(self, span: Span, before: tuple[int, int], after: tuple[int, int]) -> str | None:
        """The change stated nearest before the finding, or else nearest after it."""
        changes = [cue for cue in self.cues if cue.change]
        earlier = [cue.change for cue in changes if before[0] <= cue.start and cue.end <= before[1]]
        described = re.search(cues.DESCRIBED, self.text[before[0] : span.end])
        if described and earlier and (len(earlier) > 1 or not re.search(cues.COMPARES, self.text)):
            earlier = earlier[:-1]
        later = [cue.change for cue in changes if after[0] <= cue.start and cue.end <= after[1]]
        if span == self.spans[-1]:
            # "A consolidation with air bronchograms, smaller than before": between commas or at the end, a change does
            # not describe a noun that follows it.
            apart = (
                cue for cue in changes if self.text[: cue.start].endswith(", ") and _APART.match(self.text, cue.end)
            )
            later += [cue.change for cue in apart if cue.start > span.end]
        # Within the words for the heart, between its name and "enlarged".
        within = [cue for cue in changes if span.start <= cue.start and cue.end <= span.end]
        inside = [cue.change for cue in within if cue.change == "unchanged"]
        return next(iter([*earlier[::-1], *inside, *later]), None)

    def _list_word(self, index: int) -> str:
        """The text between a finding and the one before it, if it is only a connector of a list."""
        between = self.text[self.spans[index - 1].end : self.spans[index].start]
        return between if re.fullmatch(cues.BARE_CONNECTOR, between) else ""


def _side_in(text: str) -> str | None:
    sides = [side for side, pattern in _SIDES.items() if pattern.search(text)]
    return "both" if len(sides) > 1 else next(iter(sides), None)
